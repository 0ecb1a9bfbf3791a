"""Changes made to uvicorn 0.54.0, each with its reason; tests/test_patches.py fails when one is no longer needed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 * 1024  # of a URL and headers, and what of the body comes with their end
HEAD_SECONDS = 15
TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain\r\ncontent-length: 0\r\n"
    b"connection: close\r\n\r\n"
)


FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\nretry-after: 1\r\ncontent-length: 0\r\n"
    b"connection: close\r\n\r\n"
)


class _Head:
    """Where a connection is: how much of a head it has sent, and until when it has to be done with it."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._timer: asyncio.TimerHandle | None = None
        self.bytes = 0
        self.begins()

    def begins(self) -> None:
        """Note that a request is expected, or that its head has begun."""
        self.bytes = 0
        if self._timer is None:
            self._timer = self._protocol.loop.call_later(HEAD_SECONDS, self._protocol.transport.close)

    def ends(self) -> None:
        """Note that the head is there, or that the connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def awaited(self) -> bool:
        """Whether the head is not complete."""
        return self._timer is not None


def limit_request_heads() -> None:
    """Close connections that send too large a head (a URL and headers), or none in time.

    uvicorn bounds neither: a URL or headers of any size are kept, and a connection that never finishes them is kept for good.
    For uvicorn 0.54.0; upstream: no issue filed.
    """
    protocol: Any = HttpToolsProtocol
    made, lost, received = protocol.connection_made, protocol.connection_lost, protocol.data_received
    begun, complete = protocol.on_message_begin, protocol.on_headers_complete

    def connection_made(self: Any, transport: Any) -> None:
        made(self, transport)
        self.head = _Head(self)

    def connection_lost(self: Any, error: Exception | None) -> None:
        self.head.ends()
        lost(self, error)

    def data_received(self: Any, data: bytes) -> None:
        if self.head.awaited:
            self.head.bytes += len(data)
        received(self, data)
        if self.head.awaited and self.head.bytes > HEAD_BYTES:
            self.transport.write(TOO_LARGE)
            self.transport.close()

    def on_message_begin(self: Any) -> None:
        begun(self)
        self.head.begins()

    def on_headers_complete(self: Any) -> None:
        self.head.ends()
        complete(self)

    protocol.connection_made, protocol.connection_lost, protocol.data_received = (
        connection_made,
        connection_lost,
        data_received,
    )
    protocol.on_message_begin, protocol.on_headers_complete = on_message_begin, on_headers_complete


def limit_connections(most: int, on_full: Callable[[], None]) -> None:
    """Have at most so many connections open: a new one takes the place of one that is idle, or is answered 503.

    Where no file can be opened any more, uvloop closes new connections without a word to anybody. ``on_full`` is called for
    each connection that was closed or refused. Call it after limit_request_heads.
    For uvicorn 0.54.0; upstream: its limit_concurrency keeps the idle ones, and refuses probes.
    """
    protocol: Any = HttpToolsProtocol
    made, lost = protocol.connection_made, protocol.connection_lost

    def connection_made(self: Any, transport: Any) -> None:
        if len(self.connections) >= most:
            on_full()
            idle = next((one for one in self.connections if one.timeout_keep_alive_task is not None), None)
            if idle is None:
                transport.write(FULL)
                transport.close()
                return
            idle.transport.close()
        made(self, transport)

    def connection_lost(self: Any, error: Exception | None) -> None:
        if self.transport is not None:  # else it was refused
            lost(self, error)

    protocol.connection_made, protocol.connection_lost = connection_made, connection_lost


class _RequestParser(httptools.HttpRequestParser):
    """Parses a request that asks for an upgrade as if it did not: its head is parsed again without those headers."""

    def __init__(self, protocol: Any) -> None:
        super().__init__(protocol)
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.protocol = protocol

    @property
    def asks_for_upgrade(self) -> bool:
        """Whether the head that is there is to be parsed again; CONNECT, which counts as an upgrade too, is not."""
        return bool(self.should_upgrade()) and self.get_method() != b"CONNECT"

    def feed_data(self, data: Any) -> None:
        """Parse some bytes, with as many requests in them as there are."""
        parser, feed = self, super().feed_data
        while True:
            try:
                return feed(data)
            except httptools.HttpParserUpgrade as upgrade:
                if not parser.asks_for_upgrade:
                    raise
                data = parser.head_without_upgrade() + data[upgrade.args[0] :]
                parser = self.protocol.parser = _RequestParser(self.protocol)
                feed = super(_RequestParser, parser).feed_data

    def head_without_upgrade(self) -> bytes:
        """Return the head that was parsed, without what asks for an upgrade."""
        kept = []
        for name, value in self.protocol.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                value = b", ".join(one for one in tokens if one.lower() not in (b"upgrade", b"http2-settings"))
            if name not in (b"upgrade", b"http2-settings"):
                kept.append(name + b": " + value)
        version = self.get_http_version().encode()
        line = self.get_method() + b" " + self.protocol.url + b" HTTP/" + version
        return b"\r\n".join([line, *kept, b"", b""])


def ignore_upgrades() -> None:
    """Answer a request that asks for another protocol (h2c, a websocket) as the HTTP request that it is, body and all.

    httptools takes the body of such a request for the other protocol, so that uvicorn reads it as empty. Java's HttpClient
    asks for h2c by default. Call it before limit_request_heads, whose counts then go by the head that is parsed again.
    For uvicorn 0.54.0; upstream: https://github.com/encode/uvicorn/issues/1501
    """
    protocol: Any = HttpToolsProtocol
    make, headers_complete, message_complete = (
        protocol.__init__,
        protocol.on_headers_complete,
        protocol.on_message_complete,
    )

    def init(self: Any, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        self.parser = _RequestParser(self)

    def on_headers_complete(self: Any) -> None:
        if not self.parser.asks_for_upgrade:
            headers_complete(self)

    def on_message_complete(self: Any) -> None:
        if not self.parser.asks_for_upgrade:
            message_complete(self)

    protocol.__init__ = init
    protocol.on_headers_complete, protocol.on_message_complete = on_headers_complete, on_message_complete


def set_keep_alive(seconds: int) -> None:
    """Keep an idle connection for some seconds: uvicorn's 5 are fewer than a load balancer's 60, which then sends a 502.

    For uvicorn 0.54.0; upstream: an option of its own, which BentoML sets for all of its services at once.
    """
    make: Any = HttpToolsProtocol.__init__

    def init(self: Any, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options)
        self.timeout_keep_alive = seconds

    HttpToolsProtocol.__init__ = init  # type: ignore[method-assign]


Shutdown = Callable[[uvicorn.Server, list[socket.socket]], Awaitable[None]]


def drain_before_shutdown(drain: Shutdown, cancel_seconds: int) -> None:
    """Await ``drain`` before a server of this process shuts down; what then still runs is cancelled after some seconds.

    uvicorn closes each connection that is idle when it stops, though its next request may be on the way.
    For uvicorn 0.54.0; upstream: no issue filed.
    """
    shut_down = uvicorn.Server.shutdown

    async def shutdown(server: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
        server.config.timeout_graceful_shutdown = cancel_seconds
        await drain(server, sockets or [])
        await shut_down(server, sockets)

    uvicorn.Server.shutdown = shutdown  # type: ignore[method-assign, assignment]
