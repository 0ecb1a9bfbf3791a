"""The calls to the Extractor: the workaround for BentoML's client is still needed, is in force, and its limits hold."""

from __future__ import annotations

import asyncio
import inspect
import math
from types import SimpleNamespace
from typing import Any

import aiohttp
import bentoml
import numpy as np
import pytest
from _bentoml_impl.client.proxy2 import AsyncClient, SessionManager
from bentoml._internal.marshal.dispatcher import Optimizer

from server.api.errors import RequestError
from server.runtime.extractor_client import EmbeddingClient, disable_batch_wait

PIXELS = np.zeros((2, 4, 4, 3), np.uint8)


def test_upstream_still_closes_a_session_that_is_in_use() -> None:
    """Fails when BentoML mends issue 5540: then embedding_client.py can go back to a plain call."""
    assert bentoml.__version__ == "1.4.39"
    source = inspect.getsource(SessionManager.get_session)
    assert "await self._session.close()" in source
    parameters = inspect.signature(SessionManager.__init__).parameters
    assert (parameters["max_requests"].default, parameters["max_age"].default) == (100, 300.0)


def test_sessions_are_kept() -> None:
    client = AsyncClient("http://127.0.0.1:1", server_ready_timeout=0)
    steady = EmbeddingClient(lambda: SimpleNamespace(to_async=client))
    assert steady._call is client
    assert (client._session_manager.max_requests, client._session_manager.max_age) == (math.inf, math.inf)


def test_upstreams_batcher_still_waits_and_ours_does_not() -> None:
    """Fails when upstream's wait changes: then see whether disable_batch_wait is still needed."""
    assert "self.wait = max(0, _o_w)" in inspect.getsource(Optimizer.trigger_refresh)
    disable_batch_wait()
    optimizer = Optimizer(60)
    for _ in range(20):
        optimizer.log_outbound(n=32, wait=8.0, duration=0.5)
    optimizer.trigger_refresh()  # type: ignore[no-untyped-call]
    assert optimizer.wait == 0


def answering(*outcomes: Any) -> EmbeddingClient:
    """A client whose calls end one after the other as told."""
    remaining = iter(outcomes)

    async def embed(pixels: np.ndarray) -> np.ndarray:
        if isinstance(outcome := next(remaining), Exception):
            raise outcome
        return outcome

    async def fault() -> str:
        return ""

    return EmbeddingClient(lambda: SimpleNamespace(to_async=SimpleNamespace(embed=embed, fault=fault)))


ROWS = np.array([[0.6, 0.8, 3, 20], [1, 0, 2, 20]], np.float32)


def test_vectors_and_batch_sizes_come_apart() -> None:
    vectors, sizes = asyncio.run(answering(ROWS).embed(PIXELS))
    assert vectors.tolist() == ROWS[:, :2].tolist()
    assert sizes == [3, 2]


def test_a_connection_closed_under_a_call_is_tried_once_more() -> None:
    vectors, _ = asyncio.run(answering(aiohttp.ServerDisconnectedError(), ROWS).embed(PIXELS))
    assert len(vectors) == 2
    with pytest.raises(RequestError, match="closed the connection"):
        asyncio.run(answering(aiohttp.ServerDisconnectedError(), aiohttp.ServerDisconnectedError(), ROWS).embed(PIXELS))


@pytest.mark.parametrize(
    "error", [bentoml.exceptions.ServiceUnavailable("busy"), TimeoutError(), aiohttp.ClientPayloadError()]
)
def test_an_extractor_that_does_not_answer_is_a_503(error: Exception) -> None:
    with pytest.raises(RequestError) as raised:
        asyncio.run(answering(error, ROWS).embed(PIXELS))
    assert raised.value.kind.status == 503
