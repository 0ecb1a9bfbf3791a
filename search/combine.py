"""The one place where the examples of a query become what is searched for.

``mean``: with p the weighted mean of the positive examples' vectors and n that of the negative ones', the query is
``p + s (p - n) / 4``, where s is the mean weight of the negative examples. Weights of positive examples count against each
other, those of negative ones set how far the query moves away from them: with weight 4 it is the usual "average vector" of
recommendations. On labelled pictures that goes too far: P@5 by two positive examples is 0.71 without a negative one and with
one of weight 1, and 0.62 with weight 4. Under the metric cosine the result has unit length.

``best``: a hit's score is that by its nearest positive example, and an item that is nearer to a negative one is no hit. What
counts there is each score times its example's weight (or a distance divided by it), of which the largest positive one is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index import Box
from search.errors import InvalidQuery
from search.query import CombinedQuery, Example

AWAY = 0.25  # how far a negative example of weight 1 moves the query, in shares of its distance
TINY = 1e-6  # what is shorter points nowhere


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that is searched by, ready: its vector, float32 [dim], its batch size, the item that it is, its signature."""

    vector: NDArray[np.float32]
    batch_size: int | None = None
    item: int | None = None
    luma: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A query that is ready.

    ``vectors``: float32 [n, dim], a hit's score is its best by any of them. ``against``: float32 [m, dim], what is nearer to
    one of these is no hit. Both have ``weights``, [n] and [m]. ``excluded``: items that are not to be hits.
    ``batch_size``: of the first part that was embedded. ``boxes``: which box of the query's picture each vector is of, where
    they are of boxes. ``luma``: the signature of the one picture that it is by.
    """

    vectors: NDArray[np.float32]
    against: NDArray[np.float32]
    excluded: frozenset[int] = frozenset()
    batch_size: int | None = None
    weights: tuple[float, ...] = ()  # none: all are 1
    against_weights: tuple[float, ...] = ()
    boxes: tuple[Box, ...] = ()
    luma: NDArray[np.uint8] | None = None


def plain(part: Part) -> Query:
    """Return the query by one thing."""
    excluded = frozenset() if part.item is None else frozenset([part.item])
    nothing = part.vector[:0].reshape(0, len(part.vector))
    return Query(part.vector[None], nothing, excluded, part.batch_size, luma=part.luma)


def combine(query: CombinedQuery, parts: Sequence[Part], *, normalized: bool) -> Query | InvalidQuery:
    """Combine a query's examples, of which these are the parts, the positive ones first; or return why it cannot be done."""
    count = len(query.positive)
    positive, negative = parts[:count], parts[count:]
    vectors = np.stack([part.vector for part in positive])
    against = np.stack([part.vector for part in negative]) if negative else vectors[:0]
    weights, against_weights = _weights(query.positive, query), _weights(query.negative, query)
    if query.mode == "mean":
        middle = _mean(vectors, query.positive)
        if len(against):
            strength = AWAY * float(np.mean([one.weight for one in query.negative]))
            middle = middle + strength * (middle - _mean(against, query.negative))
        length = float(np.linalg.norm(middle))
        if normalized and length < TINY:
            return InvalidQuery("the positive and the negative examples cancel each other out; give others, or weights")
        vectors = np.asarray(middle / length if normalized else middle, np.float32)[None]
        against, weights, against_weights = vectors[:0], (), ()
    excluded = frozenset(part.item for part in parts if part.item is not None)
    sizes = [part.batch_size for part in parts if part.batch_size is not None]
    return Query(vectors, against, excluded, sizes[0] if sizes else None, weights, against_weights)


def _weights(examples: Sequence[Example], query: CombinedQuery) -> tuple[float, ...]:
    """Return examples' weights in shares of the largest positive one, or none where all are the same."""
    every = {one.weight for one in (*query.positive, *query.negative)}
    largest = max(one.weight for one in query.positive)
    return tuple(one.weight / largest for one in examples) if len(every) > 1 else ()


def _mean(vectors: NDArray[np.float32], examples: Sequence[Example]) -> NDArray[np.float64]:
    return np.average(vectors.astype(np.float64), axis=0, weights=[one.weight for one in examples])
