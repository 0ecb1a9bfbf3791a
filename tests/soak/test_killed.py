"""A process that is killed is started again at once, and only what it was doing is lost. (benchmarks.overload kills more.)"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.serving import APART, Server, eventually, serving
from tests.soak.killing import kill_under_load


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_network_is_killed_under_load_and_comes_back(
    workers: str, catalogue: Path, photos: list[Path], tmp_path: Path
) -> None:
    with serving(catalogue, tmp_path / "log", LENS_WORKERS=workers, **APART) as server:
        told = kill_under_load(server, [photo.read_bytes() for photo in photos[:20]], 3)
        assert told["statuses"].keys() <= {"200", "429", "503"}, told
        assert {json.loads(text)["error"]["code"] for text in told["failed"]} <= {"extractor_unavailable"}
        assert len(told["failed"]) <= 3 * 8  # no more than were being answered
        # BentoML looks every ten seconds. The worst of twenty is two here: benchmarks/overload.py
        assert sorted(told["seconds"])[1] < 5, told["seconds"]
        in_flight = [line for line in metrics(server).splitlines() if line.startswith("bentolens_pictures_in_flight")]
        assert in_flight == ["bentolens_pictures_in_flight 0.0"]


def test_a_worker_that_is_killed_comes_back_and_the_other_goes_on(
    catalogue: Path, photos: list[Path], tmp_path: Path
) -> None:
    with serving(catalogue, tmp_path / "log", LENS_WORKERS="2") as server:
        one, other = server.workers("ImageSearch")
        one.kill()

        def replaced() -> bool:
            there = server.workers("ImageSearch")
            return len(there) == 2 and one not in there

        eventually(replaced, "it has not come back", 20)
        assert other in server.workers("ImageSearch")
        eventually(lambda: all(status(server) == 200 for _ in range(8)), "not both answer", 20)
        time.sleep(0.5)
        assert server.search(photos[0].read_bytes()).status_code == 200


def test_what_a_killed_worker_held_is_held_no_more(catalogue: Path, tmp_path: Path) -> None:
    with serving(catalogue, tmp_path / "log") as server:
        (worker,) = server.workers("ImageSearch")
        where = urlsplit(server.url)
        with socket.create_connection((str(where.hostname), where.port or 0)) as connection:
            head = (
                "POST /query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9999999"
            )
            connection.sendall(head.encode() + b"\r\n\r\n" + bytes(10**6))
            eventually(lambda: "bentolens_request_body_bytes 0.0" not in metrics(server), "nothing is held")
            worker.kill()
        eventually(
            lambda: worker not in server.workers("ImageSearch") and status(server) == 200, "it has not come back", 20
        )
        assert "bentolens_request_body_bytes 0.0" in metrics(server)


def status(server: Server) -> int:
    try:
        return httpx.get(f"{server.url}/readyz", timeout=5).status_code
    except httpx.TransportError:
        return 0


def metrics(server: Server) -> str:
    return httpx.get(f"{server.url}/metrics").text
