"""What a search is asked, what it needs, and what it gives: plain values, free of HTTP."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from index import Box, Facet, Item
from model import Engine, Region

Done = TypeVar("Done")


@dataclass(frozen=True, slots=True)
class Embedding:
    """A picture's vector, float32 [dim], and the number of pictures in its batch; None where it was cached.

    ``luma``: its signature, uint8 [32, 32], where that was asked for.
    """

    vector: NDArray[np.float32]
    batch_size: int | None
    luma: NDArray[np.uint8] | None = None


class Embedder(Protocol):
    """Embeds pixels: in this process, or in another."""

    async def embed(self, pixels: NDArray[np.uint8]) -> list[Embedding]:
        """Embed pictures, uint8 [n, height, width, 3], in order. Raises EmbedderUnavailable."""
        ...


class LocalEmbedder:
    """Embeds in this process, on a thread; all pictures of a call are one batch.

    ``open_engine`` is called when there is something to embed.
    """

    def __init__(self, open_engine: Callable[[], Engine]) -> None:
        self._engine = functools.cache(open_engine)

    async def embed(self, pixels: NDArray[np.uint8]) -> list[Embedding]:
        """Embed pictures, uint8 [n, height, width, 3], in order."""
        vectors = await asyncio.to_thread(lambda: self._engine().embed(pixels))
        return [Embedding(vector, len(vectors)) for vector in vectors]


@dataclass(slots=True)
class Admitted:
    """Work that was let in, and how many pieces of it are finished: what did not turn out to be work is not."""

    finished: int = 0


class Admission(Protocol):
    """Decides whether work may begin."""

    def admit(self, count: int) -> AbstractContextManager[Admitted]:
        """Let ``count`` pieces of work in until the context ends, or refuse them by raising."""
        ...

    def reset(self) -> None:
        """Forget how fast work was done: what did it has failed."""
        ...


class Unlimited:
    """The admission that refuses nothing."""

    @contextmanager
    def admit(self, count: int) -> Iterator[Admitted]:
        """Let everything in."""
        yield Admitted()

    def reset(self) -> None:
        """Do nothing: there is no rate to forget."""


@dataclass(frozen=True, slots=True)
class PictureQuery:
    """A query by a picture file, or by what a box in it shows; ``signed``: its signature is asked for too."""

    data: bytes
    region: Region | None = None
    signed: bool = False


@dataclass(frozen=True, slots=True)
class ItemQuery:
    """A query by an item of the catalogue, which is not its own hit."""

    id: int


@dataclass(frozen=True, slots=True)
class TextQuery:
    """A query by words, of what pictures show."""

    text: str


MOST_WEIGHT = 1000  # of an example
Term = PictureQuery | ItemQuery | TextQuery | Exception  # one thing to search by, or what was wrong with it


@dataclass(frozen=True, slots=True)
class Example:
    """A thing that hits are to be like, or unlike; ``weight`` is above 0, and at most 1000."""

    term: Term
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class CombinedQuery:
    """A query by several examples, of which one at least is positive; ``combine.py`` has what ``mode`` means."""

    positive: tuple[Example, ...]
    negative: tuple[Example, ...] = ()
    mode: Literal["mean", "best"] = "mean"


QueryInput = Term | CombinedQuery
# Called with each query that was answered without a filter: its vector, the scores of its hits, k, and the excluded item.
OnResult = Callable[[NDArray[np.float32], Sequence[float], int, int | None], None]


@dataclass(frozen=True, slots=True)
class Group:
    """Items that have the same ``value`` of a field, and how many there are among those that the filter allows."""

    value: Any
    size: int


@dataclass(frozen=True, slots=True)
class FoundHit:
    """An item found; a higher ``score`` is closer. ``group``: which it stands for; ``folded``: what it stands for.

    ``box``: where in its picture, or in the query's, the part is that was found, in shares of it. ``match``: the probability
    that it is a copy of the query's picture.
    """

    item: Item
    score: float
    group: Group | None = None
    folded: tuple[int, ...] | None = None
    box: Box | None = None
    match: float | None = None


@dataclass(frozen=True, slots=True)
class Vote:
    """A value of a field, its share of the neighbours' weights, from 0 to 1, and how many of them have it."""

    value: Any
    confidence: float
    count: int


@dataclass(frozen=True, slots=True)
class Found:
    """The hits of one query, nearest first or as they were to be sorted.

    ``total``: how many hits all pages have, where there are pages; ``facets`` count values among all of them, and
    ``classify`` is their vote; each where it was asked for. ``no_match``: copies were asked for, and there is none.
    """

    hits: list[FoundHit]
    batch_size: int | None
    total: int | None = None
    facets: list[Facet] | None = None
    classify: list[Vote] | None = None
    no_match: bool = False


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What became of each query, in order: its hits, or an error in its place. ``hint`` is why a filter allows nothing."""

    results: list[Found | Exception]
    generation: int
    model: str
    timings_ms: dict[str, float]
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """What became of each picture, in order: its embedding, or an error in its place."""

    embeddings: list[Embedding | Exception]
    dim: int
    model: str
    timings_ms: dict[str, float]


def milliseconds_since(begun: float) -> float:
    """Return the milliseconds since ``begun`` (a ``time.perf_counter()``), to a microsecond."""
    return round((time.perf_counter() - begun) * 1000, 3)


def merge_errors(inputs: Sequence[Any], done: Iterable[Done]) -> list[Done | Exception]:
    """Put what became of the sound inputs in their places among the errors of the others."""
    remaining = iter(done)
    return [one if isinstance(one, Exception) else next(remaining) for one in inputs]
