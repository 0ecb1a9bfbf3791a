"""Pictures into a catalogue that is being served: decode, embed and write, each request one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index import Added, Also, Box, Entry, InvalidEntry, LiveWriter, check_entry
from ingest.prepare import Prepared, prepare
from model import ExtractorCard, ImageError, Limits, Shown

Embed = Callable[[NDArray[np.uint8]], Awaitable[Sequence[NDArray[np.float32]]]]
EmbedBoxes = Callable[[Shown, Sequence[Box]], Awaitable[NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class NewPicture:
    """A picture's file that is to be an item under a key, with metadata next to what the file says itself."""

    data: bytes
    key: str
    metadata: dict[str, Any] = field(default_factory=dict)


class LiveIngest:
    """Adds pictures to a catalogue.

    ``embed`` returns the vectors of pixels, uint8 [n, height, width, 3], by the extractor whose card is ``card``;
    ``embed_boxes`` returns those of ``boxes`` in a picture, float32 [boxes, dim], where items have some; ``admit`` lets so
    many pictures in, or refuses them by raising.
    """

    def __init__(
        self,
        writer: LiveWriter,
        card: ExtractorCard,
        embed: Embed,
        embed_boxes: EmbedBoxes,
        *,
        limits: Limits,
        threads: Executor,
        admit: Callable[[int], AbstractContextManager[Any]],
    ) -> None:
        self._writer = writer
        self._card = card
        self._embed = embed
        self._limits = limits
        self._threads = threads
        self._admit = admit
        self._embed_boxes = embed_boxes
        self._keep, self._boxes = writer.meta.originals, writer.meta.regions

    async def add(
        self, pictures: Sequence[NewPicture | Exception], also: Also | None = None
    ) -> list[Added | Exception]:
        """Add pictures, all that can be read in one durable transaction; an error stands in the place of any other.

        ``also`` is what else belongs to the transaction, given what is returned.
        Raises CatalogueBusy, CatalogueMismatch or DiskFull, and what ``embed`` and ``admit`` raise: then none was added.
        """
        with self._admit(sum(isinstance(one, NewPicture) for one in pictures)) as admitted:
            loop = asyncio.get_running_loop()
            read = await asyncio.gather(*(loop.run_in_executor(self._threads, self._read, one) for one in pictures))
            good = [one for one in read if not isinstance(one, Exception)]
            vectors = await self._embed(np.stack([one.pixels for _, one in good])) if good else []
            regions = [await self._embed_boxes(one.shown, self._boxes) if one.shown else None for _, one in good]
            admitted.finished = len(good)
        embedded = zip(good, vectors, regions, strict=True)
        entries = [one.entry(new.key, vector, new.metadata, regions=boxes) for (new, one), vector, boxes in embedded]
        return await asyncio.to_thread(self._write, read, entries, also)

    def _write(
        self, read: Sequence[tuple[NewPicture, Prepared] | Exception], entries: list[Entry], also: Also | None
    ) -> list[Added | Exception]:
        def in_order(added: list[Added]) -> list[Added | Exception]:
            remaining = iter(added)
            return [one if isinstance(one, Exception) else next(remaining) for one in read]

        whole = None if also is None else (lambda connection, added: also(connection, in_order(added)))
        return in_order(self._writer.add(entries, self._card.fingerprint, whole))

    def _read(self, new: NewPicture | Exception) -> tuple[NewPicture, Prepared] | Exception:
        if isinstance(new, Exception):
            return new
        try:
            check_entry(new.key, new.metadata)
            return new, prepare(new.data, self._card, self._limits, keep=self._keep, windows=bool(self._boxes))
        except (ImageError, InvalidEntry) as error:
            return error
