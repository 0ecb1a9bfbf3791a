"""Searching by parts: a query that is a part of what a picture shows, or a picture that shows a part of what the query does.

Parts of items are found by the vectors that they have of a few boxes, where the catalogue was built with them. Parts of a
query's picture are the same boxes in it: each is searched by, and a hit's score is that by the nearest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from index import Box, Snapshot
from model import (
    SCALE,
    WINDOWS,
    ExtractorCard,
    FeatureMap,
    ImageError,
    Limits,
    MapUnavailable,
    Region,
    Shown,
    read_picture,
    show_windows,
    window_preprocessing,
    window_vectors,
)
from search.combine import Query
from search.errors import InvalidQuery, ItemNotFound, RegionsUnavailable
from search.query import Admission, CombinedQuery, ItemQuery, PictureQuery, QueryInput, Term

Vectors = NDArray[np.float32]
WHOLE = Region(0, 0, 1, 1)
COST = SCALE**2  # what a map takes the network, in pictures to be embedded


class MapMaker(Protocol):
    """Computes feature maps: in this process, or in another."""

    async def feature_map(self, pixels: NDArray[np.uint8], scale: int) -> FeatureMap:
        """Return the map of one picture, uint8 [height, width, 3], of ``scale`` times the network's edge.

        Raises EmbedderUnavailable, MapUnavailable.
        """
        ...


class BoxEmbedder:
    """Makes the vectors of boxes in pictures, of the maps that ``maps`` computes."""

    def __init__(self, maps: MapMaker, card: ExtractorCard) -> None:
        self._maps = maps
        self._card = card

    async def embed(self, shown: Shown, boxes: Sequence[Box]) -> Vectors:
        """Return the vectors of boxes in one picture, float32 [boxes, dim]. Raises EmbedderUnavailable, MapUnavailable."""
        found = await self._maps.feature_map(shown.pixels, SCALE)
        if not found.exact:
            raise MapUnavailable(
                f"the embeddings of {self._card.model} are no means of a feature map, so that boxes have none"
            )
        normalized = self._card.normalized
        return await asyncio.to_thread(window_vectors, found, shown.view, boxes, normalized=normalized)


class PartSearch:
    """Makes queries by the parts of pictures; ``admission`` is asked before one is decoded, on one of ``threads``."""

    def __init__(
        self,
        embedder: BoxEmbedder,
        card: ExtractorCard,
        limits: Limits,
        admission: Admission,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._embedder = embedder
        self._card = card
        self._limits = limits
        self._admission = admission
        self._threads = threads

    async def queries(self, inputs: Sequence[QueryInput], snapshot: Snapshot) -> list[Query | Exception]:
        """Return the queries by the parts of each input, or what is wrong with it, in order.

        Raises MapUnavailable, EmbedderUnavailable, and what the admission refuses with.
        """
        queries: list[Query | Exception] = []
        pictures = sum(isinstance(one, PictureQuery) for one in inputs)
        with self._admission.admit(COST * pictures) as admitted:
            for one in inputs:  # the network takes one map at a time
                if isinstance(one, PictureQuery):
                    queries.append(await self._of_picture(one))
                    admitted.finished += COST * isinstance(queries[-1], Query)
                elif isinstance(one, ItemQuery):
                    queries.append(_of_item(one.id, snapshot))
                elif isinstance(one, Exception):
                    queries.append(one)
                else:
                    queries.append(
                        InvalidQuery(
                            "parts: query takes one picture or item; words and lists of examples have no parts"
                        )
                    )
        return queries

    async def _of_picture(self, query: PictureQuery) -> Query | Exception:
        loop = asyncio.get_running_loop()
        shown = await loop.run_in_executor(self._threads, self._show, query)
        if isinstance(shown, Exception):
            return shown
        vectors = await self._embedder.embed(shown, WINDOWS)
        return Query(vectors, vectors[:0], boxes=tuple(_within(box, query) for box in WINDOWS))

    def _show(self, query: PictureQuery) -> Shown | ImageError:
        enough = window_preprocessing(self._card).enough
        try:
            if query.region is None:
                return show_windows(read_picture(query.data, self._limits, enough).image, self._card)
            image = read_picture(query.data, self._limits, query.region.enough(enough)).image
            return show_windows(query.region.crop(image), self._card)
        except ImageError as error:
            return error


def shown_whole(query: QueryInput) -> QueryInput:
    """Return a query whose pictures are shown to the network as those of boxes are: whole, and padded to its square."""

    def whole(term: Term) -> Term:
        return replace(term, region=term.region or WHOLE) if isinstance(term, PictureQuery) else term

    if not isinstance(query, CombinedQuery):
        return whole(query)
    positive, negative = (
        tuple(replace(one, term=whole(one.term)) for one in some) for some in (query.positive, query.negative)
    )
    return CombinedQuery(positive, negative, query.mode)


def check_regions(snapshot: Snapshot) -> None:
    """Raise RegionsUnavailable unless items have vectors of boxes."""
    if snapshot.base.regions is None:
        raise RegionsUnavailable(
            "parts: the items of this catalogue have no vectors of boxes in their pictures; build it with --regions"
        )


def _of_item(item: int, snapshot: Snapshot) -> Query | Exception:
    try:
        check_regions(snapshot)
    except RegionsUnavailable as error:
        return error
    if snapshot.vector(item) is None:
        return ItemNotFound(item)
    (vectors,) = snapshot.region_vectors([item])
    return Query(vectors, vectors[:0], frozenset([item]), boxes=snapshot.boxes)


def _within(box: Box, query: PictureQuery) -> Box:
    """Return a box in what a query shows as one in its whole picture."""
    if query.region is None:
        return box
    x, y, width, height = query.region.values()
    width, height = min(width, 1 - x), min(height, 1 - y)  # what stands out is cut off
    return x + box[0] * width, y + box[1] * height, box[2] * width, box[3] * height
