"""How many bytes of request bodies are in memory at once."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import Gauge
from starlette.types import Message, Receive

from server.api.errors import BODY_TOO_LARGE, BUSY, RequestError
from server.telemetry import current_request


class BodyBudget:
    """The bytes of request bodies in this process, no more than ``limit``."""

    def __init__(self, limit: int, gauge: Gauge) -> None:
        self._limit = limit
        self._gauge = gauge
        self._bytes = 0

    def bounded(self, receive: Receive, headers: Mapping[str, str], max_body_bytes: int) -> Receive:
        """Return a request's body as it streams in, counted here, and cut off once it is larger than ``max_body_bytes``.

        Raises RequestError: 413, here already where it says how large it is; as it is read also 429, without room for it.
        """
        too_large = RequestError(BODY_TOO_LARGE, f"the request has more than the {max_body_bytes:,} bytes allowed")
        said = headers.get("content-length", "")
        expected = int(said[:19]) if said.isascii() and said.isdigit() else 0
        if expected > max_body_bytes:
            raise too_large
        size = 0

        async def receive_bounded() -> Message:
            nonlocal size, expected
            message = await receive()
            if count := len(message.get("body", b"")):
                size += count
                if size > max_body_bytes:
                    raise too_large
                self.add(count, expected)
                expected = 0
            return message

        return receive_bounded

    def add(self, count: int, expected: int = 0) -> None:
        """Hold ``count`` bytes more for this request, which expects to have ``expected``. Raises RequestError (429)."""
        if self._bytes and self._bytes + max(count, expected) > self._limit:
            raise RequestError(BUSY, "too many large requests are coming in at once", retry_after=1)
        self._change(count)
        current_request().body_bytes += count

    def release(self) -> None:
        """Release what is held for this request."""
        request = current_request()
        self._change(-request.body_bytes)
        request.body_bytes = 0

    def _change(self, count: int) -> None:
        self._bytes += count
        self._gauge.inc(count)
