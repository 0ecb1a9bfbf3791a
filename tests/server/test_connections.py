"""What never becomes a request: heads without end, and connections that say nothing."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import httpx
import pytest

from server.runtime.patches.uvicorn import HEAD_BYTES, HEAD_SECONDS
from tests.serving import Server


@contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    where = urlsplit(server.url)
    with socket.create_connection((str(where.hostname), where.port or 0), timeout=HEAD_SECONDS + 15) as connection:
        yield connection


@pytest.mark.parametrize(
    "begin", [b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ", b"GET /", b"POST /search HTTP/1.1\r\n"]
)
def test_a_head_without_end_is_not_kept(begin: bytes, server: Server) -> None:
    before = sum(worker.memory_info().rss for worker in server.workers("ImageSearch"))
    with connected(server) as connection:
        sent = len(begin)
        connection.sendall(begin)
        line = b"a" * 1000 if not begin.endswith(b"\r\n") else b"X-A: " + b"a" * 993 + b"\r\n"
        with suppress(OSError):  # reset or broken, as the system has it
            while sent < 100 * HEAD_BYTES:
                connection.sendall(line * 64)
                sent += 64_000
                time.sleep(0.02)  # so that a server that has to wait for the CPU is not outrun
    assert sent < 40 * HEAD_BYTES
    after = sum(worker.memory_info().rss for worker in server.workers("ImageSearch"))
    assert after - before < 20 * 2**20
    assert httpx.get(f"{server.url}/livez", headers={"x-long": "a" * 30_000}).status_code == 200


def test_connections_that_do_not_finish_a_head_are_closed(server: Server) -> None:
    with connected(server) as silent, connected(server) as half, connected(server) as second:
        half.sendall(b"POST /query HTTP/1.1\r\nHost: localhost\r\nAuth")
        second.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /livez HT")
        assert second.recv(5) == b"HTTP/"
        for connection in (silent, half, second):
            while connection.recv(4096):  # until it is closed
                pass
