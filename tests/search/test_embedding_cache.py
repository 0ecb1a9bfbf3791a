"""The same picture is embedded once: remembered afterwards, and shared while it is being embedded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from search.embedding_cache import Embedded, EmbeddingCache, Work
from server.telemetry.metrics import PICTURES


class Spoiled(Exception):
    """A picture that cannot be read."""


class Network:
    """Stands where decoding and the network are: gives each picture its length, once it is let go on."""

    def __init__(self) -> None:
        self.asked: list[list[bytes]] = []
        self.go_on = asyncio.Event()
        self.broken = False

    async def embed(self, pictures: Sequence[bytes]) -> Work:
        self.asked.append(list(pictures))
        await self.go_on.wait()
        if self.broken:
            raise RuntimeError("the network is gone")
        batch = np.array([[len(picture)] for picture in pictures], np.float32)
        done = [
            Spoiled(str(picture)) if picture == b"bad" else Embedded(vector, len(pictures))
            for picture, vector in zip(pictures, batch, strict=True)
        ]
        return Work(done, 1.5)


def values(work: Work) -> list[object]:
    return [one if isinstance(one, Exception) else (one.vector.tolist(), one.batch_size) for one in work.done]


class Doorkeeper:
    """A gate that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def enter(self, count: int) -> None:
        self.told.append(("enter", count))

    def leave(self, count: int, done: int) -> None:
        self.told.append(("leave", count, done))

    def start_anew(self) -> None:
        self.told.append(("start anew",))


def counted(how: str) -> float:
    return float(PICTURES.labels(how)._value.get())


def test_a_picture_seen_before_is_remembered() -> None:
    async def scenario() -> None:
        network = Network()
        network.go_on.set()
        cache = EmbeddingCache(network.embed, 10)
        before = counted("remembered")
        assert values(await cache.embed([b"a", b"bb", b"a"])) == [([1], 2), ([2], 2), ([1], 2)]
        again = await cache.embed([b"bb", b"ccc"])
        assert values(again) == [([2], None), ([3], 1)]
        assert network.asked == [[b"a", b"bb"], [b"ccc"]]
        assert counted("remembered") == before + 1
        assert (await cache.embed([b"a"])).decode_ms == 0

    asyncio.run(scenario())


def test_a_picture_in_flight_is_shared_and_the_answers_stay_in_order() -> None:
    async def scenario() -> None:
        network = Network()
        cache = EmbeddingCache(network.embed, 10)
        first = asyncio.create_task(cache.embed([b"a", b"bad"]))
        await asyncio.sleep(0)
        second = asyncio.create_task(cache.embed([b"ccc", b"bad", b"a"]))
        await asyncio.sleep(0)
        network.go_on.set()
        one, other = values(await first), values(await second)
        assert network.asked == [[b"a", b"bad"], [b"ccc"]]
        assert one[0] == ([1], 2)
        assert other == [([3], 1), one[1], ([1], 2)]
        assert isinstance(one[1], Spoiled)

    asyncio.run(scenario())


def test_a_request_that_is_given_up_takes_the_work_from_no_other() -> None:
    async def scenario() -> None:
        network = Network()
        cache = EmbeddingCache(network.embed, 10)
        first = asyncio.create_task(cache.embed([b"a"]))
        await asyncio.sleep(0)
        second = asyncio.create_task(cache.embed([b"a"]))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        network.go_on.set()
        assert values(await second) == [([1], 1)]
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(scenario())


def test_faults_and_failures_are_not_remembered() -> None:
    async def scenario() -> None:
        network = Network()
        network.go_on.set()
        cache = EmbeddingCache(network.embed, 10)
        for _ in range(2):
            assert isinstance((await cache.embed([b"bad"])).done[0], Spoiled)
        network.broken = True
        with pytest.raises(RuntimeError, match="is gone"):
            await cache.embed([b"a"])
        network.broken = False
        assert values(await cache.embed([b"a"])) == [([1], 1)]
        assert network.asked == [[b"bad"], [b"bad"], [b"a"], [b"a"]]

    asyncio.run(scenario())


def test_the_gate_is_told_of_work_and_of_its_failure() -> None:
    async def scenario() -> None:
        network, gate = Network(), Doorkeeper()
        network.go_on.set()
        cache = EmbeddingCache(network.embed, 10, gate)
        await cache.embed([b"a", b"bad"])
        await cache.embed([b"a"])  # which is no work
        network.broken = True
        with pytest.raises(RuntimeError, match="is gone"):
            await cache.embed([b"ccc"])
        assert gate.told == [("enter", 2), ("leave", 2, 1), ("enter", 1), ("leave", 1, 0), ("start anew",)]

    asyncio.run(scenario())


@pytest.mark.parametrize(("size", "asked"), [(2, 4), (0, 6), (10, 3)])
def test_no_more_are_remembered_than_allowed_and_the_oldest_goes_first(size: int, asked: int) -> None:
    async def scenario() -> None:
        network = Network()
        network.go_on.set()
        cache = EmbeddingCache(network.embed, size)
        for picture in (b"1", b"22", b"1", b"333", b"1", b"22"):  # 1 is asked for again and again
            await cache.embed([picture])
        assert len(network.asked) == asked
        if size == 2:
            assert [one for (one,) in network.asked] == [b"1", b"22", b"333", b"22"]

    asyncio.run(scenario())
