"""A server that gets SIGTERM answers all that it has taken, and is gone within ten seconds."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.serving import Server, eventually, serving
from tests.soak.hammer import FORM, HEAD, hammer

STOP_SECONDS = 10
SOON = {"LENS_SHUTDOWN_SECONDS": "2"}  # far from the limit, so that a busy machine does not decide


def stop(server: Server) -> float:
    """Send SIGTERM, as every container runtime does; the seconds until the last process is gone."""
    start = time.monotonic()
    family = [server.main, *server.main.children(recursive=True)]
    server.main.terminate()
    _, alive = psutil.wait_procs(family, timeout=90)
    assert not alive
    return time.monotonic() - start


def connected(server: Server) -> int:
    """How many connections this process has to the server."""
    there = psutil.Process().net_connections("tcp")
    return sum(
        one.status == "ESTABLISHED" and one.raddr.port == urlsplit(server.url).port for one in there if one.raddr
    )


@pytest.mark.soak  # and make container-test runs it, on an image
@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_request_is_lost_under_load(workers: str, catalogue: Path, photos: list[Path], tmp_path: Path) -> None:
    pictures = [path.read_bytes() for path in photos[:20]]
    took = []
    with serving(catalogue, tmp_path / "log", LENS_WORKERS=workers, LENS_MAX_QUEUE_SECONDS="30") as server:
        counts = hammer(server.url, pictures, 32, lambda: took.append(stop(server)), seconds=2)
    assert took[0] < STOP_SECONDS
    assert counts["lost"] == 0, counts
    assert counts["refused"] == 32, counts
    assert counts["late"] > 0, counts
    assert counts["200"] + counts["refused"] == counts.total() - counts["late"], counts


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_request_that_needs_a_new_connection_inside_is_answered(
    workers: str, catalogue: Path, photos: list[Path], tmp_path: Path
) -> None:
    pictures = [path.read_bytes() for path in photos]
    # As long as it takes: how fast the machine is does not matter here.
    patient = {"LENS_WORKERS": workers, "LENS_SHUTDOWN_SECONDS": "60", "LENS_MAX_QUEUE_SECONDS": "60"}
    with serving(catalogue, tmp_path / "log", **patient) as server, ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(server.search, *pictures, *pictures[:5]) for _ in range(4)]
        eventually(lambda: connected(server) == 4, "no client has connected")
        stop(server)
        assert [answer.result().status_code for answer in answers] == [200] * 4


def test_a_worker_that_is_told_to_stop_leaves_the_others_at_work(
    catalogue: Path, photos: list[Path], tmp_path: Path
) -> None:
    with serving(catalogue, tmp_path / "log", LENS_WORKERS="2") as server:
        one = server.workers("ImageSearch")[0]
        one.terminate()
        eventually(lambda: one not in server.workers("ImageSearch"), "the worker is still there")
        for photo in photos[:5]:
            assert server.search(photo.read_bytes()).status_code == 200


def test_what_cannot_be_answered_in_time_is_told_so(catalogue: Path, photos: list[Path], tmp_path: Path) -> None:
    told = {"LENS_SHUTDOWN_SECONDS": "0", "LENS_MAX_IMAGES": "1000", "LENS_CACHE": "0"}
    with serving(catalogue, tmp_path / "log", **told) as server, ThreadPoolExecutor(1) as pool:
        pictures = [path.read_bytes() + bytes([turn]) for turn in range(16) for path in photos]  # seconds of work
        asked = pool.submit(server.search, *pictures)
        eventually(lambda: connected(server) == 1, "no client has connected")
        assert stop(server) < STOP_SECONDS
        answer = asked.result()
    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == "there was no answer before the service stopped"


def test_an_open_page_does_not_hold_it_up(catalogue: Path, tmp_path: Path) -> None:
    with serving(catalogue, tmp_path / "log", **SOON) as server:
        httpx.get(f"{server.url}/demo/", timeout=60)
        opened = threading.Event()

        def stay() -> None:
            try:
                with httpx.stream("GET", f"{server.url}/demo/gradio_api/heartbeat/a", timeout=60) as stream:
                    assert stream.status_code == 200
                    opened.set()
                    for _ in stream.iter_bytes():
                        pass
            except httpx.HTTPError:
                pass

        page = threading.Thread(target=stay)
        page.start()
        assert opened.wait(30)
        assert stop(server) < STOP_SECONDS
        page.join()


def test_a_client_that_never_ends_its_request_does_not_hold_it_up(catalogue: Path, tmp_path: Path) -> None:
    with serving(catalogue, tmp_path / "log", **SOON) as server:
        address = urlsplit(server.url)
        with socket.create_connection((str(address.hostname), address.port or 0)) as client:
            head = f"POST /search HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM['content-type']}\r\nContent-Length: 999\r\n\r\n"
            client.sendall(head.encode() + HEAD)
            time.sleep(0.5)
            assert stop(server) < STOP_SECONDS
