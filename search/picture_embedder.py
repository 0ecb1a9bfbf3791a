"""From pictures to embeddings: cached, admitted, decoded on threads, and embedded together."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model import ImageError, Limits, Preprocessing, read_picture, sign
from search.embedding_cache import CacheCounts, Computed, EmbeddingCache
from search.query import Admission, Embedder, Embedding, PictureQuery, merge_errors, milliseconds_since


class PictureEmbedder:
    """Embeds pictures by ``embedder``, the last ``cache_size`` of them once; ``admission`` is asked before they are decoded.

    They are decoded on ``threads``. ``on_embed`` is called with how each request's embeddings were had.
    """

    def __init__(
        self,
        embedder: Embedder,
        preprocessing: Preprocessing,
        limits: Limits,
        *,
        cache_size: int,
        threads: ThreadPoolExecutor,
        admission: Admission,
        on_embed: Callable[[CacheCounts], None] | None,
    ) -> None:
        self._embedder = embedder
        self._admission = admission
        self._on_embed = on_embed
        self._cache = EmbeddingCache(self._decode_and_embed, cache_size)
        self._decode = functools.partial(decode, preprocessing=preprocessing, limits=limits)
        self._threads = threads

    async def embed(self, pictures: Sequence[PictureQuery]) -> tuple[list[Embedding | Exception], dict[str, float]]:
        """Return each picture's embedding or error, in order, and the milliseconds of each step.

        Raises EmbedderUnavailable, and what the admission refuses with.
        """
        begun = time.perf_counter()
        found = await self._cache.embed(pictures)
        if self._on_embed:
            self._on_embed(found.counts)
        decode = min(found.decode_ms, milliseconds_since(begun))
        return found.embeddings, {"decode": decode, "embed": round(milliseconds_since(begun) - decode, 3)}

    async def _decode_and_embed(self, pictures: Sequence[PictureQuery]) -> Computed:
        with self._admission.admit(len(pictures)) as admitted:
            try:
                begun = time.perf_counter()
                loop = asyncio.get_running_loop()
                read = await asyncio.gather(
                    *(loop.run_in_executor(self._threads, self._decode, one) for one in pictures)
                )
                decode_ms = milliseconds_since(begun)
                good = [one for one in read if not isinstance(one, ImageError)]
                found = await self._embedder.embed(np.stack([one.pixels for one in good])) if good else []
                embeddings = [
                    one if shown.luma is None else replace(one, luma=shown.luma)
                    for one, shown in zip(found, good, strict=True)
                ]
            except BaseException:
                self._admission.reset()
                raise
            admitted.finished = len(embeddings)
        return Computed(merge_errors(read, embeddings), decode_ms)


class Decoded(NamedTuple):
    """A picture as a network takes it, uint8 [height, width, 3], and its signature, where that was asked for."""

    pixels: NDArray[np.uint8]
    luma: NDArray[np.uint8] | None


def decode(query: PictureQuery, preprocessing: Preprocessing, limits: Limits) -> Decoded | ImageError:
    """Decode one picture, or return what is wrong with it."""
    try:
        if query.region is None:
            image, look = read_picture(query.data, limits, preprocessing.enough).image, preprocessing
        else:
            enough = query.region.enough(preprocessing.enough)
            image, look = query.region.crop(read_picture(query.data, limits, enough).image), preprocessing.padded()
        return Decoded(look.to_pixels(image), sign(image) if query.signed else None)
    except ImageError as error:
        return error
