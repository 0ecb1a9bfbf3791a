"""The same picture is embedded once: cached afterwards, and shared while it is being embedded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from search import Embedding, PictureQuery
from search.embedding_cache import CacheCounts, Computed, EmbeddingCache, Looked


class Spoiled(Exception):
    """A picture that cannot be read."""


class Network:
    """Stands where decoding and the network are: gives each picture its length, once it is let go on."""

    def __init__(self) -> None:
        self.asked: list[list[bytes]] = []
        self.go_on = asyncio.Event()
        self.broken = False

    async def embed(self, queries: Sequence[PictureQuery]) -> Computed:
        pictures = [one.data for one in queries]
        self.asked.append(pictures)
        await self.go_on.wait()
        if self.broken:
            raise RuntimeError("the network is gone")
        batch = np.array([[len(picture)] for picture in pictures], np.float32)
        done = [
            Spoiled(str(picture)) if picture == b"bad" else Embedding(vector, len(pictures))
            for picture, vector in zip(pictures, batch, strict=True)
        ]
        return Computed(done, 1.5)


def pictures(*data: bytes) -> list[PictureQuery]:
    return [PictureQuery(one) for one in data]


def values(found: Looked) -> list[object]:
    return [one if isinstance(one, Exception) else (one.vector.tolist(), one.batch_size) for one in found.embeddings]


def test_a_picture_seen_before_is_a_cache_hit() -> None:
    async def scenario() -> None:
        network = Network()
        network.go_on.set()
        cache = EmbeddingCache(network.embed, 10)
        first = await cache.embed(pictures(b"a", b"bb", b"a"))
        assert values(first) == [([1], 2), ([2], 2), ([1], 2)]
        assert first.counts == CacheCounts(cached=0, shared=1, computed=2)
        again = await cache.embed(pictures(b"bb", b"ccc"))
        assert values(again) == [([2], None), ([3], 1)]
        assert network.asked == [[b"a", b"bb"], [b"ccc"]]
        assert again.counts == CacheCounts(cached=1, shared=0, computed=1)
        assert (await cache.embed(pictures(b"a"))).decode_ms == 0

    asyncio.run(scenario())


def test_a_picture_in_flight_is_shared_and_the_answers_stay_in_order() -> None:
    async def scenario() -> None:
        network = Network()
        cache = EmbeddingCache(network.embed, 10)
        first = asyncio.create_task(cache.embed(pictures(b"a", b"bad")))
        await asyncio.sleep(0)
        second = asyncio.create_task(cache.embed(pictures(b"ccc", b"bad", b"a")))
        await asyncio.sleep(0)
        network.go_on.set()
        one, other = values(await first), values(await second)
        assert network.asked == [[b"a", b"bad"], [b"ccc"]]
        assert one[0] == ([1], 2)
        assert other == [([3], 1), one[1], ([1], 2)]
        assert isinstance(one[1], Spoiled)

    asyncio.run(scenario())


def test_a_request_that_is_cancelled_takes_the_work_from_no_other() -> None:
    async def scenario() -> None:
        network = Network()
        cache = EmbeddingCache(network.embed, 10)
        first = asyncio.create_task(cache.embed(pictures(b"a")))
        await asyncio.sleep(0)
        second = asyncio.create_task(cache.embed(pictures(b"a")))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        network.go_on.set()
        assert values(await second) == [([1], 1)]
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(scenario())


def test_errors_and_failures_are_not_cached() -> None:
    async def scenario() -> None:
        network = Network()
        network.go_on.set()
        cache = EmbeddingCache(network.embed, 10)
        for _ in range(2):
            assert isinstance((await cache.embed(pictures(b"bad"))).embeddings[0], Spoiled)
        network.broken = True
        with pytest.raises(RuntimeError, match="is gone"):
            await cache.embed(pictures(b"a"))
        network.broken = False
        assert values(await cache.embed(pictures(b"a"))) == [([1], 1)]
        assert network.asked == [[b"bad"], [b"bad"], [b"a"], [b"a"]]

    asyncio.run(scenario())


@pytest.mark.parametrize(("size", "asked"), [(2, 4), (0, 6), (10, 3)])
def test_no_more_are_cached_than_allowed_and_the_oldest_goes_first(size: int, asked: int) -> None:
    async def scenario() -> None:
        network = Network()
        network.go_on.set()
        cache = EmbeddingCache(network.embed, size)
        for picture in (b"1", b"22", b"1", b"333", b"1", b"22"):  # 1 is asked for again and again
            await cache.embed(pictures(picture))
        assert len(network.asked) == asked
        if size == 2:
            assert [one for (one,) in network.asked] == [b"1", b"22", b"333", b"22"]

    asyncio.run(scenario())
