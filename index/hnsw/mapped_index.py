"""Search a memory-mapped hnswlib file in place: open is a map, not a load, and every process shares its pages."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.backend import DEFAULT_EF, Capability, Counts, Neighbours, as_queries, check_widths
from index.errors import DamagedIndex, UnsupportedOperation
from index.hnsw.codes import OFF, Codes, open_codes
from index.hnsw.file import HnswFile, open_hnsw_file, upper_offsets
from index.hnsw.kernel.loader import kernel, kernel_is_there
from index.hnsw.kernel.types import (
    AT_ONCE,
    DAMAGED,
    INNER_PRODUCT,
    MEMBER,
    OVER_BUDGET,
    PLANES,
    SPENT,
    SQUARED_L2,
    Graph,
    Rotation,
    Scratch,
    Vectors,
    handle_of,
)
from index.hnsw.numpy_search import search_with_numpy
from index.hnsw.planner import UNBOUNDED, plan
from index.metrics import METRICS, Metric
from index.row_mask import Allowed

NO_FILTER = np.empty(0, np.uint8)
NO_TERMS, NO_SIGNS = np.empty((0, 2), np.float32), np.empty((0, 0), np.uint64)
NO_ROTATION = Rotation(np.empty(0, np.float32), np.empty((0, 0), np.uint32), np.empty((0, 0), np.float32))
BLOCK = 32  # queries that a thread takes at a time
PROBES = 16  # walks that tell the planner what a walk takes here


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """Threads that live as long as the process: each keeps what its queries reuse."""
    return ThreadPoolExecutor(thread_name_prefix="search")


class _Found(NamedTuple):
    """A batch's answers as the kernel fills them: [n, k], [n, k] and [n]."""

    labels: NDArray[np.int64]
    distances: NDArray[np.float32]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, count: int, k: int) -> _Found:
        return cls(np.empty((count, k), np.int64), np.empty((count, k), np.float32), np.zeros(count, np.int64))

    def each(self) -> list[Neighbours]:
        """Return each query's answer."""
        sizes = self.sizes.tolist()
        if min(sizes, default=0) == self.labels.shape[1]:
            return list(map(Neighbours, self.labels, self.distances))
        rows = zip(self.labels, self.distances, sizes, strict=True)
        return [Neighbours(labels[:size], distances[:size]) for labels, distances, size in rows]

    def part(self, which: slice | NDArray[np.intp]) -> _Found:
        """Return some queries' answers: a view for a slice, a copy for places."""
        return _Found(self.labels[which], self.distances[which], self.sizes[which])


class MappedIndex:
    """A mapped hnswlib file that answers queries; safe to use from many threads at once.

    With ``codes`` it walks the graph by them, several times as fast, and compares the best candidates by their vectors;
    without, its answers are hnswlib's own.
    """

    capabilities: frozenset[Capability] = frozenset({"filter"})

    def __init__(self, file: HnswFile, metric: Metric, codes: Codes | None = None) -> None:
        self.file = file
        self.metric: Metric = metric
        self.codes = codes
        layout = file.layout
        space = SQUARED_L2 if METRICS[metric].euclidean else INNER_PRODUCT
        at, unit = layout.vector_word, METRICS[metric].normalized
        self._vectors = Vectors(file.vectors, file.links, at, layout.label_word, layout.dim, space, unit)
        links, upper_at, rows, signs, terms, terms_at, start, end = (
            (codes.links, codes.upper_at, codes.rows, codes.signs, codes.terms, codes.terms_at, 0, codes.rows.shape[1])
            if codes
            else (file.links, upper_offsets(file), file.vectors, NO_SIGNS, NO_TERMS, 0, at, at + layout.dim)
        )
        top = (layout.max_links, layout.max_links0, layout.max_level, layout.entry_point)
        # Members of groups stand after all others.
        groups = layout.count > 0 and bool(links[-1, 0] & MEMBER)
        self._graph = Graph(
            *(links, file.upper, upper_at, rows, signs, terms, terms_at, start, end),
            *(*top, codes is None or codes.deletions, groups),
        )
        self._handle = handle_of(self._graph, codes.rotation if codes else NO_ROTATION, self._vectors)
        self._threads = threading.local()
        self._usual = functools.lru_cache(64)(self._measure)

    def __len__(self) -> int:
        """Return the number of elements in the file, deleted ones included."""
        return self.file.layout.count

    @property
    def dim(self) -> int:
        """The length of its vectors."""
        return self.file.layout.dim

    def counts(self) -> Counts:
        """Count its rows; looks at each of them where there may be deleted ones."""
        return Counts(len(self), len(self) if self.codes and not self.codes.deletions else len(self._live))

    def labels(self) -> NDArray[np.int64]:
        """Return all labels by row, int64 [rows]; touches every record, so not for the path of a query."""
        return self.file.labels()

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        ef: int = DEFAULT_EF,
        *,
        allowed: Allowed | None = None,
        threads: int = 1,
    ) -> list[Neighbours]:
        """Find up to ``k`` neighbours of each query, float32 [n, dim]; a larger ``ef`` finds truer ones, more slowly.

        With codes an ``ef`` below ``k`` expands that many rows and fills up with those that they led to; without, it counts
        as ``k``. With ``allowed``, only rows that it allows are found, and never fewer than there are. A large batch is
        spread over ``threads``. Raises DimensionMismatch for queries of another shape, ValueError for a k or ef below 1, and
        DamagedIndex when the file turns out to hold links that lead nowhere.
        """
        check_widths(k, ef)
        rows = as_queries(queries, self.file.layout.dim)
        if self.codes is not None and not kernel_is_there():
            return [Neighbours(*found) for found in search_with_numpy(self._vectors, self._graph, rows, k, ef, allowed)]
        k = min(k, max(1, len(self) if allowed is None else len(allowed)))
        found = _Found.of(len(rows), k)
        if len(rows) and len(self) and (allowed is None or len(allowed)):
            ef = min(ef if self.codes else max(ef, k), len(self))
            budget = UNBOUNDED if allowed is None else self._budget(allowed, ef)
            if threads == 1 or len(rows) <= BLOCK:
                self._answer(rows, k, ef, allowed, budget, found)
            else:
                self._spread(
                    lambda part: self._answer(rows[part], k, ef, allowed, budget, found.part(part)), len(rows), threads
                )
        return found.each()

    def vector(self, row: int) -> NDArray[np.float32]:
        """Return a copy of the vector in ``row``, float32 [dim]; of unit length where the metric is cosine."""
        at = self.file.layout.vector_word
        return self.file.vectors[row, at : at + self.file.layout.dim].copy()

    def vectors(self) -> NDArray[np.float32]:
        """Return all vectors as a view of the map, float32 [count, dim]."""
        return self.file.row_vectors()

    def add(self, labels: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Refuse: the file never changes once written. Raises UnsupportedOperation."""
        raise UnsupportedOperation("a mapped hnswlib index cannot be added to; build its file again")

    def remove(self, labels: NDArray[np.int64]) -> int:
        """Refuse: the file never changes once written. Raises UnsupportedOperation."""
        raise UnsupportedOperation("nothing can be removed from a mapped hnswlib index; build its file again")

    def _spread(self, work: Callable[[slice], None], count: int, threads: int) -> None:
        blocks = iter([slice(at, at + BLOCK) for at in range(0, count, BLOCK)])

        def take_turns() -> None:
            for block in blocks:  # the threads share one iterator, and who is free takes the next
                work(block)

        helpers = [_pool().submit(take_turns) for _ in range(threads - 1)]
        take_turns()
        for helper in helpers:
            helper.result()

    def _budget(self, allowed: Allowed, ef: int) -> int:
        return plan(len(allowed), len(self), self._usual(ef), self._vectors.dim, codes=self.codes is not None)

    def _measure(self, ef: int) -> float:
        """Return how many distances an unfiltered walk takes: the mean over some of the index's own vectors."""
        rows = np.linspace(0, len(self) - 1, PROBES).astype(np.int64)
        spent = []
        for query in self.vectors()[rows]:
            self._walk(query[None], 1, ef, NO_FILTER, UNBOUNDED, _Found.of(1, 1))
            spent.append(self._scratch(ef).state[SPENT])
        return float(np.mean(spent))

    def _answer(
        self,
        queries: NDArray[np.float32],
        k: int,
        ef: int,
        allowed: Allowed | None,
        budget: int,
        found: _Found,
    ) -> None:
        if budget:
            self._walk(queries, k, ef, NO_FILTER if allowed is None else allowed.bits, budget, found)
        else:
            found.sizes.fill(OVER_BUDGET)
        if min(found.sizes.tolist()) < k:  # a few of them faster than by numpy, and no slower where there are many
            self._complete(queries, k, allowed, found)

    def _walk(
        self, queries: NDArray[np.float32], k: int, ef: int, bits: NDArray[np.uint8], budget: int, found: _Found
    ) -> None:
        self._scratch(max(k, ef))
        search = kernel().search_codes if self.codes else kernel().search_vectors
        search(queries, k, ef, self._handle, bits, budget, self._threads.handle, *found)

    def _complete(self, queries: NDArray[np.float32], k: int, allowed: Allowed | None, found: _Found) -> None:
        """Compare the rows themselves where the graph is not worth its cost, or does not lead to all that is there."""
        rows = self._live if allowed is None else allowed.rows()
        if allowed is not None and self.codes and self.codes.deletions:
            rows = np.intersect1d(rows, self._live, assume_unique=True)
        short = np.flatnonzero((found.sizes < min(k, len(rows))) & (found.sizes != DAMAGED))
        some = found.part(short)
        scratch = self._scratch(k)
        if self.codes:
            codes = self.codes
            scanned = codes.rows, codes.terms, codes.terms_at, codes.rotation, self._vectors, scratch
            kernel().scan_codes(queries[short], k, OFF, rows, *scanned, *some)
        else:
            alone = self._graph._replace(groups=False)  # each row is compared, so none stands for others
            kernel().scan_rows(queries[short], k, rows, alone, self._vectors, NO_FILTER, scratch, *some)
        found.labels[short], found.distances[short], found.sizes[short] = some
        if (found.sizes == DAMAGED).any():
            raise DamagedIndex("the index file holds a link to an element that is not there; restore or rebuild it")

    @functools.cached_property
    def _live(self) -> NDArray[np.int64]:
        """The rows that are not deleted; asked for only when a walk found fewer than there might be."""
        return np.flatnonzero((self.file.links[:, 0] >> 16) & 1 == 0)

    def _scratch(self, ef: int) -> Scratch:
        scratch: Scratch | None = getattr(self._threads, "scratch", None)
        if scratch is None or len(scratch.found) <= ef:
            count, dim = len(self), self._vectors.dim
            room = max(4 * ef, 512, AT_ONCE * self.file.layout.max_links0)
            size, words = (self.codes.rows.shape[1], self.codes.signs.shape[1]) if self.codes else (0, 0)
            scratch = Scratch(
                visited=np.zeros(count, np.uint16),
                near=np.empty(count, np.float32),
                near_ids=np.empty(max(count, room), np.int64),
                leaders=np.empty(room, np.int64),
                exact=np.empty(room, np.float64),
                found=np.empty(room, np.float32),
                found_ids=np.empty(room, np.int64),
                fresh=np.empty(room, np.int64),
                taken=np.empty(AT_ONCE, np.int64),
                best=np.empty(room, np.int64),
                narrow=np.empty(room, np.int64),
                close=np.empty(room, np.int64),
                query=_aligned(dim, np.float32),
                rotated=_aligned(size, np.float32),
                other=_aligned(size, np.float32),
                query_codes=_aligned(size, np.int8),
                planes=_aligned(PLANES * words, np.uint64),
                factors=np.zeros(4, np.float32),
                state=np.zeros(8, np.int64),
            )
            self._threads.scratch, self._threads.handle = scratch, handle_of(scratch)
        return scratch


def _aligned(count: int, kind: type) -> NDArray[Any]:
    """Return an array that begins with a cache line: loads across two of them make a comparison a fifth slower."""
    size = count * np.dtype(kind).itemsize
    room = np.zeros(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size].view(kind)


def open_index(path: Path, dim: int, metric: Metric, codes: Path | None = None) -> MappedIndex:
    """Map the hnswlib file at ``path``, made for ``dim``-d vectors under ``metric`` (the file names neither).

    ``codes`` is its companion, if it has one. Raises DamagedIndex, DimensionMismatch, or OSError when a file cannot be
    read.
    """
    file = open_hnsw_file(path, dim)
    return MappedIndex(file, metric, open_codes(codes, file, metric) if codes else None)
