"""Connections: heads without end, upgrades that are not made, and how long an idle one is kept."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from server.runtime.patches.uvicorn import HEAD_BYTES, HEAD_SECONDS
from tests.serving import Server, serving


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


BODY = b'{"queries": [{"id": 1}], "k": 1}'
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\nUpgrade: h2c\r\n"
WEBSOCKET = b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n"


def query(upgrade: bytes, *, chunked: bool = False, more: bytes = b"") -> bytes:
    """POST /query as bytes, with headers that ask for an upgrade."""
    head = b"POST /query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + upgrade + more
    if not chunked:
        return head + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:5], BODY[5:], b""))
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks


def answers(connection: socket.socket, count: int) -> list[int]:
    """The statuses of the next answers on a connection."""
    statuses = []
    for _ in range(count):
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        answer.read()
        statuses.append(answer.status)
    return statuses


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("upgrade", [H2C, WEBSOCKET, b"Connection: upgrade\r\nUpgrade: TLS/1.0, foo/2\r\n"])
def test_an_upgrade_is_ignored_and_the_body_read(upgrade: bytes, chunked: bool, server: Server) -> None:
    one = query(upgrade, chunked=chunked)
    with connected(server) as connection:
        connection.sendall(one)
        assert answers(connection, 1) == [200]
        connection.sendall(one)  # on the same connection, and then as a client without upgrades does
        assert answers(connection, 1) == [200]
        connection.sendall(query(b"", chunked=chunked))
        assert answers(connection, 1) == [200]
    with connected(server) as connection:
        for at in range(0, len(one), 7):  # as a slow network brings it
            connection.sendall(one[at : at + 7])
            time.sleep(0.002)
        assert answers(connection, 1) == [200]
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + upgrade + b"\r\n")
        assert answers(connection, 1) == [200]
    with connected(server) as connection:
        connection.sendall(query(upgrade, chunked=chunked, more=b"Expect: 100-continue\r\n"))
        assert answers(connection, 1) == [200]
        connection.sendall(b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answers(connection, 1)[0] in (400, 404)
    assert httpx.get(f"{server.url}/livez").status_code == 200


def test_requests_with_upgrades_that_come_together_are_answered_one_by_one(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(query(H2C) * 20)
        received = b""
        while received.count(b"HTTP/1.1 200") < 20:
            part = connection.recv(65536)
            assert part, received[-1000:]
            received += part


def test_an_idle_connection_is_kept_for_as_long_as_the_setting_says(
    server: Server, catalogue: Path, tmp_path: Path
) -> None:
    short_lived = serving(catalogue, tmp_path / "log", LENS_KEEP_ALIVE_SECONDS="2", LENS_DEMO="0")
    with short_lived as short, connected(server) as kept, connected(short) as closed:
        for connection in (kept, closed):
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert answers(connection, 1) == [200]
        begun = time.monotonic()
        assert closed.recv(100) == b""
        assert 1.5 < time.monotonic() - begun < 4.5
        time.sleep(max(0.0, 7 - (time.monotonic() - begun)))  # past uvicorn's own 5 s
        kept.sendall(query(b""))
        assert answers(kept, 1) == [200]
