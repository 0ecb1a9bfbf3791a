"""How much is taken in at once: what could not be served in time is refused before any work is done for it.

Work ahead is counted, and divided by the rate at which work was finished lately while there was any; by Little's law that
is how long a newcomer would wait. Each process counts its own part of both, so that several share one network fairly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import Gauge
from starlette.types import Message, Receive

from server.api.errors import BODY_TOO_LARGE, BUSY, RequestFault
from server.telemetry.metrics import this_visit

MEMORY_SECONDS = 3.0  # over which the rate is taken: a few batches of a large network
UNMEASURED = 64  # pieces that are let in while no more than that were finished: the first ones take longer


class Admission:
    """Lets work in while what is ahead of it takes no longer than ``max_wait`` seconds."""

    def __init__(self, max_wait: float, what: str, gauge: Gauge | None = None) -> None:
        self._max_wait = max_wait
        self._what = what
        self._gauge = gauge
        self._inside = 0
        self._measured = 0
        self._done = 0.0
        self._busy = 0.0
        self._last = time.monotonic()

    @property
    def wait(self) -> float:
        """Seconds that the work inside will still take, as far as can be told."""
        self._forget()
        if self._measured < UNMEASURED:
            return 0.0 if self._inside < UNMEASURED else self._max_wait + 1
        return self._inside * self._busy / max(self._done, 1e-9)

    def enter(self, count: int) -> None:
        """Take in ``count`` pieces of work; each has to leave again. Raises RequestFault (429) when too much is ahead."""
        if count and self._inside and (wait := self.wait) > self._max_wait:
            raise RequestFault(
                BUSY, f"{self._inside} {self._what} are being worked on already", retry_after=max(1, math.ceil(wait))
            )
        self._forget()
        self._change(count)

    def leave(self, count: int, done: int) -> None:
        """Note that of ``count`` pieces ``done`` are finished; the others turned out to be no work, or were given up."""
        self._forget()
        self._done += done
        self._measured += done
        self._change(-count)

    def start_anew(self) -> None:
        """Forget the rate: what did the work has failed, and says nothing of what will do it next."""
        self._done = self._busy = 0.0
        self._measured = 0

    @contextmanager
    def inside(self, count: int) -> Iterator[None]:
        """Enter, and leave at the end. Raises RequestFault (429)."""
        self.enter(count)
        try:
            yield
        finally:
            self.leave(count, count)

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


class Held:
    """The bytes of request bodies in this process, no more than ``limit``."""

    def __init__(self, limit: int, gauge: Gauge) -> None:
        self._limit = limit
        self._gauge = gauge
        self._bytes = 0

    def bounded(self, receive: Receive, headers: Mapping[str, str], most: int) -> Receive:
        """A request's body as it streams in, held here, and given up as soon as it is larger than ``most`` bytes.

        Raises RequestFault: 413, here already where it says how large it is; as it is read also 429, without room for it.
        """
        too_large = RequestFault(BODY_TOO_LARGE, f"the request has more than the {most:,} bytes allowed")
        said = headers.get("content-length", "")
        expected = int(said[:19]) if said.isascii() and said.isdigit() else 0
        if expected > most:
            raise too_large
        size = 0

        async def receive_bounded() -> Message:
            nonlocal size, expected
            message = await receive()
            if count := len(message.get("body", b"")):
                size += count
                if size > most:
                    raise too_large
                self.add(count, expected)
                expected = 0
            return message

        return receive_bounded

    def add(self, count: int, expected: int = 0) -> None:
        """Hold ``count`` bytes more for this request, which expects to have ``expected``. Raises RequestFault (429)."""
        if self._bytes and self._bytes + max(count, expected) > self._limit:
            raise RequestFault(BUSY, "too many large requests are coming in at once", retry_after=1)
        self._change(count)
        this_visit().held += count

    def free(self) -> None:
        """Let go of what is held for this request."""
        visit = this_visit()
        self._change(-visit.held)
        visit.held = 0

    def _change(self, count: int) -> None:
        self._bytes += count
        self._gauge.inc(count)
