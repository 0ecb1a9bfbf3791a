"""The contract of an index: vectors and labels in, neighbours out.

``MappedIndex`` (a memory-mapped hnswlib file) and ``ExactIndex`` (a float32 matrix) fulfil it. What a backend cannot do it
refuses with UnsupportedOperation; ``capabilities`` says so beforehand.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from index.errors import DimensionMismatch
from index.metrics import Metric
from index.row_mask import Allowed

Capability = Literal["filter", "add", "remove"]
DEFAULT_EF = 128


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
    rows = np.asarray(queries)
    if rows.dtype != np.float32 or not rows.flags.carray:  # as the kernel was compiled for
        rows = np.require(rows, np.float32, ["C", "W"])
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise DimensionMismatch(f"queries of shape {rows.shape} were given to an index of {dim}-d vectors")
    return rows


def check_widths(k: int, ef: int) -> None:
    """Raise ValueError unless a search can have this k and ef."""
    if k < 1 or ef < 1:
        raise ValueError(f"k and ef are at least 1, not {k} and {ef}")
