"""The path of a query, shared by both doors: bytes to pixels to vectors to an answer. Prints nothing."""

from __future__ import annotations

import asyncio
import base64
import functools
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from index import Allowed, Catalogue, Hit, open_catalogue
from model import ExtractorCard, ImageFault, Limits, Preprocessing, Room, read_card, read_picture
from search.embedding_cache import Embedded, EmbeddingCache, Gate, Work
from server.api.errors import (
    NOT_FOUND,
    EmbedAnswer,
    ErrorAnswer,
    ItemBody,
    ItemsAnswer,
    RequestFault,
    SearchAnswer,
    error_answer,
    found,
    item_body,
)
from settings import Settings

Done = TypeVar("Done")


class Embedder(Protocol):
    """What embeds pixels [n, height, width, 3], and says in which batch size each was."""

    async def embed(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], list[int]]: ...


@dataclass(frozen=True, slots=True)
class Query:
    """A query ready to be searched for: its unit vector, float32 [dim], and the item it is itself, if it is one."""

    vector: NDArray[np.float32]
    batch_size: int | None = None
    itself: int | None = None


# Is told of each query that was answered without a filter: its vector, the scores of its hits, k, and the item it is.
Watch = Callable[[NDArray[np.float32], Sequence[float], int, int | None], None]
Asked = bytes | Query | Exception  # a picture as sent, a query that needs no embedding, or what was wrong with it


def open_pair(folder: Path) -> tuple[Catalogue, ExtractorCard]:
    """Open a catalogue and read the card of its extractor, which must be the one that made its vectors.

    Raises CatalogueNotFound, CatalogueMismatch, DamagedIndex or DamagedExtractor.
    """
    catalogue = open_catalogue(folder)
    try:
        card = read_card(catalogue.extractor_folder)
        catalogue.check_made_with(card.fingerprint)
    except BaseException:
        catalogue.close()
        raise
    return catalogue, card


def to_pixels(data: bytes, preprocessing: Preprocessing, limits: Limits) -> NDArray[np.uint8] | ImageFault:
    """One picture's bytes as the pixels a network takes, uint8 [height, width, 3], or what is wrong with them."""
    try:
        return preprocessing.to_pixels(read_picture(data, limits, preprocessing.enough).image)
    except ImageFault as fault:
        return fault


def fill_in(pictures: Sequence[Any], done: Iterable[Done]) -> list[Done | Exception]:
    """What became of the pictures that could be read, put in their places among the errors of those that could not."""
    remaining = iter(done)
    return [picture if isinstance(picture, Exception) else next(remaining) for picture in pictures]


def search_answer(
    catalogue: Catalogue,
    queries: Sequence[Query | Exception],
    k: int,
    ef: int,
    timings_ms: dict[str, float],
    allowed: Allowed | None = None,
) -> SearchAnswer:
    """Search for all queries, in order; where one failed earlier, its error stands in its place.

    A query that is an item of the catalogue does not find itself; with ``allowed``, only what it allows is found.
    ``timings_ms`` is completed with ``search``.
    """
    begun = time.perf_counter()
    asked = [query for query in queries if isinstance(query, Query)]
    hits: Iterable[list[Hit]] = ()
    if asked:
        vectors, itself = np.stack([query.vector for query in asked]), [query.itself for query in asked]
        hits = catalogue.search(vectors, k, ef=ef, allowed=allowed, without=itself)
    answered = [found(some, query.batch_size) for query, some in zip(asked, hits, strict=True)]
    results = [error_answer(one) if isinstance(one, Exception) else one for one in fill_in(queries, answered)]
    timings = {**timings_ms, "search": milliseconds_since(begun)}
    return SearchAnswer(
        results=results, generation=catalogue.info.generation, model=catalogue.info.model, timings_ms=timings
    )


def milliseconds_since(begun: float) -> float:
    """Milliseconds since ``begun`` (a ``time.perf_counter()``), to a microsecond."""
    return round((time.perf_counter() - begun) * 1000, 3)


class Answers:
    """Answers requests over one catalogue: decodes and searches on threads, embeds where it is told to.

    ``gate`` is asked before pictures are decoded, and may refuse them by raising; ``watch`` is told of the answers.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        card: ExtractorCard,
        embedder: Embedder,
        settings: Settings,
        gate: Gate | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._watch = watch
        self._catalogue = catalogue
        self._card = card
        self._embedder = embedder
        self._ef = settings.ef
        self._cache = EmbeddingCache(self._decode_and_embed, settings.cache, gate)
        limits = Limits(bytes=settings.max_bytes, pixels=settings.max_pixels, room=Room(settings.max_pixels))
        self._decode = functools.partial(to_pixels, preprocessing=card.preprocessing, limits=limits)
        self._threads = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")

    async def search(self, asked: Sequence[Asked], k: int, where: object = None) -> SearchAnswer:
        """Search for each thing asked, in order, among the items that the filter ``where`` allows.

        Raises WrongFilter, and RequestFault when the embedder does not answer or the gate refuses.
        """
        begun = time.perf_counter()
        allowed = None if where is None else await asyncio.to_thread(self._catalogue.allow, where)
        filtered = {} if where is None else {"filter": milliseconds_since(begun)}
        queries, timings = await self._embedded(asked)
        timings = filtered | timings
        answer = await asyncio.to_thread(search_answer, self._catalogue, queries, k, self._ef, timings, allowed)
        if self._watch and where is None:
            for query, result in zip(queries, answer.results, strict=True):
                if isinstance(query, Query) and not isinstance(result, ErrorAnswer):
                    self._watch(query.vector, [hit.score for hit in result.hits], k, query.itself)
        return answer

    async def embed(self, images: Sequence[Asked]) -> EmbedAnswer:
        """Embed each picture, in order. Raises RequestFault when the embedder does not answer or the gate refuses."""
        queries, timings = await self._embedded(images)
        return EmbedAnswer(
            embeddings=[error_answer(one) if isinstance(one, Exception) else one.vector.tolist() for one in queries],
            batch_sizes=[None if isinstance(one, Exception) else one.batch_size for one in queries],
            dim=self._card.dim,
            model=self._card.model,
            timings_ms=timings,
        )

    async def by_id(self, item_id: int) -> Query | RequestFault:
        """An item as a query that needs no embedding, or the fault when there is no such item."""
        if not 0 <= item_id < 2**63:  # more than SQLite can look for
            return _no_item(item_id)
        vector = await asyncio.to_thread(self._catalogue.vector, item_id)
        return _no_item(item_id) if vector is None else Query(vector, itself=item_id)

    async def items(self, *, ids: list[int] | None, keys: list[str] | None, thumbnails: bool) -> ItemsAnswer:
        """Items by id, or else by key, in order."""
        return await asyncio.to_thread(self._items, ids, keys, thumbnails)

    async def thumbnail(self, item_id: int) -> bytes | None:
        """An item's thumbnail as JPEG bytes, or None when there is no such item."""
        return await asyncio.to_thread(self._catalogue.thumbnail, item_id)

    def _items(self, ids: list[int] | None, keys: list[str] | None, thumbnails: bool) -> ItemsAnswer:
        names = ids if ids is not None else keys or []
        there: dict[Any, Any] = (
            self._catalogue.items(ids) if ids is not None else self._catalogue.items_by_key(keys or [])
        )
        items: list[ItemBody | ErrorAnswer] = []
        for name in names:
            if (item := there.get(name)) is None:
                items.append(error_answer(_no_item(name)))
            else:
                jpeg = self._catalogue.thumbnail(item.id) if thumbnails else None
                items.append(item_body(item, base64.b64encode(jpeg).decode() if jpeg else None))
        return ItemsAnswer(items=items)

    async def _embedded(self, asked: Sequence[Asked]) -> tuple[list[Query | Exception], dict[str, float]]:
        """Bring pictures to vectors; what is a query or an error already stays as it is."""
        begun = time.perf_counter()
        work = await self._cache.embed([one for one in asked if isinstance(one, bytes)])
        done = iter(work.done)
        queries: list[Query | Exception] = []
        for one in asked:
            became = next(done) if isinstance(one, bytes) else one
            queries.append(Query(became.vector, became.batch_size) if isinstance(became, Embedded) else became)
        decode = min(work.decode_ms, milliseconds_since(begun))
        return queries, {"decode": decode, "embed": round(milliseconds_since(begun) - decode, 3)}

    async def _decode_and_embed(self, pictures: Sequence[bytes]) -> Work:
        begun = time.perf_counter()
        loop = asyncio.get_running_loop()
        read = await asyncio.gather(*(loop.run_in_executor(self._threads, self._decode, one) for one in pictures))
        decode_ms = milliseconds_since(begun)
        embedded: list[Embedded] = []
        if pixels := [one for one in read if not isinstance(one, ImageFault)]:
            vectors, sizes = await self._embedder.embed(np.stack(pixels))
            embedded = [Embedded(vector, size) for vector, size in zip(vectors, sizes, strict=True)]
        return Work(fill_in(read, embedded), decode_ms)


def _no_item(name: int | str) -> RequestFault:
    return RequestFault(NOT_FOUND, f"there is no item {name!r} in the catalogue")
