"""One state of a catalogue: a generation's index, and what was added, removed and changed since it was made.

A snapshot never changes, so a query that goes by one sees one state throughout. The next one shares all that it can.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from index.backend import DEFAULT_EF, Neighbours
from index.catalogue.base import KEPT_FILTERS, Base, Recent
from index.catalogue.regions import Box, nearest_items
from index.catalogue.unmerged import Unmerged
from index.columns.build import MemoryTable
from index.exact import exact_distances, search_exact
from index.filter_values import as_scalar
from index.filters import Condition, Filter, Joined
from index.hnsw.coded_rows import CodedRows
from index.hnsw.mapped_index import MappedIndex
from index.metrics import METRICS, Metric
from index.row_mask import Allowed, allow_mask

Some = TypeVar("Some", bound=np.generic)
Ids = Sequence[int] | NDArray[np.int64]
THREADS = os.cpu_count() or 1
BOXES_AT_FIRST = 4  # times k, that are looked for so that they are of k items
MORE_BOXES = 2  # times as many are looked for when they were of fewer


@dataclass(frozen=True, slots=True)
class Selection:
    """The items of a snapshot that a filter allows: rows of the index, and which of the unmerged items, bool [n]."""

    snapshot: Snapshot
    allowed: Allowed
    unmerged: NDArray[np.bool_]

    def ids(self) -> list[int]:
        """Return the ids of the items, ascending."""
        base = self.snapshot.base.columns
        merged = base.ids[self.allowed.mask()[base.rows_of_ids]]
        return [*merged.tolist(), *self.snapshot.unmerged.ids[self.unmerged].tolist()]

    def __len__(self) -> int:
        return len(self.allowed) + int(np.count_nonzero(self.unmerged))


class Snapshot:
    """A generation and what is ahead of it; searched from any thread.

    ``removed`` and ``updated`` are of items that the index has: their ids, and the new metadata by id. ``boxes``: those of
    which items have vectors, in shares of their pictures.
    """

    def __init__(
        self,
        base: Base,
        metric: Metric,
        unmerged: Unmerged,
        removed: frozenset[int],
        updated: Mapping[int, dict[str, Any]],
        last_change: int,
        boxes: tuple[Box, ...],
    ) -> None:
        self.base = base
        self.metric: Metric = metric
        self.unmerged = unmerged
        self.removed = removed
        self.updated = updated
        self.last_change = last_change
        self.boxes = boxes
        self.generation = base.generation
        self._removed_rows = _rows(base, removed)
        self.live = self._live_rows() if len(self._removed_rows) else None
        self._recent: Recent[Filter, tuple[Allowed, NDArray[np.bool_]]] = Recent(KEPT_FILTERS)

    def __len__(self) -> int:
        """Return how many items there are."""
        return self.generation.count - len(self._removed_rows) + len(self.unmerged)

    @property
    def last_id(self) -> int:
        """The largest id that it has seen."""
        return int(self.unmerged.ids[-1]) if len(self.unmerged) else self.generation.last_id

    def select(self, condition: Filter) -> Selection:
        """Return the items that a filter allows; those of recent filters are kept."""
        return Selection(self, *self._recent.get(condition, lambda: self._allow(self.base.allow(condition), condition)))

    def select_uncached(self, condition: Filter) -> Selection:
        """Return the items that a filter allows, and keep nothing."""
        return Selection(self, *self._allow(self.base.read_allowed(condition), condition))

    def _allow(self, allowed: Allowed, condition: Filter) -> tuple[Allowed, NDArray[np.bool_]]:
        changed = _rows(self.base, self.updated)
        extra = condition.rows(self.table)
        if len(changed) or len(self._removed_rows):
            mask = allowed.mask()
            mask[changed] = extra[len(self.unmerged) :]
            mask[self._removed_rows] = False
            allowed = allow_mask(mask)
        return allowed, extra[: len(self.unmerged)]

    def search(
        self, vectors: NDArray[np.float32], k: int, ef: int = DEFAULT_EF, selection: Selection | None = None
    ) -> list[Neighbours]:
        """Find up to ``k`` nearest items of each query, float32 [n, dim], of a selection or of all.

        Raises DimensionMismatch for queries of another length, DamagedIndex when the index file is broken.
        """
        allowed = self.live if selection is None else selection.allowed
        chosen = None if selection is None or selection.unmerged.all() else selection.unmerged
        return self._search_both(
            self.base.index, allowed, self.unmerged.ids, self.unmerged.rows, chosen, vectors, k, ef
        )

    def search_regions(
        self, vectors: NDArray[np.float32], k: int, ef: int = DEFAULT_EF, selection: Selection | None = None
    ) -> list[Neighbours]:
        """Find up to ``k`` items, of a selection or of all, that have the boxes nearest to each query, float32 [n, dim].

        The catalogue must have regional vectors. Raises as ``search``.
        """
        regions, unmerged = self.base.regions, self.unmerged
        assert regions is not None
        boxes = regions.boxes
        items = self.live if selection is None else selection.allowed
        allowed = None if items is None else regions.allow(items)
        chosen = None if selection is None or selection.unmerged.all() else np.repeat(selection.unmerged, boxes)
        labels, count, most = unmerged.region_labels, BOXES_AT_FIRST * k, len(self) * boxes
        while True:  # until there are k items among the nearest boxes, which are then the k nearest items
            found = self._search_both(regions.index, allowed, labels, unmerged.regions, chosen, vectors, count, ef)
            nearest = [nearest_items(one, boxes) for one in found]
            if count >= min(k * boxes, most) or all(len(one.labels) >= k for one in nearest):
                return [Neighbours(one.labels[:k], one.distances[:k]) for one in nearest]
            count = min(k * boxes, MORE_BOXES * count)

    def _search_both(
        self,
        index: MappedIndex,
        allowed: Allowed | None,
        labels: NDArray[np.int64],
        rows: CodedRows,
        chosen: NDArray[np.bool_] | None,
        vectors: NDArray[np.float32],
        k: int,
        ef: int,
    ) -> list[Neighbours]:
        """Search an index among the rows ``allowed``, and unmerged rows with these labels among those ``chosen``."""
        if not len(rows) or (chosen is not None and not chosen.any()):
            return index.search(vectors, k, max(ef, k), allowed=allowed, threads=THREADS)
        waiting = _pool().submit(rows.search, labels, vectors, k, self.metric, chosen)  # while the graph is walked
        found = index.search(vectors, k, max(ef, k), allowed=allowed, threads=THREADS)
        more = waiting.result()
        return [_nearest(one, other, k) for one, other in zip(found, more, strict=True)]

    def search_exactly(self, vectors: NDArray[np.float32], k: int) -> list[Neighbours]:
        """Return the true ``k`` nearest of each query, by comparing with every vector."""
        rows: Any = slice(None) if self.live is None else self.live.rows()
        index = self.base.index
        found = search_exact(index.vectors()[rows], index.labels()[rows], vectors, k, self.metric)
        if not len(self.unmerged):
            return found
        more = search_exact(self.unmerged.vectors, self.unmerged.ids, vectors, k, self.metric)
        return [_nearest(one, other, k) for one, other in zip(found, more, strict=True)]

    def vector(self, item_id: int) -> NDArray[np.float32] | None:
        """Return the vector of an item, float32 [dim], or None when there is no such item."""
        place = int(np.searchsorted(self.unmerged.ids, item_id))
        if place < len(self.unmerged) and self.unmerged.ids[place] == item_id:
            return self.unmerged.vectors[place].copy()
        row = int(self.base.columns.rows(np.array([item_id]))[0])
        return None if row < 0 or item_id in self.removed else self.base.index.vector(row)

    def vectors(self, ids: Ids) -> NDArray[np.float32]:
        """Return the vectors of items that it has, float32 [n, dim]."""
        return self.of_both(ids, self.unmerged.vectors, self.base.vectors)

    def region_vectors(self, ids: Ids) -> NDArray[np.float32]:
        """Return the vectors of all ``boxes`` in items that it has, float32 [n, boxes, dim]."""
        assert self.base.regions is not None
        unmerged = self.unmerged.regions.vectors.reshape(-1, len(self.boxes), self.generation.dim)
        return self.of_both(ids, unmerged, self.base.regions.vectors)

    def of_both(
        self,
        ids: Ids,
        unmerged: NDArray[Some],
        merged: Callable[[NDArray[np.int64]], NDArray[Some]],
    ) -> NDArray[Some]:
        """Return what unmerged items have, by their places, and what merged ones have, by their ids."""
        wanted = np.asarray(ids, np.int64)
        found = np.empty((len(wanted), *unmerged.shape[1:]), unmerged.dtype)
        places = np.searchsorted(self.unmerged.ids, wanted)
        is_unmerged = places < len(self.unmerged)
        is_unmerged[is_unmerged] = self.unmerged.ids[places[is_unmerged]] == wanted[is_unmerged]
        found[is_unmerged] = unmerged[places[is_unmerged]]
        found[~is_unmerged] = merged(wanted[~is_unmerged])
        return found

    def scores_of(self, queries: NDArray[np.float32], ids: Sequence[int]) -> NDArray[np.float64]:
        """Return the score of each query, float32 [n, dim], with each of some items that it has: float64 [n, items]."""
        return self._scores(queries, self.vectors(ids))

    def region_scores_of(self, queries: NDArray[np.float32], ids: Sequence[int]) -> NDArray[np.float64]:
        """Return the score of each query, float32 [n, dim], with each box in some items: float64 [n, items, boxes]."""
        vectors = self.region_vectors(ids)
        flat = vectors.reshape(-1, vectors.shape[2])
        return self._scores(queries, flat).reshape(len(queries), *vectors.shape[:2])

    def _scores(self, queries: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        spec = METRICS[self.metric]
        return np.stack([spec.score(exact_distances(query, vectors, self.metric)) for query in queries])

    def without_values(self, selection: Selection | None, path: Sequence[str], values: Sequence[Any]) -> Selection:
        """Return the items of a selection, or of all, whose field has none of some texts, numbers, true or false."""
        condition = Condition(tuple(path), "$in", tuple(as_scalar(value, "") for value in values))
        found = self.select_uncached(Joined((condition,), negated=True))
        if selection is None:
            return found
        allowed = allow_mask(found.allowed.mask() & selection.allowed.mask())
        return Selection(self, allowed, found.unmerged & selection.unmerged)

    def rows_and_extra(self, selection: Selection | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which rows of the index, bool [rows], and of ``table``, bool [n], a selection has, or all items.

        An updated item counts in ``table`` alone.
        """
        mask = np.ones(self.generation.count, bool) if selection is None else selection.allowed.mask()
        changed = _rows(self.base, self.updated)
        extra = np.ones(len(self.unmerged), bool) if selection is None else selection.unmerged
        extra = np.append(extra, mask[changed])
        mask[changed] = False
        mask[self._removed_rows] = False
        return mask, extra

    def fields(self) -> set[str]:
        """Return the names of the fields that items have, but for those inside others."""
        named = (*self.unmerged.metadata, *self.updated.values())
        return {path[0] for path in self.base.columns.paths()}.union(*named)

    def scores(self, found: Neighbours) -> list[float]:
        """Return the scores that go with distances."""
        scores: list[float] = METRICS[self.metric].score(found.distances.astype(np.float64)).tolist()
        return scores

    @functools.cached_property
    def table(self) -> MemoryTable:
        """The metadata of the unmerged items, and then of those of the index that were updated."""
        return MemoryTable([*self.unmerged.metadata, *self.updated.values()])

    def _live_rows(self) -> Allowed:
        mask = np.ones(self.generation.count, bool)
        mask[self._removed_rows] = False
        return allow_mask(mask)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="unmerged")


def _rows(base: Base, ids: Sequence[int] | frozenset[int] | Mapping[int, Any]) -> NDArray[np.int64]:
    """Return the rows of items that are in the index."""
    rows = base.columns.rows(np.fromiter(ids, np.int64))
    return rows[rows >= 0]


def _nearest(one: Neighbours, other: Neighbours, k: int) -> Neighbours:
    """Merge two lists of neighbours, equal distances by label."""
    labels = np.concatenate([one.labels, other.labels])
    distances = np.concatenate([one.distances, other.distances])
    order = np.lexsort((labels, distances))[:k]
    return Neighbours(labels[order], distances[order])
