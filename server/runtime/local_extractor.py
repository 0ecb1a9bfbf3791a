"""The Extractor's calls in the process that takes the requests, where there is but one: batches, without a hop.

Two sleeping processes that wake each other cost a lone request several milliseconds, and a process of its own for the
network some 200 MB.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.runtime.network import Network


class Batcher:
    """Joins what arrives while the network runs into its next batch, of ``most`` pictures at most; nothing else waits."""

    def __init__(
        self, run: Callable[[NDArray[np.uint8]], NDArray[np.void]], most: int, pool: ThreadPoolExecutor
    ) -> None:
        self._run = run
        self._most = most
        self._pool = pool
        self._waiting: collections.deque[tuple[NDArray[np.uint8], asyncio.Future[NDArray[np.void]]]] = (
            collections.deque()
        )
        self._working: asyncio.Task[None] | None = None

    async def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.void]:
        """Run pixels [n, height, width, 3], in several batches where they are more than fit one; the rows, [n]."""
        loop = asyncio.get_running_loop()
        parts = [(pixels[at : at + self._most], loop.create_future()) for at in range(0, len(pixels), self._most)]
        self._waiting.extend(parts)
        if self._working is None or self._working.done():
            self._working = loop.create_task(self._work())
        try:
            return np.concatenate([await future for _, future in parts]) if len(parts) > 1 else await parts[0][1]
        finally:
            for _, future in parts:
                future.cancel()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while taken := list(self._next_batch()):
            pixels = [one for one, _ in taken]
            try:
                rows = await loop.run_in_executor(
                    self._pool, self._run, pixels[0] if len(pixels) == 1 else np.concatenate(pixels)
                )
            except Exception as error:
                for _, future in taken:
                    if not future.done():
                        future.set_exception(error)
                continue
            at = 0
            for one, future in taken:
                if not future.done():
                    future.set_result(rows[at : at + len(one)])
                at += len(one)

    def _next_batch(self) -> Iterator[tuple[NDArray[np.uint8], asyncio.Future[NDArray[np.void]]]]:
        room = self._most
        while self._waiting and len(self._waiting[0][0]) <= room:
            pixels, future = self._waiting.popleft()
            if not future.done():  # whoever waited may be gone
                room -= len(pixels)
                yield pixels, future


class LocalExtractor:
    """The API of the Extractor service over a network in this process."""

    def __init__(self, network: Network, most: int) -> None:
        self._network = network
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._others = ThreadPoolExecutor(1, thread_name_prefix="network-maps")
        self._batchers = [
            Batcher(lambda pixels, slot=slot: network.embed(slot, pixels), most, self._pool)  # type: ignore[misc]
            for slot in (0, 1)
        ]

    async def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.void]:
        """Embed pixels by the extractor of slot 0."""
        return await self._batchers[0].embed(pixels)

    async def embed_by_other(self, pixels: NDArray[np.uint8]) -> NDArray[np.void]:
        """Embed pixels by the extractor of slot 1."""
        return await self._batchers[1].embed(pixels)

    async def fault(self) -> str:
        """Return why the network cannot be used, or nothing."""
        return self._network.fault()

    async def prepare(self) -> str:
        """Open the engine of the extractor that the catalogue has now."""
        return str(await self._in_thread(self._network.prepare))

    async def prepare_map(self, slot: int, scale: int) -> str:
        """Open what computes feature maps."""
        return str(await self._in_thread(self._network.prepare_map, slot, scale))

    async def feature_map(self, pixels: NDArray[np.uint8], slot: int, scale: int) -> NDArray[np.float32]:
        """Return the feature map of one picture."""
        return np.asarray(await self._in_thread(self._network.feature_map, pixels, slot, scale))

    async def embed_texts(self, texts: list[str], slot: int) -> NDArray[np.float32]:
        """Embed texts."""
        return np.asarray(await self._in_thread(self._network.embed_texts, texts, slot))

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._others, work, *arguments)
