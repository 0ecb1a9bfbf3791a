"""Duplicates over HTTP: a process of low priority compares the pictures, and requests read what it has found so far."""

from __future__ import annotations

import asyncio
import atexit
import logging
import math
import os
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

from copies import PAIRS, DuplicateFinder, Group, Wanted
from index import Catalogue
from model import LOWEST
from server.api.duplicate_schemas import DuplicatesAnswer, DuplicatesFields, duplicates_answer
from server.runtime.merger import CLI
from settings import Settings

RETRY_SECONDS = 30.0  # from the start of a comparison that failed to the next
log = logging.getLogger("bentoml.bentolens")


class DuplicateReader:
    """Reads the duplicates of ``catalogue``; pairs are in its folder, or in ``shared`` where that cannot be written."""

    def __init__(self, catalogue: Catalogue, shared: Path) -> None:
        self._catalogue = catalogue
        self._pairs = (catalogue.folder if os.access(catalogue.folder, os.W_OK) else shared) / PAIRS
        self._process: subprocess.Popen[str] | None = None
        self._started = -math.inf
        self._lock = threading.Lock()
        self._grouped: tuple[object, list[Group]] | None = None
        atexit.register(self._stop)

    async def read(self, fields: DuplicatesFields, settings: Settings) -> DuplicatesAnswer:
        """Return a page of groups of what has been compared, and have the rest compared.

        Raises InvalidFilter, DamagedIndex, DiskFull, and RequestError for a page that is larger than is allowed.
        """
        return await asyncio.to_thread(self._read, fields, fields.wanted(settings))

    def _read(self, fields: DuplicatesFields, wanted: Wanted) -> DuplicatesAnswer:
        with self._lock, closing(DuplicateFinder(self._catalogue, self._pairs)) as finder:
            compared = finder.compared()
            if compared.done < compared.total:
                self._start()
            asked = fields.model_dump_json(exclude={"offset", "limit"})
            state = (self._catalogue.snapshot(), compared, asked)
            if self._grouped is None or self._grouped[0] != state:
                self._grouped = (state, finder.groups(wanted, fields.where))
            groups = self._grouped[1]
        page = groups[fields.offset : fields.offset + fields.limit]
        return duplicates_answer(page, len(groups), compared)

    def _start(self) -> None:
        """Have the pictures compared, unless they are already; of several processes that do so one goes on."""
        if self._process is not None:
            failed = self._process.poll()
            if failed is None or (failed and time.monotonic() < self._started + RETRY_SECONDS):
                return
        self._started = time.monotonic()
        command = [sys.executable, str(CLI), "duplicates", str(self._catalogue.folder), "--pairs", str(self._pairs)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, LOWEST)
        threading.Thread(target=_wait, args=(self._process,), name="duplicates", daemon=True).start()

    def _stop(self) -> None:
        if self._process is not None:
            self._process.terminate()


def _wait(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate()
    if process.returncode > 0 and "another process" not in errors:
        log.error("pictures could not be compared: %s", (errors.strip().splitlines() or ["no reason given"])[-1])
