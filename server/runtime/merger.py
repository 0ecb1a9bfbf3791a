"""Merges by itself: when enough was changed, a process of low priority makes the next generation of the index."""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from index import VectorIndexError
from model import LOWEST

log = logging.getLogger("bentoml.bentolens")

CLI = Path(__file__).resolve().parents[2] / "cli.py"
PAUSE_SECONDS = 1.0  # from a change to the look at how much was changed
RETRY_SECONDS = 60.0  # after a merge that failed: the disk may be full


class Merger:
    """Has the catalogue in ``folder`` merged when ``ahead()`` changes are more than ``threshold``; 0 for never.

    Of several processes that want to merge one does; the others find nothing left to do.
    """

    def __init__(self, folder: Path, ahead: Callable[[], int], threshold: int) -> None:
        self._folder = folder
        self._ahead = ahead
        self._threshold = threshold
        self._process: subprocess.Popen[str] | None = None
        self._not_before = 0.0
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()
        atexit.register(self._stop)

    def consider(self) -> None:
        """Look soon whether it is time for a merge, and return at once. Call it after changes."""
        with self._lock:
            if self._threshold and self._timer is None and self._process is None:
                self._timer = threading.Timer(max(PAUSE_SECONDS, self._not_before - time.monotonic()), self._look)
                self._timer.daemon = True
                self._timer.start()

    def _look(self) -> None:
        with self._lock:
            self._timer = None
            try:
                if self._ahead() <= self._threshold:
                    return
            except VectorIndexError as error:
                log.warning("whether to merge changes is not known: %s", error)
                return
            command = [sys.executable, str(CLI), "compact", str(self._folder)]
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self._process.pid, LOWEST)
            threading.Thread(target=self._wait, args=(self._process,), name="merge", daemon=True).start()

    def _wait(self, process: subprocess.Popen[str]) -> None:
        begun = time.monotonic()
        _, errors = process.communicate()
        if process.returncode == 0:
            log.info("changes were merged into the index in %.1f s", time.monotonic() - begun)
        elif "by another process" not in errors:
            self._not_before = time.monotonic() + RETRY_SECONDS
            log.error("changes could not be merged: %s", (errors.strip().splitlines() or ["the process was ended"])[-1])
        self._process = None
        self.consider()  # what was changed meanwhile may be enough again

    def _stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
