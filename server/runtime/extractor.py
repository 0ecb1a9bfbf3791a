"""The Extractor service: runs the network, batch by batch. service.py depends on it; BentoML runs it in its own process."""

from __future__ import annotations

import functools
import logging
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from server.runtime.bootstrap import PACKED, SETTINGS, TRACING, TRAFFIC, catalogue_folder
from server.runtime.early_workers import fork_workers
from server.runtime.process import argument, forget_shared_folder, is_worker, shared_folder

HTTP_SERVICE = "ImageSearch"
SERVING = is_worker() or "serve" in sys.argv  # and not where bentoml builds, for any machine
APART = SETTINGS.extractor_processes > 0 or not SERVING  # the network has processes of its own

if not is_worker():  # before the imports below
    forget_shared_folder()
    counts = {HTTP_SERVICE: SETTINGS.workers, "Extractor": SETTINGS.extractor_processes} if SERVING else {}
    EARLY_WORKERS = fork_workers(counts, shared_folder())

import bentoml  # isort: skip  # after bootstrap, which turns its telemetry off
import numpy as np

from model import Engine, open_verified_engine
from server.runtime.engine_slots import open_current
from server.runtime.network import Network

PROCESSES = SETTINGS.extractor_processes or SETTINGS.workers  # that run the network
THREADS = max(1, SETTINGS.threads // PROCESSES)
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


_EARLY = _open_early() if argument("--service-name") == ("Extractor" if APART else HTTP_SERVICE) else None

from server.runtime.patches.prometheus import allocate_metrics_files

allocate_metrics_files(warn_without_metrics)  # before any module makes a metric

from server.runtime.patches.bentoml import (
    disable_batch_wait,
    disable_bentoml_timeout,
    import_proxy_later,
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
if SERVING:
    queue_output()
if is_worker():
    say_why_it_ends()
    end_with_parent(SETTINGS.shutdown_seconds + STOP_MARGIN)
    disable_bentoml_timeout()
    disable_batch_wait()
    import_proxy_later()
    ignore_upgrades()
    limit_request_heads()
    if argument("--service-name") == HTTP_SERVICE:
        set_keep_alive(SETTINGS.keep_alive_seconds)
        limit_connections(most_connections(), RefusalLog().count)
else:
    restart_dead_workers()
    separate_metrics_folder(lambda: shared_folder() / METRICS)
    supervise(HTTP_SERVICE, SETTINGS.shutdown_seconds, shared_folder(), EARLY_WORKERS)


def open_network() -> Network:
    """Return what runs the network in this process, once its engine is open."""
    return Network(catalogue_folder(), _open, _EARLY or _open_early(), THREADS)


# A line for each call in the log would repeat the HTTP service's line.
QUIET = {"access": {"enabled": False}}


@bentoml.service(
    name="Extractor", workers=max(1, SETTINGS.extractor_processes), traffic=TRAFFIC, tracing=TRACING, logging=QUIET
)
class Extractor:
    """Runs the network, in processes of its own."""

    packed = PACKED

    def __init__(self) -> None:
        self._network = open_network()
        finish_startup()

    # What the dispatcher expects to miss max_latency_ms it drops with a bare 503; admission has refused what is too much.
    @bentoml.api(batchable=True, max_batch_size=SETTINGS.max_batch, max_latency_ms=SETTINGS.timeout * 1000)
    def embed(self, pixels: np.ndarray) -> np.ndarray:
        """Embed uint8 pixels [n, height, width, 3] by the extractor of slot 0; an array [n] of ``row_type``."""
        return self._network.embed(0, pixels)

    @bentoml.api(batchable=True, max_batch_size=SETTINGS.max_batch, max_latency_ms=SETTINGS.timeout * 1000)
    def embed_by_other(self, pixels: np.ndarray) -> np.ndarray:
        """Embed pixels by the extractor of slot 1, to which a migration has led."""
        return self._network.embed(1, pixels)

    @bentoml.api
    def prepare_map(self, slot: int, scale: int) -> str:
        """Open what computes feature maps; return EXACT, ROUGH, or why there are none."""
        return self._network.prepare_map(slot, scale)

    @bentoml.api
    def feature_map(self, pixels: np.ndarray, slot: int, scale: int) -> np.ndarray:
        """Return the feature map of one picture, uint8 [height, width, 3]: float32 [rows, columns, dim]."""
        return self._network.feature_map(pixels, slot, scale)

    @bentoml.api
    def embed_texts(self, texts: list[str], slot: int) -> np.ndarray:
        """Embed texts by the text network of a slot's extractor, which has one: float32 [n, dim]."""
        return self._network.embed_texts(texts, slot)

    @bentoml.api
    def prepare(self) -> str:
        """Open the engine of the extractor that the catalogue has now; return why it cannot be used, or nothing."""
        return self._network.prepare()

    @bentoml.api
    def fault(self) -> str:
        """Return why this cannot be used, or nothing: a file is damaged, or the golden pictures have drifted."""
        return self._network.fault()
