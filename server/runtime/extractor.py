"""The Extractor service: runs the network, batch by batch. service.py depends on it; BentoML runs it in its own process."""

from __future__ import annotations

import gc
import logging
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
# What a start imports lives as long as the process: looking through it for garbage takes a fifth of the start.
gc.set_threshold(20_000, 50, 100)

import bentoml
import numpy as np
from bentoml.exceptions import ServiceUnavailable

from commands.pack import MODEL_NAME
from model import Engine, ModelFault, open_proved
from server.runtime.process import keep_no_timers, look_after_workers
from server.runtime.shutdown import answer_before_stopping, argument
from server.telemetry.metrics import log_as
from settings import SettingsFault, read_settings

log = logging.getLogger("bentoml.bentolens")

try:
    SETTINGS = read_settings()
except SettingsFault as fault:
    raise SystemExit(f"error: {fault}") from None

# Without LENS_CATALOGUE the catalogue is the one packed with the bento. BentoML finds a model only on a class.
PACKED = None if SETTINGS.catalogue else bentoml.models.BentoModel(f"{MODEL_NAME}:latest")
if PACKED is not None and PACKED.stored is None:
    raise SystemExit(
        "error: no catalogue to serve: set LENS_CATALOGUE=DIR, or pack one first with: python cli.py pack DIR"
    )
# For the door's calls to the Extractor: past the door's own timeout, which is told in our own words.
TRAFFIC = {"timeout": SETTINGS.timeout + 10}

# BentoML's own tracing; in its configuration file it would stand under each service, and not at the top.
TRACING: dict[str, Any] = {}
if SETTINGS.traces:
    TRACING["exporter_type"] = "otlp"
    TRACING["sample_rate"] = SETTINGS.trace_share
    TRACING["otlp"] = {"protocol": "http", "endpoint": SETTINGS.traces}


def is_worker() -> bool:
    """Whether this process is one that BentoML has started to run a service, and not the one that starts them."""
    return argument("--service-name") is not None


def settle() -> None:
    """Say that the start is over: what there is now stays, and what requests leave behind is looked for again."""
    gc.freeze()
    gc.set_threshold(700, 10, 10)


def catalogue_folder() -> Path:
    """The catalogue that is to be served."""
    return SETTINGS.catalogue or Path(PACKED.stored.path)  # type: ignore[union-attr]


def _open_early() -> Future[Engine]:
    """Open the engine while this process, as BentoML's worker, still imports: compiling a graph needs no GIL."""
    threads = max(1, SETTINGS.threads // SETTINGS.extractor_workers)
    opener = ThreadPoolExecutor(1, thread_name_prefix="open")
    return opener.submit(open_proved, catalogue_folder() / "extractor", SETTINGS.engine, threads)


_EARLY = _open_early() if argument("--service-name") == "Extractor" else None
answer_before_stopping("ImageSearch", SETTINGS.stop)
log_as(SETTINGS.log)
keep_no_timers() if is_worker() else look_after_workers()


# A line for each call in the log would say what the door's line says already.
QUIET = {"access": {"enabled": False}}


@bentoml.service(name="Extractor", workers=SETTINGS.extractor_workers, traffic=TRAFFIC, tracing=TRACING, logging=QUIET)
class Extractor:
    """Runs the network; the only place that does."""

    packed = PACKED

    def __init__(self) -> None:
        self._fault = ""
        try:
            self._engine = (_EARLY or _open_early()).result()
        except ModelFault as fault:  # told by /readyz and by every answer, which a process that dies could not
            self._fault = str(fault)
            log.error("%s", fault)
        except Exception:
            self._fault = "the feature extractor cannot be started; the log says why"
            log.exception("the engine cannot be opened")
        settle()

    # What the dispatcher expects to miss max_latency_ms it drops with a bare 503; the door has refused what is too much.
    @bentoml.api(batchable=True, max_batch_size=SETTINGS.max_batch, max_latency_ms=SETTINGS.timeout * 1000)
    def embed(self, pixels: np.ndarray) -> np.ndarray:
        """Unit vectors of uint8 pixels [n, height, width, 3], and two columns more, float32 [n, dim + 2].

        They are the batch's size, and the milliseconds for which the network ran.
        """
        if self._fault:
            raise ServiceUnavailable(self._fault)
        begun = time.perf_counter()
        vectors = self._engine.embed(pixels)
        facts = [len(pixels), (time.perf_counter() - begun) * 1000]
        return np.hstack([vectors, np.full((len(pixels), 2), facts, np.float32)])

    @bentoml.api
    def fault(self) -> str:
        """Why this cannot be used, or nothing: a file is damaged, or the golden pictures have drifted."""
        return self._fault
