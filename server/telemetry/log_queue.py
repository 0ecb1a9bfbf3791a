"""Log lines on their way to stdout and stderr: queued, so that nothing waits for whoever reads them, or does not."""

from __future__ import annotations

import atexit
import io
import logging
import os
import queue
import sys
import threading
import time
from contextlib import suppress

log = logging.getLogger("bentoml.bentolens")
LONGEST_QUEUE = 10_000  # pieces of text, mostly lines
LAST_SECONDS = 1.0  # for which a process that ends waits for its last lines to be read


class QueuedStream(io.TextIOBase):
    """A text stream whose writes never wait: a thread writes them to a file descriptor, and what is too much is dropped."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._queue: queue.Queue[str] = queue.Queue(LONGEST_QUEUE)
        self._dropped = 0
        threading.Thread(target=self._write_all, name="log", daemon=True).start()
        atexit.register(self._finish)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of what is written."""
        return "utf-8"

    def fileno(self) -> int:
        """Return the file descriptor behind the stream."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether a terminal shows it."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Return that it can be written to."""
        return True

    def write(self, text: str) -> int:
        """Queue some text, or count it as dropped."""
        try:
            self._queue.put_nowait(text)
        except queue.Full:
            self._dropped += 1
        return len(text)

    def _write_all(self) -> None:
        while True:
            text = self._queue.get()
            dropped, self._dropped = self._dropped, 0
            self._write(text)
            if dropped:
                log.warning("%d log lines were dropped, since nobody read them", dropped)
            self._queue.task_done()

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:  # its reader has gone
                return

    def _finish(self) -> None:
        until = time.monotonic() + LAST_SECONDS
        while self._queue.unfinished_tasks and time.monotonic() < until:
            time.sleep(0.01)


def queue_output() -> None:
    """Have all that this process writes to stdout and stderr go through queues; once its log handlers are set up."""
    streams = {sys.stdout: QueuedStream(1), sys.stderr: QueuedStream(2)}
    for logger in (logging.root, *logging.root.manager.loggerDict.values()):
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, logging.StreamHandler) and handler.stream in streams:
                handler.setStream(streams[handler.stream])
    for stream in streams:
        with suppress(ValueError):
            stream.flush()
    sys.stdout, sys.stderr = streams.values()
