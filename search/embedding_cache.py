"""Embeddings of pictures seen lately, by the SHA-256 of their bytes, so that the same picture is embedded once.

A picture that many send at the same time is decoded and embedded for the first of them, and the others wait for that.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from server.telemetry.metrics import PICTURES

INLINE_BYTES = 2**20  # what takes a millisecond to hash; more is hashed on a thread


def _digests(pictures: Sequence[bytes]) -> list[bytes]:
    return [hashlib.sha256(picture).digest() for picture in pictures]


@dataclass(frozen=True, slots=True)
class Embedded:
    """A picture's unit vector, float32 [dim], and how many pictures shared the network with it; None: it was remembered."""

    vector: NDArray[np.float32]
    batch_size: int | None


@dataclass(frozen=True, slots=True)
class Work:
    """What became of some pictures, in order, and the milliseconds that decoding them took."""

    done: Sequence[Embedded | Exception]
    decode_ms: float


Embed = Callable[[Sequence[bytes]], Awaitable[Work]]


class Gate(Protocol):
    """What is asked before work is begun, and may refuse it by raising; and is told of its end."""

    def enter(self, count: int) -> None: ...

    def leave(self, count: int, done: int) -> None: ...

    def start_anew(self) -> None: ...


class EmbeddingCache:
    """Embeds pictures by ``embed``, but for those that it remembers (at most ``size``) or is embedding already.

    ``gate`` is asked before a picture is decoded; what needs no work passes it by.
    """

    def __init__(self, embed: Embed, size: int, gate: Gate | None = None) -> None:
        self._embed = embed
        self._size = size
        self._gate = gate
        self._remembered: OrderedDict[bytes, Embedded] = OrderedDict()
        self._in_flight: dict[bytes, tuple[asyncio.Task[Work], int]] = {}

    async def embed(self, pictures: Sequence[bytes]) -> Work:
        """The pictures' embeddings or faults, in order. Raises what ``embed`` and the gate raise."""
        large = sum(map(len, pictures)) > INLINE_BYTES
        keys = await asyncio.to_thread(_digests, pictures) if large else _digests(pictures)
        known = {key: replace(one, batch_size=None) for key in keys if (one := self._recall(key))}
        wanted = {key: picture for key, picture in zip(keys, pictures, strict=True) if key not in known}
        fresh = {key: picture for key, picture in wanted.items() if key not in self._in_flight}
        started = self._start(fresh) if fresh else None
        remembered = sum(key in known for key in keys)
        for how, count in (
            ("remembered", remembered),
            ("computed", len(fresh)),
            ("shared", len(keys) - remembered - len(fresh)),
        ):
            PICTURES.labels(how).inc(count)
        # A request that is given up must not take the work from others that wait for it.
        running = {key: self._in_flight[key] for key in wanted}
        found = {key: (await asyncio.shield(task)).done[place] for key, (task, place) in running.items()}
        found |= known
        return Work([found[key] for key in keys], started.result().decode_ms if started else 0.0)

    def _recall(self, key: bytes) -> Embedded | None:
        if key in self._remembered:
            self._remembered.move_to_end(key)
        return self._remembered.get(key)

    def _start(self, fresh: dict[bytes, bytes]) -> asyncio.Task[Work]:
        if self._gate:
            self._gate.enter(len(fresh))
        task = asyncio.ensure_future(self._embed(list(fresh.values())))
        self._in_flight |= {key: (task, place) for place, key in enumerate(fresh)}
        task.add_done_callback(lambda done: self._finish(list(fresh), done))
        return task

    def _finish(self, keys: list[bytes], task: asyncio.Task[Work]) -> None:
        for key in keys:
            del self._in_flight[key]
        if task.cancelled() or task.exception():  # told to those who wait, if anyone still does
            if self._gate:
                self._gate.leave(len(keys), 0)
                self._gate.start_anew()
            return
        if self._gate:
            self._gate.leave(len(keys), sum(isinstance(one, Embedded) for one in task.result().done))
        for key, one in zip(keys, task.result().done, strict=True):
            if isinstance(one, Embedded) and self._size:
                self._remembered[key] = replace(one, vector=one.vector.copy())  # not a view that keeps its whole batch
        while len(self._remembered) > self._size:
            self._remembered.popitem(last=False)
