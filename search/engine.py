"""The path of a query: bytes to pixels to vectors to hits. Knows neither HTTP nor metrics, and prints nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from copies import CopyFinder, as_luma, match_model_of
from index import (
    DEFAULT_EF,
    METRICS,
    Catalogue,
    CatalogueInfo,
    Facet,
    Item,
    Selection,
    Snapshot,
    count_facets,
    open_catalogue,
)
from model import (
    ExtractorCard,
    Limits,
    MapUnavailable,
    read_card,
)
from search.combine import Part, Query, combine, plain
from search.embedding_cache import CacheCounts
from search.errors import InvalidQuery, ItemNotFound
from search.finder import Finder, Lookup
from search.parts import BoxEmbedder, MapMaker, PartSearch, check_regions, shown_whole
from search.picture_embedder import PictureEmbedder
from search.query import (
    Admission,
    CombinedQuery,
    Embedder,
    Embedding,
    EmbedResult,
    Found,
    ItemQuery,
    OnResult,
    PictureQuery,
    QueryInput,
    SearchResult,
    Term,
    TextQuery,
    Unlimited,
    merge_errors,
    milliseconds_since,
)
from search.shaping import Shaping
from search.texts import TextEmbedder, TextSearch

MOST_FIELDS = 50  # whose values are counted where none is named
LARGEST_ID = 2**63 - 1  # SQLite has none beyond it


def open_catalogue_with_extractor(folder: Path) -> tuple[Catalogue, ExtractorCard]:
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


class SearchEngine:
    """Answers queries over one catalogue: decodes and searches on threads, embeds by ``embedder``.

    ``admission`` is asked before pictures are decoded, ``lookups`` before items are looked up; either may refuse by
    raising. ``on_embed`` is called with how each request's embeddings were had, ``on_result`` with answers. ``maps`` computes
    the feature maps that the parts of a query's picture are made of, ``texts`` embeds texts for a model that has both.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        card: ExtractorCard,
        embedder: Embedder,
        *,
        ef: int = DEFAULT_EF,
        limits: Limits = Limits(),
        cache_size: int = 0,
        decode_threads: int | None = None,
        admission: Admission = Unlimited(),
        lookups: Admission = Unlimited(),
        on_embed: Callable[[CacheCounts], None] | None = None,
        on_result: OnResult | None = None,
        maps: MapMaker | None = None,
        texts: TextEmbedder | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._card = card
        self._ef = ef
        self._lookups = lookups
        self._on_result = on_result
        self._texts = TextSearch(catalogue.extractor_folder, card, texts)
        threads = ThreadPoolExecutor(decode_threads, thread_name_prefix="decode")
        self.pictures = PictureEmbedder(
            embedder,
            card.preprocessing,
            limits,
            cache_size=cache_size,
            threads=threads,
            admission=admission,
            on_embed=on_embed,
        )
        self._parts: PartSearch | None = None
        if maps is not None:
            self._parts = PartSearch(BoxEmbedder(maps, card), card, limits, admission, threads)

    async def search(self, inputs: Sequence[QueryInput], shaping: Shaping, where: object = None) -> SearchResult:
        """Search for each input, in order, among the items that the filter ``where`` allows.

        An error among the inputs stays in its place. Raises InvalidFilter, RegionsUnavailable or MapUnavailable (parts that
        cannot be searched), EmbedderUnavailable, DamagedIndex, and what an admission refuses with.
        """
        if shaping.wants_match:
            inputs = [_signed(one) for one in inputs]
        if shaping.parts == "items":
            check_regions(self._catalogue.snapshot())
            inputs = [shown_whole(one) for one in inputs]
        begun = time.perf_counter()
        allowed = None if where is None else await asyncio.to_thread(self._catalogue.allow, where)
        filtered = {} if where is None else {"filter": milliseconds_since(begun)}
        items = sum(isinstance(term, ItemQuery | TextQuery) for one in inputs for term in terms_of(one))
        with self._lookups.admit(items) as admitted:
            queries, timings = await self._to_queries(inputs, parts=shaping.parts == "query")
            begun = time.perf_counter()
            results, generation = await asyncio.to_thread(self._find, queries, shaping, allowed)
            timings = {**filtered, **timings, "search": milliseconds_since(begun)}
            admitted.finished = items
        if self._on_result and where is None and shaping.is_plain:
            for one, query, found in zip(inputs, queries, results, strict=True):
                if isinstance(query, Query) and isinstance(found, Found) and not isinstance(one, CombinedQuery):
                    excluded = next(iter(query.excluded), None)
                    self._on_result(query.vectors[0], [hit.score for hit in found.hits], shaping.k, excluded)
        hint = None if allowed is None or len(allowed) else await asyncio.to_thread(self._catalogue.hint, where)
        return SearchResult(results, generation, self._card.model, timings, hint)

    async def vector(self, query: Term) -> NDArray[np.float32]:
        """Return what a query searches by, float32 [dim]. Raises what is wrong with it, and what an admission refuses."""
        ((part,), _) = await self._to_parts([query])
        if isinstance(part, Exception):
            raise part
        return part.vector

    def info(self) -> CatalogueInfo:
        """Return what the catalogue says of itself now. Raises DamagedIndex."""
        return self._catalogue.info

    @property
    def superseded(self) -> bool:
        """Whether the catalogue has vectors of another extractor now, which an engine of its own is needed for."""
        return self._catalogue.superseded

    async def fault(self) -> str | None:
        """Return why the catalogue cannot be searched any more, or None."""
        return await asyncio.to_thread(self._catalogue.fault)

    async def embed(self, pictures: Sequence[bytes]) -> EmbedResult:
        """Embed each picture, in order. Raises EmbedderUnavailable, and what the admission refuses with."""
        embeddings, timings = await self.pictures.embed([PictureQuery(one) for one in pictures])
        return EmbedResult(embeddings, self._card.dim, self._card.model, timings)

    async def items(self, *, ids: list[int] | None = None, keys: list[str] | None = None) -> list[Item | Exception]:
        """Return items by id, or else by key, in order; ItemNotFound stands in the place of one that is not there."""
        names: Sequence[int | str] = ids if ids is not None else keys or []
        with self._lookups.admit(len(names)) as admitted:
            found: dict[Any, Item] = await (
                asyncio.to_thread(self._catalogue.items, ids)
                if ids is not None
                else asyncio.to_thread(self._catalogue.items_by_key, keys or [])
            )
            admitted.finished = len(names)
        return [found.get(name) or ItemNotFound(name) for name in names]

    async def facets(
        self, paths: Sequence[tuple[str, ...]] | None, where: object, limit: int
    ) -> tuple[list[Facet], int]:
        """Count the values of fields, or of all, among the items that a filter allows, or all; and those items.

        Raises InvalidFilter, DamagedIndex.
        """

        def count() -> tuple[list[Facet], int]:
            selection = None if where is None else self._catalogue.allow(where)
            snapshot = self._catalogue.snapshot() if selection is None else selection.snapshot
            names = paths if paths is not None else [(name,) for name in sorted(snapshot.fields())[:MOST_FIELDS]]
            size = len(snapshot) if selection is None else len(selection)
            return count_facets(snapshot, selection, names, limit), size

        return await asyncio.to_thread(count)

    async def thumbnails(self, ids: Sequence[int]) -> list[bytes | None]:
        """Return items' thumbnails as JPEG bytes, or None for an item that is not there."""
        return await asyncio.to_thread(lambda: [self._catalogue.thumbnail(one) for one in ids])

    def _find(
        self, queries: Sequence[Query | Exception], shaping: Shaping, allowed: Selection | None
    ) -> tuple[list[Found | Exception], int]:
        """Return what becomes of queries, and the generation that all hits are of."""
        ready = [query for query in queries if isinstance(query, Query)]
        if not ready:
            return merge_errors(queries, []), self._catalogue.info.generation

        model = match_model_of(self._catalogue) if shaping.wants_match else None

        def find(snapshot: Snapshot, lookup: Lookup) -> list[Found]:
            copies = CopyFinder(snapshot, self._catalogue.signatures, model) if model else None
            return Finder(snapshot, allowed, self._ef, lookup, copies).find(ready, shaping)

        found, generation = self._catalogue.in_one_state(find, allowed)
        return merge_errors(queries, found), generation

    async def _to_queries(
        self, inputs: Sequence[QueryInput], *, parts: bool
    ) -> tuple[list[Query | Exception], dict[str, float]]:
        if parts:
            if self._parts is None:
                raise MapUnavailable("there is nothing here that makes feature maps, which parts of a query need")
            begun = time.perf_counter()
            of_parts = await self._parts.queries(inputs, self._catalogue.snapshot())
            return of_parts, {"embed": milliseconds_since(begun)}
        found, timings = await self._to_parts([term for one in inputs for term in terms_of(one)])
        remaining = iter(found)
        queries: list[Query | Exception] = []
        for one in inputs:
            those = [next(remaining) for _ in terms_of(one)]
            sound = [part for part in those if isinstance(part, Part)]
            if len(sound) < len(those):
                queries.append(next(part for part in those if isinstance(part, Exception)))
            elif isinstance(one, CombinedQuery):
                queries.append(combine(one, sound, normalized=METRICS[self._catalogue.info.metric].normalized))
            else:
                queries.append(plain(sound[0]))
        return queries, timings

    async def _to_parts(self, terms: Sequence[Term]) -> tuple[list[Part | Exception], dict[str, float]]:
        ids = [one.id for one in terms if isinstance(one, ItemQuery)]
        by_id = iter(await asyncio.to_thread(self._look_up, ids) if ids else [])
        texts = [one.text for one in terms if isinstance(one, TextQuery)]
        found = await self._texts.vectors(texts, self._catalogue.snapshot()) if texts else []
        by_text = iter([one if isinstance(one, Exception) else Part(one) for one in found])
        embeddings, timings = await self.pictures.embed([one for one in terms if isinstance(one, PictureQuery)])
        embedded = iter(embeddings)
        parts: list[Part | Exception] = []
        for one in terms:
            if isinstance(one, PictureQuery):
                became = next(embedded)
                if isinstance(became, Embedding):
                    parts.append(Part(became.vector, became.batch_size, luma=became.luma))
                else:
                    parts.append(became)
            else:
                parts.append(
                    next(by_id) if isinstance(one, ItemQuery) else next(by_text) if isinstance(one, TextQuery) else one
                )
        return parts, timings

    def _look_up(self, ids: Sequence[int]) -> list[Part | Exception]:
        vectors = [self._catalogue.vector(one) if 0 <= one <= LARGEST_ID else None for one in ids]
        signed = self._catalogue.signatures.get([one for one in ids if 0 <= one <= LARGEST_ID])
        lumas = {item_id: as_luma(one.luma) for item_id, one in signed.items()}
        return [
            ItemNotFound(one) if vector is None else Part(vector, item=one, luma=lumas.get(one))
            for one, vector in zip(ids, vectors, strict=True)
        ]


def _signed(query: QueryInput) -> QueryInput:
    """Return a query whose picture's signature is had too, or why it can have no copies."""
    if isinstance(query, PictureQuery):
        return replace(query, signed=True)
    if isinstance(query, ItemQuery | Exception):
        return query
    return InvalidQuery("match: only a picture or an item has copies; words and several examples have none")


def terms_of(query: QueryInput) -> list[Term]:
    """Return what a query is made of, positive examples first."""
    if isinstance(query, CombinedQuery):
        return [example.term for example in (*query.positive, *query.negative)]
    return [query]
