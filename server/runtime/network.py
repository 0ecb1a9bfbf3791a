"""What runs the network: the engines of the catalogue, and what is asked of them, in the process that holds them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import numpy as np
from bentoml.exceptions import ServiceUnavailable
from numpy.typing import NDArray

from model import Engine, MapEngine, MapUnavailable, ModelError
from server.runtime.engine_slots import EngineSlots

EXACT, ROUGH = "exact", "rough"  # feature maps whose mean is the embedding, and others
log = logging.getLogger("bentoml.bentolens")


def row_type(dim: int) -> np.dtype[np.void]:
    """Return the type of a row of an answer: a picture's vector, its batch's size, the network's time, and the fingerprint of
    the extractor."""
    return np.dtype(
        [
            *(("vector", np.float32, (dim,)), ("batch_size", np.int32), ("network_ms", np.float32)),
            ("fingerprint", "S64"),
        ]
    )


class Network:
    """Runs the network of the catalogue in ``folder``, on ``threads``; ``first`` is the engine that is being opened.

    Where it cannot be opened, all that is asked of it raises ServiceUnavailable with the reason.
    """

    def __init__(
        self, folder: Path, open_engine: Callable[[Path], Engine], first: Future[tuple[str, Engine]], threads: int
    ) -> None:
        self._fault = ""
        try:
            self._slots = EngineSlots(folder, open_engine, first, threads)
        except ModelError as error:  # in /readyz and in every answer, which a process that dies could not give
            self._fault = str(error)
            log.error("%s", error)
        except Exception:
            self._fault = "the feature extractor cannot be started; the log says why"
            log.exception("the engine cannot be opened")

    def fault(self) -> str:
        """Return why this cannot be used, or nothing: a file is damaged, or the golden pictures have drifted."""
        return self._fault

    def embed(self, slot: int, pixels: NDArray[np.uint8]) -> NDArray[np.void]:
        """Embed pixels [n, height, width, 3] by the extractor of a slot; an array [n] of ``row_type``."""
        self._check()
        try:
            engine = self._slots.get(slot)
        except (ModelError, KeyError) as error:
            raise ServiceUnavailable(f"the model of the catalogue cannot be opened ({error})") from None
        begun = time.perf_counter()
        vectors = engine.embed(pixels)
        rows = np.empty(len(pixels), row_type(vectors.shape[1]))
        rows["vector"] = vectors
        rows["batch_size"] = len(pixels)
        rows["network_ms"] = (time.perf_counter() - begun) * 1000
        rows["fingerprint"] = engine.card.fingerprint.encode()
        return rows

    def prepare_map(self, slot: int, scale: int) -> str:
        """Open what computes feature maps; return EXACT, ROUGH, or why there are none."""
        try:
            return EXACT if self._map_engine(slot, scale).exact else ROUGH
        except MapUnavailable as error:
            return str(error)

    def feature_map(self, pixels: NDArray[np.uint8], slot: int, scale: int) -> NDArray[np.float32]:
        """Return the feature map of one picture, uint8 [height, width, 3]: float32 [rows, columns, dim]."""
        return self._map_engine(slot, scale).compute(pixels).features

    def embed_texts(self, texts: list[str], slot: int) -> NDArray[np.float32]:
        """Embed texts by the text network of a slot's extractor, which has one: float32 [n, dim]."""
        self._check()
        try:
            return self._slots.get_texts(slot).embed(texts)
        except (ModelError, KeyError) as error:
            log.error("texts cannot be embedded: %s", error)
            raise ServiceUnavailable(f"the text network of the catalogue's model cannot be opened ({error})") from None

    def prepare(self) -> str:
        """Open the engine of the extractor that the catalogue has now; return why it cannot be used, or nothing."""
        try:
            self._slots.prepare()
        except ModelError as error:
            log.error("%s", error)
            return str(error)
        return ""

    def _map_engine(self, slot: int, scale: int) -> MapEngine:
        self._check()
        try:
            return self._slots.get_map(slot, scale)
        except MapUnavailable:
            raise
        except (ModelError, KeyError) as error:
            raise ServiceUnavailable(f"the model of the catalogue cannot be opened ({error})") from None

    def _check(self) -> None:
        if self._fault:
            raise ServiceUnavailable(self._fault)
