"""More than can be served: some are refused at once and told when to come back, and nothing else suffers."""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest

from tests.serving import Server, eventually, serving


def rush(server: Server, pictures: list[bytes], count: int) -> list[httpx.Response]:
    """So many searches at once, each with a picture that was never sent."""

    async def together() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=count)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:
            files = [{"images": pictures[n % len(pictures)] + os.urandom(8)} for n in range(count)]
            return await asyncio.gather(*(client.post(f"{server.url}/search", files=one) for one in files))

    return asyncio.run(together())


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_rush_is_refused_in_part_and_nothing_is_left_of_it(
    workers: str, catalogue: Path, photos: list[Path], tmp_path: Path
) -> None:
    pictures = [photo.read_bytes() for photo in photos[:20]]
    with serving(catalogue, tmp_path / "log", LENS_WORKERS=workers, LENS_MAX_QUEUE_SECONDS="0.2") as server:
        for _ in range(3):
            rush(server, pictures, 64)  # until the rate is known
        answers = rush(server, pictures, 400)
        statuses = Counter(answer.status_code for answer in answers)
        assert statuses.keys() == {200, 429}, statuses
        refused = [answer for answer in answers if answer.status_code == 429]
        assert {answer.json()["error"]["code"] for answer in refused} == {"busy"}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert server.search(pictures[0] + b"afterwards", k=1).status_code == 200
        assert "bentolens_pictures_in_flight 0.0" in httpx.get(f"{server.url}/metrics").text
        assert "bentolens_request_body_bytes 0.0" in httpx.get(f"{server.url}/metrics").text


def test_what_needs_no_embedding_is_answered_all_the_while(catalogue: Path, photos: list[Path], tmp_path: Path) -> None:
    pictures = [photo.read_bytes() for photo in photos[:20]]
    with serving(catalogue, tmp_path / "log", LENS_MAX_QUEUE_SECONDS="0.05") as server:
        server.search(pictures[0])
        for _ in range(3):
            rush(server, pictures, 64)

        async def during() -> tuple[list[int], list[int]]:
            async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=300)) as client:
                fresh = [
                    client.post(f"{server.url}/search", files={"images": pictures[n % 20] + os.urandom(8)})
                    for n in range(200)
                ]
                known = [client.post(f"{server.url}/search", files={"images": pictures[0]}) for _ in range(20)]
                by_id = [client.post(f"{server.url}/query", json={"queries": [{"id": 1}]}) for _ in range(20)]
                answers = [answer.status_code for answer in await asyncio.gather(*fresh, *known, *by_id)]
                return answers[:200], answers[200:]

        fresh, others = asyncio.run(during())
        assert 429 in fresh
        assert set(others) == {200}


def test_bodies_are_held_up_to_a_limit(catalogue: Path, photos: list[Path], tmp_path: Path) -> None:
    limits = {"LENS_MAX_REQUEST_BYTES": str(8 * 2**20), "LENS_MAX_HELD_BYTES": str(8 * 2**20)}
    with serving(catalogue, tmp_path / "log", **limits) as server:
        image = photos[0].read_bytes()

        async def slowly(until: asyncio.Event) -> int:
            async def body() -> AsyncGenerator[bytes, None]:
                yield b'--b\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n' + image
                yield bytes(4 * 2**20)
                await until.wait()
                yield b"\r\n--b--\r\n"

            async with httpx.AsyncClient(timeout=60) as client:
                form = {"content-type": "multipart/form-data; boundary=b"}
                return (await client.post(f"{server.url}/search", content=body(), headers=form)).status_code

        def held() -> float:
            (line,) = re.findall(
                r"^bentolens_request_body_bytes (.*)", httpx.get(f"{server.url}/metrics").text, re.MULTILINE
            )
            return float(line)

        async def together() -> tuple[int, list[int]]:
            answered = asyncio.Event()
            slow = asyncio.create_task(slowly(answered))
            await asyncio.to_thread(eventually, lambda: held() > 4 * 2**20, "nothing is held")
            large = await asyncio.to_thread(server.search, image + bytes(5 * 2**20))
            small = await asyncio.to_thread(server.search, image)
            answered.set()
            return await slow, [large.status_code, small.status_code]

        assert asyncio.run(together()) == (200, [429, 200])


def test_a_thousand_idle_connections_keep_nobody_out(server: Server, photos: list[Path]) -> None:
    import socket
    from urllib.parse import urlsplit

    where = urlsplit(server.url)
    idle = [socket.create_connection((str(where.hostname), where.port or 0)) for _ in range(1000)]
    try:
        for connection in idle[::2]:
            connection.sendall(b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Le")
        assert server.search(photos[0].read_bytes(), k=1).status_code == 200
    finally:
        for connection in idle:
            connection.close()
