"""From pictures to embeddings: cached, admitted, decoded on threads, and embedded together."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from model import ImageError, Limits, Preprocessing, read_picture
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
        self._decode = functools.partial(to_pixels, preprocessing=preprocessing, limits=limits)
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
                pixels = [one for one in read if not isinstance(one, ImageError)]
                embeddings = await self._embedder.embed(np.stack(pixels)) if pixels else []
            except BaseException:
                self._admission.reset()
                raise
            admitted.finished = len(embeddings)
        return Computed(merge_errors(read, embeddings), decode_ms)


def to_pixels(query: PictureQuery, preprocessing: Preprocessing, limits: Limits) -> NDArray[np.uint8] | ImageError:
    """Decode one picture to the pixels that a network takes, uint8 [height, width, 3], or return what is wrong with it."""
    try:
        if query.region is None:
            return preprocessing.to_pixels(read_picture(query.data, limits, preprocessing.enough).image)
        enough = query.region.enough(preprocessing.enough)
        return preprocessing.padded().to_pixels(query.region.crop(read_picture(query.data, limits, enough).image))
    except ImageError as error:
        return error
