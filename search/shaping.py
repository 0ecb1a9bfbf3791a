"""What is made of the nearest items: cut, folded, grouped, spread out, sorted, paged, counted and asked for a vote.

The order is that of this list. ``k`` hits are made in all, and pages are cut from them, so that all pages of a query are of
one list.
"""

from __future__ import annotations

import math
import operator
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from search.query import FoundHit, Vote

Path = tuple[str, ...]
Some = TypeVar("Some")
TEMPERATURE = 0.07  # of the neighbours' vote
BLOCK = 256  # items that are compared at a time


@dataclass(frozen=True, slots=True)
class Sorting:
    """What hits are sorted by: a field of the metadata, or ``score``, ``key`` or ``added_at``; hits without it come last."""

    by: Path | str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Shaping:
    """What an answer is to have of the nearest items.

    ``k``: hits in all; ``offset`` and ``limit``: the page of them that is given. ``min_score``: what is farther is no hit.
    ``fold``: a hit that is at least so similar to one before it is folded into that. ``group_by``: one hit for each value of
    a field. ``diversity``, from 0 to 1: how much a hit is to differ from those before it. ``facets``: fields whose values are
    counted among the hits. ``classify``: the field on whose value they vote. ``parts``: search the boxes in items' pictures
    for the query, or items for the boxes in the query's picture. ``match``: say of each hit how probably it is a copy of the
    query's picture; ``min_match``: what is less probably one is no hit.
    """

    k: int
    offset: int = 0
    limit: int | None = None
    min_score: float | None = None
    fold: float | None = None
    group_by: Path | None = None
    diversity: float = 0.0
    sort: Sorting | None = None
    facets: tuple[Path, ...] = ()
    classify: Path | None = None
    parts: Literal["items", "query"] | None = None
    match: bool = False
    min_match: float | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the answer is the nearest items, and nothing else is made of them."""
        return self == Shaping(self.k)

    @property
    def wants_match(self) -> bool:
        """Whether copies of the query's picture are asked for."""
        return self.match or self.min_match is not None

    @property
    def is_paged(self) -> bool:
        """Whether a page of the hits is asked for."""
        return self.offset > 0 or self.limit is not None

    @property
    def needs_all_items(self) -> bool:
        """Whether what items are matters for more than the page: for their order, or for what is counted among them."""
        return bool(self.sort or self.facets or self.classify)

    def page(self, hits: list[Some]) -> list[Some]:
        """Return the page that is asked for."""
        return hits[self.offset : None if self.limit is None else self.offset + self.limit]


def field(metadata: dict[str, Any], path: Path) -> Any:
    """Return the value of a field, or None where it is missing."""
    value: Any = metadata
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def is_scalar(value: Any) -> bool:
    """Return whether a value can be that of a group or a vote: a text, a number, true or false."""
    return isinstance(value, str | int | float)


def fold(vectors: NDArray[np.float32], similarity: float) -> list[int]:
    """Return for each item, nearest first, the place of the one that it is folded into, which is its own where it stays.

    ``vectors``: float32 [n, dim] of unit length. An item goes into the first that stays and is at least so similar.
    """
    into: list[int] = []
    kept = np.empty(0, np.int64)
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK]
        earlier, inside = block @ vectors[kept].T >= similarity, block @ block.T >= similarity
        fresh: list[int] = []  # of the block
        for place in range(len(block)):
            if earlier[place].any():
                into.append(int(kept[earlier[place].argmax()]))
            elif near := [one for one in fresh if inside[place, one]]:
                into.append(start + near[0])
            else:
                fresh.append(place)
                into.append(start + place)
        kept = np.append(kept, np.array(fresh, np.int64) + start)
    return into


def spread(scores: NDArray[np.float64], vectors: NDArray[np.float32], k: int, diversity: float) -> list[int]:
    """Choose ``k`` items by maximal marginal relevance, and return their places in the order of choice.

    Each is the one with the largest ``(1 - d) score - d s``, where s is its largest similarity to one that was chosen
    (Carbonell and Goldstein, SIGIR 1998). ``scores``: float64 [n]; ``vectors``: float32 [n, dim] of unit length.
    """
    similar = vectors @ vectors.T
    nearest = np.full(len(scores), -1.0)
    open_ = np.ones(len(scores), bool)
    chosen: list[int] = []
    for _ in range(min(k, len(scores))):
        best = int(np.argmax(np.where(open_, (1 - diversity) * scores - diversity * nearest, -np.inf)))
        chosen.append(best)
        open_[best] = False
        nearest = np.maximum(nearest, similar[best])
    return chosen


def sort(hits: Sequence[FoundHit], sorting: Sorting) -> list[FoundHit]:
    """Sort hits by a field: numbers before texts, hits without it last, equals in the order that they had."""

    def value(hit: FoundHit) -> Any:
        if isinstance(sorting.by, str):
            return {"score": hit.score, "key": hit.item.key, "added_at": hit.item.added_at}[sorting.by]
        return field(hit.item.metadata, sorting.by)

    kinds: dict[str, list[tuple[Any, FoundHit]]] = {"number": [], "text": []}
    rest = []
    for hit in hits:
        found = value(hit)
        if is_scalar(found):
            kinds["text" if isinstance(found, str) else "number"].append((found, hit))
        else:
            rest.append(hit)
    ordered: list[FoundHit] = []
    for some in kinds.values():
        some.sort(key=operator.itemgetter(0), reverse=sorting.descending)
        ordered += [hit for _, hit in some]
    return ordered + rest


def vote(hits: Sequence[FoundHit], path: Path) -> list[Vote]:
    """Return the hits' votes on the value of a field, the most likely first; hits without it have none.

    A neighbour's weight is ``exp(score / 0.07)``, the usual weighting of nearest-neighbour classifiers on embeddings (Wu and
    others, CVPR 2018); a value's confidence is its share of all weights.
    """
    voters = [(field(hit.item.metadata, path), hit.score) for hit in hits]
    voters = [(value, score) for value, score in voters if is_scalar(value)]
    most = max((score for _, score in voters), default=0.0)
    weights: dict[tuple[bool, Any], list[float]] = defaultdict(list)  # true is not 1
    for value, score in voters:
        weights[isinstance(value, bool), value].append(math.exp((score - most) / TEMPERATURE))
    total = sum(map(sum, weights.values()))
    votes = [Vote(value, sum(some) / total, len(some)) for (_, value), some in weights.items()]
    return sorted(votes, key=lambda one: -one.confidence)
