"""Search a memory-mapped hnswlib file in place: open is a map, not a load, and every process shares its pages."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.errors import DamagedIndex, DimensionMismatch
from index.hnsw_file import HnswFile, open_hnsw_file
from index.kernel import DAMAGED, INNER_PRODUCT, SQUARED_L2, nearest_first, search_graph

Metric = Literal["cosine", "ip", "l2"]
DEFAULT_EF = 128


class Neighbours(NamedTuple):
    """What one query found, nearest first.

    ``labels``: int64 [n]; ``distances``: float32 [n], 1 - cosine similarity for ``cosine``, 1 - inner product for
    ``ip``, the squared Euclidean distance for ``l2``; n is at most the k that was asked for.
    """

    labels: NDArray[np.int64]
    distances: NDArray[np.float32]


def as_queries(queries: NDArray[np.float32], dim: int, metric: Metric) -> NDArray[np.float32]:
    """Check that ``queries`` is float32 [n, dim] and scale each to unit length where the metric is cosine.

    Raises DimensionMismatch for any other shape.
    """
    rows = np.ascontiguousarray(queries, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise DimensionMismatch(f"queries of shape {rows.shape} were given to an index of {dim}-d vectors")
    if metric == "cosine":
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-30))
    return rows


@dataclass(slots=True)
class _Scratch:
    """The arrays that a thread's queries reuse; a new tag for each query saves clearing ``visited``."""

    visited: NDArray[np.uint16]
    near: NDArray[np.float32]
    near_ids: NDArray[np.int64]
    found: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    found_ids: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    tag: int = 0

    def next_tag(self) -> np.uint16:
        self.tag += 1
        if self.tag > np.iinfo(np.uint16).max:
            self.visited.fill(0)
            self.tag = 1
        return np.uint16(self.tag)


class MappedIndex:
    """A mapped hnswlib file that answers queries; safe to use from many threads at once."""

    def __init__(self, file: HnswFile, metric: Metric) -> None:
        self.file = file
        self.metric: Metric = metric
        layout = file.layout
        self._dims = (
            layout.count,
            layout.record_words,
            layout.vector_word,
            layout.label_word,
            layout.max_links,
            layout.max_links0,
            layout.max_level,
            layout.entry_point,
        )
        self._threads = threading.local()

    def __len__(self) -> int:
        """The number of elements in the file, deleted ones included."""
        return self.file.layout.count

    def search(self, queries: NDArray[np.float32], k: int, ef: int = DEFAULT_EF) -> list[Neighbours]:
        """Find up to ``k`` neighbours of each query, float32 [n, dim]; a larger ``ef`` finds truer ones, more slowly.

        Raises DimensionMismatch for queries of another shape, ValueError for a k or ef below 1, and DamagedIndex when
        the file turns out to hold links that lead nowhere.
        """
        if k < 1 or ef < 1:
            raise ValueError(f"k and ef are at least 1, not {k} and {ef}")
        rows = as_queries(queries, self.file.layout.dim, self.metric)
        return [self._search_one(row, k, max(ef, k)) for row in rows]

    def vector(self, row: int) -> NDArray[np.float32]:
        """A copy of the vector in ``row``, float32 [dim]; of unit length where the metric is cosine."""
        at = self.file.layout.vector_word
        return self.file.vectors[row, at : at + self.file.layout.dim].copy()

    def vectors(self) -> NDArray[np.float32]:
        """All vectors as a view of the map, float32 [count, dim]."""
        at = self.file.layout.vector_word
        return self.file.vectors[:, at : at + self.file.layout.dim]

    def _scratch(self, ef: int) -> _Scratch:
        scratch: _Scratch | None = getattr(self._threads, "scratch", None)
        if scratch is None:
            count = len(self)
            scratch = _Scratch(np.zeros(count, np.uint16), np.empty(count, np.float32), np.empty(count, np.int64))
            self._threads.scratch = scratch
        if scratch.found.shape[0] <= ef:
            scratch.found = np.empty(ef + 1, np.float32)
            scratch.found_ids = np.empty(ef + 1, np.int64)
        return scratch

    def _search_one(self, query: NDArray[np.float32], k: int, ef: int) -> Neighbours:
        file = self.file
        if not len(self):
            return Neighbours(np.empty(0, np.int64), np.empty(0, np.float32))
        ef = min(ef, len(self))
        scratch = self._scratch(ef)
        size = search_graph(
            query,
            file.links,
            file.vectors,
            file.upper,
            file.upper_at,
            file.upper_levels,
            self._dims,
            SQUARED_L2 if self.metric == "l2" else INNER_PRODUCT,
            ef,
            scratch.visited,
            scratch.next_tag(),
            scratch.near,
            scratch.near_ids,
            scratch.found,
            scratch.found_ids,
        )
        if size == DAMAGED:
            raise DamagedIndex("the index file holds a link to an element that is not there; restore or rebuild it")
        return Neighbours(*nearest_first(scratch.found, scratch.found_ids, size, k, file.links, file.layout.label_word))


def open_index(path: Path, dim: int, metric: Metric) -> MappedIndex:
    """Map the hnswlib file at ``path``, made for ``dim``-d vectors under ``metric`` (the file names neither).

    Raises DamagedIndex, DimensionMismatch, or OSError when the file cannot be read.
    """
    return MappedIndex(open_hnsw_file(path, dim), metric)
