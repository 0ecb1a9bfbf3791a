"""Nothing is kept of requests that were answered, refused or broken off, however many there were."""

from __future__ import annotations

import http.client
import itertools
import socket
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image

from tests.serving import Server, eventually, serving
from tests.soak.breaking import FORM, IMAGES, multipart

THREADS = 8
numbers = itertools.count()


def resident(server: Server) -> float:
    """MB of both services together."""
    workers = [*server.workers("ImageSearch"), *server.workers("Extractor")]
    return sum(worker.memory_info().rss for worker in workers) / 2**20


def settled(server: Server) -> float:
    """The same once it no longer grows: what comes after the first answer (the kernel) has come."""
    now = [resident(server)]

    def stays() -> bool:
        time.sleep(1.5)
        now.append(resident(server))
        return abs(now[-1] - now[-2]) < 0.5

    eventually(stays, f"memory grows without requests: {now}")
    return now[-1]


def send(server: Server, route: str, bodies: list[bytes], statuses: set[int]) -> None:
    where = urlsplit(server.url)

    def work(part: list[bytes]) -> None:
        connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=60)
        for body in part:
            connection.request("POST", route, body, dict([FORM]))
            answer = connection.getresponse()
            answer.read()
            assert answer.status in statuses

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, [bodies[number::THREADS] for number in range(THREADS)]))


@pytest.mark.parametrize("what", ["no route", "text", "picture"])
def test_memory_stays_flat(what: str, catalogue: Path, photos: list[Path], tmp_path: Path) -> None:
    picture = min((photo.read_bytes() for photo in photos), key=len)
    route, count, statuses = {
        "no route": ("/none", 4000, {404}),
        "text": ("/search", 3000, {415}),
        "picture": ("/search", 800, {200, 429}),
    }[what]

    def bodies() -> list[bytes]:
        if what == "no route":
            return [b""] * count
        data = b"text" if what == "text" else picture
        return [multipart([(IMAGES, data + str(next(numbers)).encode())]) for _ in range(count)]

    with serving(catalogue, tmp_path / "log", LENS_CACHE="16", LENS_RECALL_SHARE="0") as server:
        send(server, route, bodies(), statuses)
        before = settled(server)
        send(server, route, bodies(), statuses)
        # BentoML's timers alone would keep 5 KB of each request, and as much again in the process of the network.
        assert (resident(server) - before) * 1024 / count < 2, f"{before:.0f} MB before, {resident(server):.0f} after"


def test_clients_that_go_away_in_the_middle_leave_nothing_behind(server: Server, photos: list[Path]) -> None:
    body = multipart([(IMAGES, photos[0].read_bytes())])
    where = urlsplit(server.url)
    head = f"POST /search HTTP/1.1\r\nHost: localhost\r\n{FORM[0]}: {FORM[1]}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for cut in range(0, len(head + body), (len(head + body)) // 40):
        with socket.create_connection((str(where.hostname), where.port or 0)) as connection:
            connection.sendall((head + body)[:cut])
    for _ in range(10):  # sent whole, and gone before the answer
        with socket.create_connection((str(where.hostname), where.port or 0)) as connection:
            connection.sendall(head + body)
    assert server.search(photos[0].read_bytes(), k=1).status_code == 200


def test_nothing_is_written_to_the_disk(catalogue: Path, photos: list[Path], tmp_path: Path) -> None:
    """A body of many megabytes stays in memory: a full /tmp is no reason to refuse it."""
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as folder,  # BentoML's sockets bear no long path
        serving(catalogue, tmp_path / "log", TMPDIR=folder) as server,
    ):
        before = sum(path.stat().st_blocks for path in Path(folder).rglob("*"))
        large = photos[0].read_bytes() + bytes(20 * 2**20)
        server.search(large)
        facts = [worker.io_counters().write_chars for worker in server.workers("ImageSearch")]
        assert server.search(large + b"1", large + b"2").status_code == 200
        more = [worker.io_counters().write_chars for worker in server.workers("ImageSearch")]
        assert sum(more) - sum(facts) < 2**20
        assert sum(path.stat().st_blocks for path in Path(folder).rglob("*")) - before < 2**11 * 10


def test_a_flood_of_pixels_takes_the_memory_of_one_picture(catalogue: Path, tmp_path: Path) -> None:
    """A file of 200 kilobytes may be of a hundred million pixels; several at once took eight gigabytes."""
    buffer = BytesIO()
    Image.new("I;16", (10_000, 9_000), 7).save(buffer, "PNG")
    with serving(catalogue, tmp_path / "log") as server, ThreadPoolExecutor(5) as pool:
        server.search(buffer.getvalue()[:1000])
        before = settled(server)
        peak = before
        asked = [pool.submit(server.search, buffer.getvalue() + bytes([number])) for number in range(4)]
        while not all(one.done() for one in asked):
            peak = max(peak, resident(server))
            time.sleep(0.01)
        assert [one.result().status_code for one in asked] == [200] * 4
        assert peak - before < 1200
        assert settled(server) - before < 100  # and it is given back
