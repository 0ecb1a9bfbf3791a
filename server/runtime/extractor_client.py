"""Calls from the HTTP door to the Extractor service, made steady.

BentoML 1.4.39's client closes its shared session every 100 calls and every 300 s while other calls are still in flight,
which fails 5 to 10 % of them under load (upstream issue 5540); and it keeps idle connections longer than the server
does. Its batcher holds a request back for as long as requests lately waited on average, so that a minute of heavy load
makes a lone request wait for seconds afterwards, with the network idle (docs/decisions/0007). All of it is mended here and
nowhere else; tests/test_embedding_client.py notices when upstream has changed.
"""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from bentoml._internal.marshal.dispatcher import Optimizer
from bentoml.exceptions import BentoMLException, ServiceUnavailable
from numpy.typing import NDArray

from server.api.errors import NOT_READY, RequestFault
from server.telemetry.metrics import BATCH_PICTURES, STEP_SECONDS

PROBE_SECONDS = 5
ATTEMPTS = 2  # embedding has no side effect, so a connection that was closed under a call is worth one more


def batch_without_waiting() -> None:
    """Have BentoML's batcher start a batch as soon as the network is free; what arrives meanwhile is the next one."""
    Optimizer.wait = property(lambda self: 0.0, lambda self, value: None)  # type: ignore[assignment]


def _observe(seconds: float, rows: NDArray[np.float32]) -> None:
    """Tell the metrics how long one call waited for the network, and how long the network ran for it."""
    ran = float(rows[:, -1].max()) / 1000
    STEP_SECONDS.labels("network").observe(ran)
    STEP_SECONDS.labels("wait").observe(max(0.0, seconds - ran))
    for size in rows[:, -2].tolist():
        BATCH_PICTURES.observe(size)


class EmbeddingClient:
    """The batched embedding of the Extractor service, as one awaitable."""

    def __init__(self, extractor: Callable[[], Any]) -> None:
        self._extractor = extractor  # BentoML connects a service to its dependency only once it has been made

    @functools.cached_property
    def _call(self) -> Any:
        call = self._extractor().to_async
        if (sessions := getattr(call, "_session_manager", None)) is not None:  # none when both run in one process
            sessions.max_requests = math.inf
            sessions.max_age = math.inf
        return call

    async def embed(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], list[int]]:
        """Unit vectors, float32 [n, dim], of pixels [n, height, width, 3], and the batch size each was embedded in.

        Raises RequestFault (503) when the Extractor does not answer.
        """
        import aiohttp  # slow, and of the processes that import this module only the door's calls

        for attempt in range(1, ATTEMPTS + 1):
            try:
                begun = time.perf_counter()
                rows = await self._call.embed(pixels)
                _observe(time.perf_counter() - begun, rows)
                return rows[:, :-2], [int(size) for size in rows[:, -2]]
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if attempt == ATTEMPTS:
                    raise RequestFault(NOT_READY, "the feature extractor closed the connection") from error
            except (TimeoutError, aiohttp.ClientError, BentoMLException) as error:
                # BentoML keeps the reason of a 5xx to itself.
                reason = await self.fault() if isinstance(error, ServiceUnavailable) else None
                raise RequestFault(NOT_READY, reason or "the feature extractor did not answer") from error
        raise AssertionError("unreachable")

    async def fault(self) -> str | None:
        """Why the Extractor cannot be used, or None."""
        import aiohttp

        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return await self._call.fault() or None
        except (TimeoutError, aiohttp.ClientError, BentoMLException):
            return "the feature extractor does not answer yet"
