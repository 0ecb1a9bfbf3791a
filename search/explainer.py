"""Explain why an item is a hit of a query: which parts of both pictures make their score."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index import Catalogue, original_file
from model import ExtractorCard, FeatureMap, Limits, MapEngine, Preprocessing, Region, open_map_engine, read_picture
from search.engine import SearchEngine
from search.errors import InvalidQuery, ItemNotFound
from search.explain import Explanation, Shares, Source, shares_of
from search.parts import MapMaker
from search.query import Admission, ItemQuery, PictureQuery, Term, TextQuery, Unlimited
from search.words import mean_of

Vector = NDArray[np.float32]


class LocalMaps:
    """Computes feature maps in this process, on a thread, by the extractor in ``folder``."""

    def __init__(self, folder: Path, card: ExtractorCard, threads: int) -> None:
        @functools.cache
        def open_scale(scale: int) -> MapEngine:
            return open_map_engine(folder, card, threads, scale)

        self._open = open_scale

    async def feature_map(self, pixels: NDArray[np.uint8], scale: int) -> FeatureMap:
        """Return the map of one picture, uint8 [height, width, 3]. Raises MapUnavailable."""
        return await asyncio.to_thread(lambda: self._open(scale).compute(pixels))


class Explainer:
    """Explains the answers of a search engine over ``catalogue``; ``maps`` computes feature maps.

    ``admission`` is asked before pictures are decoded; it may refuse by raising.
    """

    def __init__(
        self,
        engine: SearchEngine,
        catalogue: Catalogue,
        card: ExtractorCard,
        maps: MapMaker,
        limits: Limits = Limits(),
        admission: Admission = Unlimited(),
    ) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._card = card
        self._maps = maps
        self._limits = limits
        self._admission = admission

    async def explain(self, query: Term, item: int, scale: int = 1) -> Explanation:
        """Explain why an item is a hit of a query; ``scale`` 2 looks at each picture at twice the edge, for a finer map.

        Raises what is wrong with the query, ItemNotFound, InvalidQuery (the metric is not cosine), MapUnavailable,
        EmbedderUnavailable, and what the admission refuses with.
        """
        if (metric := self._catalogue.info.metric) != "cosine":
            raise InvalidQuery(f"a score of the metric {metric} has no parts that sum to it; one of cosine has")
        vector = await self._engine.vector(query)
        hit = self._catalogue.vector(item)
        if hit is None:
            raise ItemNotFound(item)
        mean = await asyncio.to_thread(mean_of, self._catalogue.index)
        cost = scale**2 * (1 if isinstance(query, TextQuery) else 2)  # in pictures to be embedded
        with self._admission.admit(cost) as admitted:
            of_query, exact = await self._of(query, hit, mean, scale)
            of_hit, also = await self._of(ItemQuery(item), vector, mean, scale)
            admitted.finished = cost
        assert of_hit
        score = float(np.clip(vector.astype(np.float64) @ hit, -1, 1))
        return Explanation(score, exact and also, of_query, of_hit)

    async def _of(self, query: Term, other: Vector, mean: Vector, scale: int) -> tuple[Shares | None, bool]:
        """Return the shares of a query's picture in its score with an embedding, and whether they are exact."""
        if isinstance(query, ItemQuery):
            data, source = await asyncio.to_thread(self._picture_of, query.id)
            return await self._shares(data, None, other, mean, source, scale)
        if isinstance(query, PictureQuery):
            return await self._shares(query.data, query.region, other, mean, "query", scale)
        return None, True

    async def _shares(
        self, data: bytes, region: Region | None, other: Vector, mean: Vector, source: Source, scale: int
    ) -> tuple[Shares, bool]:
        plain = self._card.preprocessing
        look: Preprocessing = (plain if region is None else plain.padded()).scaled(scale)
        enough = look.enough if region is None else region.enough(look.enough)
        image = (await asyncio.to_thread(read_picture, data, self._limits, enough)).image
        if region is not None:
            image = region.crop(image)
        found = await self._maps.feature_map(await asyncio.to_thread(look.to_pixels, image), scale)
        return await asyncio.to_thread(shares_of, image, look, found, other, mean, source), found.exact

    def _picture_of(self, item: int) -> tuple[bytes, Source]:
        """Return an item's own file where the catalogue keeps it, else its thumbnail. Raises ItemNotFound."""
        found = self._catalogue.items([item]).get(item)
        if found is None:
            raise ItemNotFound(item)
        path = original_file(self._catalogue.folder, found.sha256)
        if path.is_file():
            return path.read_bytes(), "original"
        if (thumbnail := self._catalogue.thumbnail(item)) is None:
            raise ItemNotFound(item)
        return thumbnail, "thumbnail"
