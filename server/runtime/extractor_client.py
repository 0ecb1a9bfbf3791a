"""Calls from the HTTP service to the Extractor service; patches/bentoml.py keeps BentoML's client steady."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
from bentoml.exceptions import BentoMLException, ServiceUnavailable
from numpy.typing import NDArray

from model import ExtractorCard, FeatureMap, MapUnavailable
from search import EmbedderUnavailable, Embedding
from server.runtime.patches.bentoml import keep_client_sessions
from server.telemetry.metrics import BATCH_PICTURES, STEP_SECONDS

PROBE_SECONDS = 5
CHANGE_SECONDS, PAUSE_SECONDS = 10.0, 0.2  # for which a change of the model is waited for, and between looks
ATTEMPTS = 2  # no call has a side effect, so a connection that was closed under a call is worth one more


class NoAnswer(Exception):
    """The Extractor did not answer."""


class ConnectionClosed(NoAnswer):
    """The Extractor closed the connection, each time."""


class ExtractorClient:
    """The embedder that asks the Extractor, in a process of its own or in this one, which joins pictures into batches.

    ``extractor`` gives what has its API, with coroutines; it is asked once, when the first call is made.
    """

    def __init__(self, extractor: Callable[[], Any]) -> None:
        self._extractor = extractor

    @functools.cached_property
    def _call(self) -> Any:
        call = self._extractor()
        keep_client_sessions(call)
        return call

    def of(self, card: ExtractorCard, slot: int) -> ModelEmbedder:
        """Return what embeds by the extractor with this card, which has a slot."""
        return ModelEmbedder(self, card.fingerprint, slot)

    async def rows(self, pixels: NDArray[np.uint8], slot: int) -> NDArray[np.void]:
        """Embed pictures, uint8 [n, height, width, 3]; the rows that the Extractor gives. Raises EmbedderUnavailable."""
        embed = self._call.embed_by_other if slot else self._call.embed
        try:
            rows, seconds = await _attempt(lambda: embed(pixels))
        except ConnectionClosed as error:
            raise EmbedderUnavailable("the feature extractor closed the connection") from error
        except NoAnswer as error:
            # BentoML keeps the reason of a 5xx to itself.
            reason = await self.fault() if isinstance(error.__cause__, ServiceUnavailable) else None
            raise EmbedderUnavailable(reason or "the feature extractor did not answer") from error
        _observe(seconds, rows)
        return rows

    async def feature_map(self, pixels: NDArray[np.uint8], slot: int, scale: int) -> FeatureMap:
        """Return the feature map of one picture, uint8 [height, width, 3]. Raises MapUnavailable or EmbedderUnavailable."""
        try:
            kind, _ = await _attempt(lambda: self._call.prepare_map(slot, scale))
            if kind not in ("exact", "rough"):
                raise MapUnavailable(kind)
            found, _ = await _attempt(lambda: self._call.feature_map(pixels, slot, scale))
        except NoAnswer as error:
            raise EmbedderUnavailable("the feature extractor did not answer") from error
        return FeatureMap(found, kind == "exact")

    async def texts(self, texts: Sequence[str], slot: int) -> NDArray[np.float32]:
        """Embed texts: float32 [n, dim]. Raises EmbedderUnavailable."""
        try:
            return np.asarray((await _attempt(lambda: self._call.embed_texts(list(texts), slot)))[0], np.float32)
        except NoAnswer as error:
            raise EmbedderUnavailable("the text network did not answer; the log says why") from error

    async def prepare(self) -> str | None:
        """Have the Extractor open the extractor that the catalogue has now; return why it cannot, or None."""
        try:
            return (await _attempt(lambda: self._call.prepare()))[0] or None
        except NoAnswer:
            return "the feature extractor does not answer"

    async def fault(self) -> str | None:
        """Return why the Extractor cannot be used, or None."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return (await _attempt(lambda: self._call.fault()))[0] or None
        except (TimeoutError, NoAnswer):
            return "the feature extractor does not answer yet"


async def _attempt(call: Callable[[], Awaitable[Any]]) -> tuple[Any, float]:
    """Await a call, and once more where its connection was closed; what it gave, and the seconds that it took.

    Raises NoAnswer where it gave nothing.
    """
    for _ in range(ATTEMPTS):
        begun = time.perf_counter()
        try:
            return await call(), time.perf_counter() - begun
        except (TimeoutError, BentoMLException) as error:
            raise NoAnswer from error
        except Exception as error:
            import aiohttp  # slow, and only calls to another process raise its errors

            if not isinstance(error, aiohttp.ClientError):
                raise
            if not isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
                raise NoAnswer from error
    raise ConnectionClosed


class ModelEmbedder:
    """The embedder of one extractor, which computes its feature maps too.

    What another one has embedded, in the moments when the model changes, is asked anew.
    """

    def __init__(self, client: ExtractorClient, fingerprint: str, slot: int) -> None:
        self._client = client
        self._fingerprint = fingerprint.encode()
        self._slot = slot

    async def embed(self, pixels: NDArray[np.uint8]) -> list[Embedding]:
        """Embed pictures, uint8 [n, height, width, 3], in order. Raises EmbedderUnavailable."""
        until = time.monotonic() + CHANGE_SECONDS
        while True:
            rows = await self._client.rows(pixels, self._slot)
            if (rows["fingerprint"] == self._fingerprint).all():
                break
            if time.monotonic() > until:
                raise EmbedderUnavailable("the feature extractor has another model than the catalogue")
            await asyncio.sleep(PAUSE_SECONDS)
        return [
            Embedding(vector, size) for vector, size in zip(rows["vector"], rows["batch_size"].tolist(), strict=True)
        ]

    async def feature_map(self, pixels: NDArray[np.uint8], scale: int) -> FeatureMap:
        """Return the feature map of one picture, uint8 [height, width, 3]. Raises MapUnavailable or EmbedderUnavailable."""
        return await self._client.feature_map(pixels, self._slot, scale)

    async def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of texts, float32 [n, dim], of unit length. Raises EmbedderUnavailable."""
        return await self._client.texts(texts, self._slot)


def _observe(seconds: float, rows: NDArray[np.void]) -> None:
    """Count in the metrics how long one call waited for the network, and how long the network ran for it."""
    ran = float(rows["network_ms"].max()) / 1000
    STEP_SECONDS.labels("network").observe(ran)
    STEP_SECONDS.labels("wait").observe(max(0.0, seconds - ran))
    for size in rows["batch_size"].tolist():
        BATCH_PICTURES.observe(size)
