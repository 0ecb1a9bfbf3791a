"""Cache embeddings by the SHA-256 of the pictures' bytes, so that the same picture is embedded once.

A picture that comes again while it is being embedded waits for that and is not embedded twice.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from search.query import Embedding, PictureQuery

INLINE_BYTES = 2**20  # what takes a millisecond to hash; more is hashed on a thread


class CacheCounts(NamedTuple):
    """How the embeddings of some pictures were had: from the cache, from a request in flight, or by computing them."""

    cached: int
    shared: int
    computed: int


@dataclass(frozen=True, slots=True)
class Computed:
    """What became of some pictures, in order, and the milliseconds that decoding them took."""

    embeddings: Sequence[Embedding | Exception]
    decode_ms: float


class Looked(NamedTuple):
    """What the cache gives for some pictures, in order, and how it was had; ``decode_ms`` is of those computed."""

    embeddings: list[Embedding | Exception]
    decode_ms: float
    counts: CacheCounts


Compute = Callable[[Sequence[PictureQuery]], Awaitable[Computed]]


class EmbeddingCache:
    """The last ``size`` embeddings that ``compute`` gave; errors are not kept."""

    def __init__(self, compute: Compute, size: int) -> None:
        self._compute = compute
        self._size = size
        self._kept: OrderedDict[bytes, Embedding] = OrderedDict()
        self._in_flight: dict[bytes, tuple[asyncio.Task[Computed], int]] = {}

    async def embed(self, pictures: Sequence[PictureQuery]) -> Looked:
        """Return the pictures' embeddings or errors, in order. Raises what ``compute`` raises."""
        large = sum(len(one.data) for one in pictures) > INLINE_BYTES
        keys = await asyncio.to_thread(_digests, pictures) if large else _digests(pictures)
        found: dict[bytes, Embedding | Exception] = {key: hit for key in keys if (hit := self._get(key))}
        missing = {key: picture for key, picture in zip(keys, pictures, strict=True) if key not in found}
        fresh = {key: picture for key, picture in missing.items() if key not in self._in_flight}
        started = self._start(fresh) if fresh else None
        cached = sum(key in found for key in keys)
        counts = CacheCounts(cached, len(keys) - cached - len(fresh), len(fresh))
        # A request that is cancelled must not take the work from others that wait for it.
        running = {key: self._in_flight[key] for key in missing}
        for key, (task, place) in running.items():
            found[key] = (await asyncio.shield(task)).embeddings[place]
        return Looked([found[key] for key in keys], started.result().decode_ms if started else 0.0, counts)

    def _get(self, key: bytes) -> Embedding | None:
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return replace(self._kept[key], batch_size=None)

    def _start(self, fresh: dict[bytes, PictureQuery]) -> asyncio.Task[Computed]:
        task = asyncio.ensure_future(self._compute(list(fresh.values())))
        self._in_flight |= {key: (task, place) for place, key in enumerate(fresh)}
        task.add_done_callback(lambda done: self._finish(list(fresh), done))
        return task

    def _finish(self, keys: list[bytes], task: asyncio.Task[Computed]) -> None:
        for key in keys:
            del self._in_flight[key]
        if task.cancelled() or task.exception():  # those who wait get it, if any still do
            return
        for key, one in zip(keys, task.result().embeddings, strict=True):
            if isinstance(one, Embedding) and self._size:
                self._kept[key] = replace(one, vector=one.vector.copy())  # not a view that keeps its whole batch
        while len(self._kept) > self._size:
            self._kept.popitem(last=False)


def _digests(pictures: Sequence[PictureQuery]) -> list[bytes]:
    boxes = [b"" if one.region is None else repr(one.region.values()).encode() for one in pictures]
    both = zip(pictures, boxes, strict=True)
    return [hashlib.sha256(one.data).digest() + box + b"signed" * one.signed for one, box in both]
