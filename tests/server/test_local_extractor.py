"""The network in the process that takes requests: what is joined into batches, and who gets which rows."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from server.runtime.local_extractor import Batcher
from tests.contained import IMAGE
from tests.serving import serving


def pictures(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)


class Slow:
    """A network whose rows are the first bytes of its pictures; it waits for each batch to be let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Semaphore(0)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        self.gate.acquire()
        self.batches.append(pixels[:, 0, 0, 0].tolist())
        if 13 in self.batches[-1]:
            raise ValueError("unlucky")
        return pixels[:, 0, 0, 0].astype(np.float32)


@pytest.fixture
def network() -> Slow:
    return Slow()


async def until(condition) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


def batcher_of(network: Slow, most: int = 4) -> Batcher:
    return Batcher(network, most, ThreadPoolExecutor(1))


def test_what_arrives_while_the_network_runs_is_its_next_batch(network: Slow) -> None:
    async def play() -> list[list[float]]:
        batcher = batcher_of(network)
        calls = [asyncio.create_task(batcher.embed(pictures(1)))]
        await asyncio.sleep(0)
        calls += [asyncio.create_task(batcher.embed(pictures(*some))) for some in ((2,), (3, 4), (5, 6))]
        await asyncio.sleep(0.01)
        network.gate.release(9)
        return [rows.tolist() for rows in await asyncio.gather(*calls)]

    assert asyncio.run(play()) == [[1], [2], [3, 4], [5, 6]]
    assert network.batches == [[1], [2, 3, 4], [5, 6]]


def test_more_than_a_batch_holds_comes_in_several_and_in_order(network: Slow) -> None:
    network.gate.release(9)
    rows = asyncio.run(batcher_of(network).embed(pictures(*range(10))))
    assert rows.tolist() == list(range(10))
    assert network.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_who_no_longer_waits_is_left_out(network: Slow) -> None:
    async def play() -> list[float]:
        batcher = batcher_of(network)
        first, gone, last = (asyncio.create_task(batcher.embed(pictures(n))) for n in (1, 2, 3))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0)
        network.gate.release(9)
        await first
        return (await last).tolist()

    assert asyncio.run(play()) == [3]
    assert [2] not in network.batches


def test_an_error_is_that_of_its_batch_alone(network: Slow) -> None:
    async def play() -> list[object]:
        batcher = batcher_of(network)
        calls = [asyncio.create_task(batcher.embed(pictures(13)))]
        await asyncio.sleep(0.01)
        calls.append(asyncio.create_task(batcher.embed(pictures(7))))
        network.gate.release(9)
        return [str(one) for one in await asyncio.gather(*calls, return_exceptions=True)]

    assert asyncio.run(play()) == ["unlucky", "[7.]"]


@pytest.mark.skipif(IMAGE is not None, reason="it looks at the machine's own processes")
@pytest.mark.parametrize(("workers", "apart"), [("1", "0"), ("2", "1")])
def test_the_network_has_a_process_of_its_own_where_several_take_requests(
    workers: str, apart: str, catalogue: Path, photos: list[Path], tmp_path: Path
) -> None:
    with serving(catalogue, tmp_path / "log", LENS_WORKERS=workers, LENS_DEMO="0") as server:
        assert server.search(photos[0].read_bytes(), k=1).status_code == 200
        assert len(server.workers("Extractor")) == int(apart)
        assert len(server.workers("ImageSearch")) == int(workers)
        loaded = [
            any("openvino" in one.path for one in worker.memory_maps()) for worker in server.workers("ImageSearch")
        ]
        assert loaded == [apart == "0"] * int(workers)
        assert len(psutil.Process(server.pid).children(recursive=True)) >= int(workers) + int(apart)
