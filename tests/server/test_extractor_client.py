"""Calls to the Extractor: what comes back, what is tried again, and what is a named error."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import aiohttp
import bentoml
import numpy as np
import pytest

from search import EmbedderUnavailable, Embedding
from server.runtime.extractor_client import ExtractorClient, ModelEmbedder

PIXELS = np.zeros((2, 4, 4, 3), np.uint8)


def answering(*outcomes: Any, faults: list[Exception] | None = None) -> ExtractorClient:
    """A client whose calls end one after the other as told."""
    remaining = iter(outcomes)

    async def embed(pixels: np.ndarray) -> np.ndarray:
        if isinstance(outcome := next(remaining), Exception):
            raise outcome
        return outcome

    async def fault() -> str:
        if faults and (outcome := faults.pop(0)):
            raise outcome
        return ""

    return ExtractorClient(lambda: SimpleNamespace(embed=embed, fault=fault))


def rows_of(fingerprint: bytes) -> np.ndarray:
    return np.array(
        [([0.6, 0.8], 3, 20, fingerprint), ([1, 0], 2, 20, fingerprint)],
        [*(("vector", np.float32, (2,)), ("batch_size", np.int32), ("network_ms", np.float32)), ("fingerprint", "S64")],
    )


OURS = b"5" * 64
ROWS = rows_of(OURS)


def embedded(client: ExtractorClient) -> list[Embedding]:
    return asyncio.run(ModelEmbedder(client, OURS.decode(), 0).embed(PIXELS))


def values(embeddings: list[Embedding]) -> list[object]:
    return [(one.vector.tolist(), one.batch_size) for one in embeddings]


def test_each_picture_gets_its_vector_and_batch_size() -> None:
    found = values(embedded(answering(ROWS)))
    assert found == [(pytest.approx([0.6, 0.8]), 3), ([1, 0], 2)]


def test_what_another_model_has_embedded_is_asked_for_again() -> None:
    assert len(embedded(answering(rows_of(b"0" * 64), ROWS))) == 2


def test_a_connection_closed_under_a_call_is_tried_once_more() -> None:
    closed = aiohttp.ServerDisconnectedError()
    assert len(embedded(answering(closed, ROWS))) == 2
    with pytest.raises(EmbedderUnavailable, match="closed the connection"):
        embedded(answering(closed, closed, ROWS))


def test_a_connection_that_is_closed_does_not_make_it_unready() -> None:
    """/readyz answered 503 where its connection had just been closed: 5 s after the last call."""
    closed = aiohttp.ServerDisconnectedError()
    assert asyncio.run(answering(faults=[closed]).fault()) is None
    assert asyncio.run(answering(faults=[closed, closed]).fault()) == "the feature extractor does not answer yet"


@pytest.mark.parametrize(
    "error", [bentoml.exceptions.ServiceUnavailable("busy"), TimeoutError(), aiohttp.ClientPayloadError()]
)
def test_an_extractor_that_does_not_answer_is_a_named_error(error: Exception) -> None:
    with pytest.raises(EmbedderUnavailable, match="did not answer"):
        embedded(answering(error, ROWS))
