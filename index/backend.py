"""The contract of an index: vectors and labels in, neighbours out; and the metrics, stated once.

``MappedIndex`` (a memory-mapped hnswlib file) and ``ExactIndex`` (a float32 matrix) fulfil it. What a backend cannot do it
refuses with UnsupportedOperation; ``capabilities`` says so beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from index.errors import DimensionMismatch
from index.row_mask import Allowed

Metric = Literal["cosine", "ip", "l2"]
Capability = Literal["filter", "add", "remove"]
DEFAULT_EF = 128


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """What a metric means: for the vectors that are stored, for distances, and for scores.

    ``code`` stands for it in the header of a codes file. ``normalized``: vectors and queries have unit length.
    ``euclidean``: the distance is the squared L2 distance; else 1 - the inner product. ``score`` turns distances, float64
    [n], into scores [n]; a higher score is always closer.
    """

    code: int
    normalized: bool
    euclidean: bool
    score: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    meaning: str


METRICS: dict[Metric, MetricSpec] = {
    "cosine": MetricSpec(
        0, True, False, lambda distances: np.clip(1 - distances, -1, 1), "cosine similarity, from -1 to 1"
    ),
    "ip": MetricSpec(1, False, False, lambda distances: 1 - distances, "inner product of the two embeddings"),
    "l2": MetricSpec(
        2, False, True, lambda distances: -np.sqrt(np.maximum(distances, 0)), "Euclidean distance, negated: 0 at most"
    ),
}
assert METRICS.keys() == set(get_args(Metric))


class Neighbours(NamedTuple):
    """What one query found, nearest first.

    ``labels``: int64 [n]; ``distances``: float32 [n], 1 - cosine similarity for ``cosine``, 1 - inner product for
    ``ip``, the squared Euclidean distance for ``l2``; n is at most the k that was asked for.
    """

    labels: NDArray[np.int64]
    distances: NDArray[np.float32]


class Counts(NamedTuple):
    """The number of rows in an index, and how many of them are not deleted."""

    rows: int
    live: int


class IndexBackend(Protocol):
    """An index of float32 vectors [dim] under int64 labels; safe to search from many threads at once."""

    @property
    def metric(self) -> Metric:
        """The metric that it was built for."""
        ...

    @property
    def dim(self) -> int:
        """The length of its vectors."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do beyond searching."""
        ...

    def counts(self) -> Counts:
        """Count its rows."""
        ...

    def labels(self) -> NDArray[np.int64]:
        """Return all labels by row, int64 [rows]."""
        ...

    def vectors(self) -> NDArray[np.float32]:
        """Return all vectors by row, float32 [rows, dim], as a view where it can."""
        ...

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        ef: int = DEFAULT_EF,
        *,
        allowed: Allowed | None = None,
        threads: int = 1,
    ) -> list[Neighbours]:
        """Find up to ``k`` neighbours of each query, float32 [n, dim], among the rows ``allowed``.

        ``ef`` is how widely an approximate index searches. Raises DimensionMismatch for queries of another shape,
        ValueError for a k or ef below 1.
        """
        ...

    def add(self, labels: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add vectors, float32 [n, dim]; a label that is there already gets the new vector.

        Raises DimensionMismatch, or UnsupportedOperation without the capability ``add``.
        """
        ...

    def remove(self, labels: NDArray[np.int64]) -> int:
        """Remove labels, and return how many were there. Raises UnsupportedOperation without the capability ``remove``."""
        ...


def as_queries(queries: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    """Return queries as contiguous float32 [n, dim]. Raises DimensionMismatch for any other shape."""
    rows = np.require(queries, np.float32, ["C", "W"])  # as the kernel was compiled for
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise DimensionMismatch(f"queries of shape {rows.shape} were given to an index of {dim}-d vectors")
    return rows


def check_widths(k: int, ef: int) -> None:
    """Raise ValueError unless a search can have this k and ef."""
    if k < 1 or ef < 1:
        raise ValueError(f"k and ef are at least 1, not {k} and {ef}")
