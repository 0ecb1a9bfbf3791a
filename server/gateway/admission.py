"""Admission control: what could not be served in time is refused before any work is done for it.

Work ahead is counted, and divided by the rate at which work was finished lately while there was any; by Little's law that
is how long a newcomer would wait. Each process counts its own part of both, so that several share one network fairly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from search import Admitted
from server.api.errors import BUSY, RequestError

MEMORY_SECONDS = 3.0  # over which the rate is taken: a few batches of a large network
UNMEASURED = 64  # pieces that are let in while no more than that were finished: the first ones take longer


class QueueAdmission:
    """Lets work in while what is ahead of it takes no longer than ``max_seconds``; ``what`` it is, in the plural."""

    def __init__(self, max_seconds: float, what: str, gauge: Gauge | None = None) -> None:
        self._max_seconds = max_seconds
        self._what = what
        self._gauge = gauge
        self._inside = 0
        self._measured = 0
        self._done = 0.0
        self._busy = 0.0
        self._last = time.monotonic()

    @property
    def wait(self) -> float:
        """Seconds that the work inside will still take, by the rate of late."""
        self._forget()
        if self._measured < UNMEASURED:
            return 0.0 if self._inside < UNMEASURED else self._max_seconds + 1
        return self._inside * self._busy / max(self._done, 1e-9)

    @contextmanager
    def admit(self, count: int) -> Iterator[Admitted]:
        """Let ``count`` pieces of work in until the context ends. Raises RequestError (429) when too much is ahead.

        What is not ``finished`` at the end turned out to be no work, or was cancelled.
        """
        if count and self._inside and (wait := self.wait) > self._max_seconds:
            raise RequestError(
                BUSY,
                f"as much work as {self._inside} {self._what} take is under way already",
                retry_after=max(1, math.ceil(wait)),
            )
        self._forget()
        self._change(count)
        admitted = Admitted()
        try:
            yield admitted
        finally:
            self._forget()
            self._done += admitted.finished
            self._measured += admitted.finished
            self._change(-count)

    def reset(self) -> None:
        """Forget the rate: what did the work has failed, and says nothing of what will do it next."""
        self._done = self._busy = 0.0
        self._measured = 0

    def _change(self, count: int) -> None:
        self._inside += count
        if self._gauge is not None:
            self._gauge.inc(count)

    def _forget(self) -> None:
        """Count the time since the last call, if there was work to do, and let older counts fade."""
        now = time.monotonic()
        passed, self._last = now - self._last, now
        if self._inside:
            kept = math.exp(-passed / MEMORY_SECONDS)
            self._done *= kept
            self._busy = self._busy * kept + passed
