"""The Extractor service: runs the network, batch by batch. service.py depends on it; BentoML runs it in its own process."""

from __future__ import annotations

import functools
import logging
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from server.runtime.bootstrap import PACKED, SETTINGS, TRACING, TRAFFIC, catalogue_folder

import bentoml  # isort: skip  # after bootstrap, which turns its telemetry off
import numpy as np
from bentoml.exceptions import ServiceUnavailable

from model import Engine, MapEngine, MapUnavailable, ModelError, open_verified_engine
from server.runtime.engine_slots import EngineSlots, open_current
from server.runtime.process import argument, forget_shared_folder, is_worker, shared_folder

HTTP_SERVICE = "ImageSearch"
EXACT, ROUGH = "exact", "rough"  # feature maps whose mean is the embedding, and others
THREADS = max(1, SETTINGS.threads // SETTINGS.extractor_workers)
log = logging.getLogger("bentoml.bentolens")


def _open(folder: Path) -> Engine:
    return open_verified_engine(folder, SETTINGS.engine, THREADS)


def _open_early() -> Future[tuple[str, Engine]]:
    """Open the engine while this process, as BentoML's worker, still imports: compiling a graph needs no GIL."""
    return ThreadPoolExecutor(1, thread_name_prefix="open").submit(open_current, catalogue_folder(), _open)


@functools.cache
def warn_without_metrics() -> None:
    """Say, once, that there is no room for this process's metrics."""
    log.warning(
        "the disk of %s is full: serving goes on, but new metrics of this process are not seen", shared_folder()
    )


_EARLY = _open_early() if argument("--service-name") == "Extractor" else None

from server.runtime.patches.prometheus import allocate_metrics_files

allocate_metrics_files(warn_without_metrics)  # before any module makes a metric

from server.runtime.patches.bentoml import (
    disable_batch_wait,
    disable_bentoml_timeout,
    restart_dead_workers,
    separate_metrics_folder,
)
from server.runtime.patches.uvicorn import ignore_upgrades, limit_connections, limit_request_heads, set_keep_alive
from server.runtime.process import METRICS, end_with_parent, finish_startup, most_connections, say_why_it_ends
from server.runtime.shutdown import install_graceful_shutdown
from server.runtime.supervisor import STOP_MARGIN, supervise
from server.telemetry import RefusalLog, configure_logging, queue_output

install_graceful_shutdown(HTTP_SERVICE, SETTINGS.shutdown_seconds)
configure_logging(SETTINGS.log)
if is_worker() or "serve" in sys.argv:  # and not where bentoml builds
    queue_output()
if is_worker():
    say_why_it_ends()
    end_with_parent(SETTINGS.shutdown_seconds + STOP_MARGIN)
    disable_bentoml_timeout()
    disable_batch_wait()
    ignore_upgrades()
    limit_request_heads()
    if argument("--service-name") == HTTP_SERVICE:
        set_keep_alive(SETTINGS.keep_alive_seconds)
        limit_connections(most_connections(), RefusalLog().count)
else:
    forget_shared_folder()
    restart_dead_workers()
    separate_metrics_folder(lambda: shared_folder() / METRICS)
    supervise(HTTP_SERVICE, SETTINGS.shutdown_seconds, shared_folder())


def row_type(dim: int) -> np.dtype[np.void]:
    """Return the type of a row of the Extractor's answer: a picture's vector, its batch's size, the network's time, and the
    fingerprint of the extractor."""
    return np.dtype(
        [
            *(("vector", np.float32, (dim,)), ("batch_size", np.int32), ("network_ms", np.float32)),
            ("fingerprint", "S64"),
        ]
    )


# A line for each call in the log would repeat the HTTP service's line.
QUIET = {"access": {"enabled": False}}


@bentoml.service(name="Extractor", workers=SETTINGS.extractor_workers, traffic=TRAFFIC, tracing=TRACING, logging=QUIET)
class Extractor:
    """Runs the network; the only place that does."""

    packed = PACKED

    def __init__(self) -> None:
        self._fault = ""
        try:
            self._slots = EngineSlots(catalogue_folder(), _open, _EARLY or _open_early(), THREADS)
        except ModelError as error:  # in /readyz and in every answer, which a process that dies could not give
            self._fault = str(error)
            log.error("%s", error)
        except Exception:
            self._fault = "the feature extractor cannot be started; the log says why"
            log.exception("the engine cannot be opened")
        finish_startup()

    # What the dispatcher expects to miss max_latency_ms it drops with a bare 503; admission has refused what is too much.
    @bentoml.api(batchable=True, max_batch_size=SETTINGS.max_batch, max_latency_ms=SETTINGS.timeout * 1000)
    def embed(self, pixels: np.ndarray) -> np.ndarray:
        """Embed uint8 pixels [n, height, width, 3] by the extractor of slot 0; an array [n] of ``row_type``."""
        return self._embed(0, pixels)

    @bentoml.api(batchable=True, max_batch_size=SETTINGS.max_batch, max_latency_ms=SETTINGS.timeout * 1000)
    def embed_by_other(self, pixels: np.ndarray) -> np.ndarray:
        """Embed pixels by the extractor of slot 1, to which a migration has led."""
        return self._embed(1, pixels)

    @bentoml.api
    def prepare_map(self, slot: int, scale: int) -> str:
        """Open what computes feature maps; return EXACT, ROUGH, or why there are none."""
        try:
            return EXACT if self._map_engine(slot, scale).exact else ROUGH
        except MapUnavailable as error:
            return str(error)

    @bentoml.api
    def feature_map(self, pixels: np.ndarray, slot: int, scale: int) -> np.ndarray:
        """Return the feature map of one picture, uint8 [height, width, 3]: float32 [rows, columns, dim]."""
        return self._map_engine(slot, scale).compute(pixels).features

    @bentoml.api
    def embed_texts(self, texts: list[str], slot: int) -> np.ndarray:
        """Embed texts by the text network of a slot's extractor, which has one: float32 [n, dim]."""
        if self._fault:
            raise ServiceUnavailable(self._fault)
        try:
            return self._slots.get_texts(slot).embed(texts)
        except (ModelError, KeyError) as error:
            log.error("texts cannot be embedded: %s", error)
            raise ServiceUnavailable(f"the text network of the catalogue's model cannot be opened ({error})") from None

    def _map_engine(self, slot: int, scale: int) -> MapEngine:
        if self._fault:
            raise ServiceUnavailable(self._fault)
        try:
            return self._slots.get_map(slot, scale)
        except MapUnavailable:
            raise
        except (ModelError, KeyError) as error:
            raise ServiceUnavailable(f"the model of the catalogue cannot be opened ({error})") from None

    @bentoml.api
    def prepare(self) -> str:
        """Open the engine of the extractor that the catalogue has now; return why it cannot be used, or nothing."""
        try:
            self._slots.prepare()
        except ModelError as error:
            log.error("%s", error)
            return str(error)
        return ""

    def _embed(self, slot: int, pixels: np.ndarray) -> np.ndarray:
        if self._fault:
            raise ServiceUnavailable(self._fault)
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

    @bentoml.api
    def fault(self) -> str:
        """Return why this cannot be used, or nothing: a file is damaged, or the golden pictures have drifted."""
        return self._fault
