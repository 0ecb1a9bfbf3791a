"""The hits of one query in one state of the catalogue: the nearest items, and what shaping makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from copies import LIKELY, CopyFinder, Subject
from index import METRICS, Box, Item, Selection, Snapshot, count_facets_of, count_values, unit_rows
from search import shaping
from search.combine import Query
from search.query import Found, FoundHit, Group
from search.shaping import Shaping

Pair = tuple[int, float]  # an item's id and its score
Lookup = Callable[[Sequence[int]], dict[int, Item]]
DEEPEST = 4096  # items that are looked at for one query where some of the nearest are no hits of their own
DEEPER = 4  # times as many are looked at when there were too few
POOL = 5  # times k: the nearest of which diverse hits are chosen,
LARGEST_POOL = 1000  # but no more than these, unless k is larger
ROUNDS = 8  # of searches for groups that were not found before


@dataclass(frozen=True, slots=True)
class Candidate:
    """An item that may be a hit, not looked up yet."""

    id: int
    score: float
    group: Group | None = None
    folded: tuple[int, ...] | None = None


class Finder:
    """Finds in one snapshot, or in a selection of it; ``lookup`` gives items by id, without those that are gone."""

    def __init__(
        self,
        snapshot: Snapshot,
        selection: Selection | None,
        ef: int,
        lookup: Lookup,
        copies: CopyFinder | None = None,
    ) -> None:
        self._snapshot = snapshot
        self._selection = selection
        self._ef = ef
        self._lookup = lookup
        self._copies = copies
        self._parts = False  # whether the boxes in items are searched

    def find(self, queries: Sequence[Query], wanted: Shaping) -> list[Found]:
        """Return the hits of each query."""
        self._parts = wanted.parts == "items"
        if not wanted.is_plain or any(len(query.against) for query in queries):
            return [self._shape(query, wanted) for query in queries]
        nearest = self._search(queries, wanted.k, self._selection)
        items = self._lookup([one for pairs in nearest for one, _ in pairs])
        found = [[FoundHit(items[one], score) for one, score in pairs if one in items] for pairs in nearest]
        return [Found(hits, query.batch_size) for hits, query in zip(found, queries, strict=True)]

    def _shape(self, query: Query, wanted: Shaping) -> Found:
        found = self._group(query, wanted) if wanted.group_by else self._fold(query, wanted)
        if wanted.diversity:
            found = self._spread(query, found, wanted)
        found = found[: wanted.k]
        total = len(found)
        if not wanted.needs_all_items:
            found = wanted.page(found)
        items = self._lookup([one.id for one in found])
        found = [one for one in found if one.id in items]
        ids = [one.id for one in found]
        every = zip(found, self._boxes(query, ids), self._matches(query, ids, wanted), strict=True)
        hits = [FoundHit(items[one.id], one.score, one.group, one.folded, box, match) for one, box, match in every]
        if wanted.sort:
            hits = shaping.sort(hits, wanted.sort)
        paths = wanted.facets
        return Found(
            hits=wanted.page(hits) if wanted.needs_all_items else hits,
            batch_size=query.batch_size,
            total=total if wanted.is_paged else None,
            facets=count_facets_of([hit.item.metadata for hit in hits], paths) if paths else None,
            classify=shaping.vote(hits, wanted.classify) if wanted.classify else None,
            no_match=_lacks_copies(hits, total, wanted),
        )

    def _fold(self, query: Query, wanted: Shaping) -> list[Candidate]:
        """Return candidates, folded where that is asked for: as many as are wanted, or all that there are."""
        enough = _enough(wanted)
        count = enough
        while True:
            pairs, is_all = self._nearest(query, count, wanted, self._selection)
            found = self._fold_pairs(pairs, wanted.fold)
            if len(found) >= enough or is_all or wanted.fold is None or count >= DEEPEST:
                return found
            count *= DEEPER

    def _fold_pairs(self, pairs: Sequence[Pair], similarity: float | None) -> list[Candidate]:
        if similarity is None or not pairs:
            return [Candidate(*pair) for pair in pairs]
        folded: dict[int, list[int]] = {}
        for place, target in enumerate(shaping.fold(self._unit_vectors([one for one, _ in pairs]), similarity)):
            folded.setdefault(target, [])
            if target != place:
                folded[target].append(pairs[place][0])
        return [Candidate(*pairs[place], folded=tuple(ids)) for place, ids in folded.items()]

    def _group(self, query: Query, wanted: Shaping) -> list[Candidate]:
        """Return the nearest item of each group; one without the field stands alone.

        Groups that were found are left out of the next search, so that none hides behind the many items of another.
        """
        assert wanted.group_by
        path, enough = wanted.group_by, _enough(wanted)
        best: dict[tuple[bool, Any], Candidate] = {}  # true is not 1
        alone: dict[int, Candidate] = {}
        selection = self._selection
        for _ in range(ROUNDS):
            pairs, is_all = self._nearest(query, enough + len(alone), wanted, selection)
            items = self._lookup([one for one, _ in pairs])
            for one in self._fold_pairs([pair for pair in pairs if pair[0] in items], wanted.fold):
                value = shaping.field(items[one.id].metadata, path)
                if shaping.is_scalar(value):
                    best.setdefault((isinstance(value, bool), value), one)
                else:
                    alone.setdefault(one.id, one)
            if len(best) + len(alone) >= enough or is_all:
                break
            selection = self._snapshot.without_values(self._selection, path, [value for _, value in best])
        sizes = count_values(self._snapshot, self._selection, path, [value for _, value in best])
        grouped = [
            replace(one, group=Group(value, size)) for ((_, value), one), size in zip(best.items(), sizes, strict=True)
        ]
        return sorted([*grouped, *alone.values()], key=lambda one: -one.score)[:enough]

    def _spread(self, query: Query, found: list[Candidate], wanted: Shaping) -> list[Candidate]:
        if not found:
            return found
        ids = [one.id for one in found]
        vectors = self._unit_vectors(ids)
        queries = query.vectors / np.linalg.norm(query.vectors, axis=1, keepdims=True)
        if self._parts:
            boxes = self._snapshot.region_vectors(ids)
            boxes = boxes / np.linalg.norm(boxes, axis=2, keepdims=True)
            scores = (boxes @ queries.T).max(axis=(1, 2)).astype(np.float64)
        else:
            scores = (vectors @ queries.T).max(axis=1).astype(np.float64)
        return [found[place] for place in shaping.spread(scores, vectors, wanted.k, wanted.diversity)]

    def _nearest(self, query: Query, k: int, wanted: Shaping, selection: Selection | None) -> tuple[list[Pair], bool]:
        """Return the ``k`` nearest items that may be a query's hits, and whether there are no more of them."""
        count, min_score = k, wanted.min_score
        if wanted.min_match is not None:
            pairs = self._find_copies(query, k, wanted.min_match, selection)
            return [pair for pair in pairs if min_score is None or pair[1] >= min_score][:k], True
        while True:
            (pairs,) = self._search([query], count, selection)
            is_all = len(pairs) < count
            if min_score is not None:
                close = [pair for pair in pairs if pair[1] >= min_score]
                is_all, pairs = is_all or len(close) < len(pairs), close
            if len(query.against):
                pairs = self._without_negative(query, pairs)
            if len(pairs) >= k or is_all or count >= DEEPEST:
                return pairs[:k], is_all and len(pairs) <= k
            count *= DEEPER

    def _find_copies(self, query: Query, k: int, least: float, selection: Selection | None) -> list[Pair]:
        """Return the items that match a query's picture so well, by their scores, also those that no embedding leads to."""
        assert self._copies
        found = self._copies.find(_subject(query), least, selection, query.excluded, nearest=k)
        ids = [one.id for one in found]
        scores = self._snapshot.scores_of(query.vectors, ids)[0].tolist() if ids else []
        return sorted(zip(ids, scores, strict=True), key=lambda pair: (-pair[1], pair[0]))

    def _matches(self, query: Query, ids: Sequence[int], wanted: Shaping) -> list[float | None]:
        if not wanted.wants_match:
            return [None] * len(ids)
        assert self._copies
        return list(self._copies.matches(_subject(query), ids).tolist())

    def _search(self, queries: Sequence[Query], k: int, selection: Selection | None) -> list[list[Pair]]:
        """Return the ``k`` nearest items of each query, but for its excluded ones: by the nearest of its vectors."""
        more = max(len(query.excluded) for query in queries)
        vectors = np.concatenate([query.vectors for query in queries])
        search = self._snapshot.search_regions if self._parts else self._snapshot.search
        found = search(vectors, k + more, max(k + more, self._ef), selection)
        weights = [weight for query in queries for weight in query.weights or (1.0,) * len(query.vectors)]
        lists = iter(
            [
                list(zip(one.labels.tolist(), self._weighted(self._snapshot.scores(one), weight), strict=True))
                for one, weight in zip(found, weights, strict=True)
            ]
        )
        nearest = []
        for query in queries:
            pairs = next(lists)
            if others := [pair for _ in query.vectors[1:] for pair in next(lists)]:
                scores = dict(sorted([*pairs, *others], key=lambda pair: pair[1]))  # of each its best
                pairs = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
            nearest.append([pair for pair in pairs if pair[0] not in query.excluded][:k])
        return nearest

    def _without_negative(self, query: Query, pairs: list[Pair]) -> list[Pair]:
        if not pairs:
            return pairs
        ids = [one for one, _ in pairs]
        if self._parts:
            scores = self._snapshot.region_scores_of(query.against, ids).max(axis=2).tolist()
        else:
            scores = self._snapshot.scores_of(query.against, ids).tolist()
        weights = query.against_weights or (1.0,) * len(scores)
        worst = map(max, zip(*map(self._weighted, scores, weights), strict=True))
        return [pair for pair, other in zip(pairs, worst, strict=True) if pair[1] > other]

    def _boxes(self, query: Query, ids: Sequence[int]) -> list[Box | None]:
        """Return which box in each item, or in the query, is the one that was found; None where none was searched."""
        if not ids or not (self._parts or query.boxes):
            return [None] * len(ids)
        if query.boxes:
            return [query.boxes[place] for place in self._snapshot.scores_of(query.vectors, ids).argmax(axis=0)]
        scores = self._snapshot.region_scores_of(query.vectors, ids)
        factors = np.array([self._factor(weight) for weight in query.weights or (1.0,) * len(scores)])
        best = (scores * factors[:, None, None]).max(axis=0)
        return [self._snapshot.boxes[place] for place in best.argmax(axis=1)]

    def _weighted(self, scores: list[float], weight: float) -> list[float]:
        factor = self._factor(weight)
        return scores if factor == 1 else [score * factor for score in scores]

    def _factor(self, weight: float) -> float:
        return 1 / weight if METRICS[self._snapshot.metric].euclidean else weight

    def _unit_vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        return unit_rows(self._snapshot.vectors(ids))


def _subject(query: Query) -> Subject:
    return Subject(query.vectors[0], query.luma)


def _lacks_copies(hits: Sequence[FoundHit], total: int, wanted: Shaping) -> bool:
    """Return whether copies were asked for and there are none: on no page, where only copies are hits."""
    if wanted.min_match is not None:
        return not total
    return wanted.match and not any((hit.match or 0) >= LIKELY for hit in hits)


def _enough(wanted: Shaping) -> int:
    """Return how many candidates are wanted, of which k are hits."""
    return max(wanted.k, min(POOL * wanted.k, LARGEST_POOL)) if wanted.diversity else wanted.k
