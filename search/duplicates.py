"""Whether pictures are in a catalogue already: by their bytes, which needs no network, else by their pixels."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

from copies import CopyFinder, Kind, Subject, match_model_of
from index import Catalogue, Item
from model import ImageError, Limits, pixel_digest, read_picture
from search.picture_embedder import PictureEmbedder
from search.query import Embedding, PictureQuery, merge_errors, milliseconds_since


@dataclass(frozen=True, slots=True)
class Copy:
    """An item that a picture is a copy of, of which kind, and how probably."""

    item: Item
    kind: Kind
    match: float


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The items that a picture is a copy of, the best match first."""

    matches: tuple[Copy, ...]


class DuplicateChecker:
    """Looks for pictures among the items of ``catalogue``; ``pictures`` embeds them, from an edge of ``enough`` pixels on."""

    def __init__(self, catalogue: Catalogue, pictures: PictureEmbedder, limits: Limits, enough: int) -> None:
        self._catalogue = catalogue
        self._pictures = pictures
        self._limits = limits
        self._enough = enough

    async def check(
        self, pictures: Sequence[bytes | Exception], least: float
    ) -> tuple[list[CheckResult | Exception], dict[str, float]]:
        """Return of which items each picture is a copy, in order, and the milliseconds of each step.

        An error stays in its place. Raises EmbedderUnavailable, DamagedIndex, and what an admission refuses with.
        """
        known = await asyncio.to_thread(lambda: [self._identical(one) for one in pictures])
        unknown = [
            PictureQuery(one, signed=True)
            for one, found in zip(pictures, known, strict=True)
            if isinstance(one, bytes) and not found
        ]
        embedded, timings = await self._pictures.embed(unknown) if unknown else ([], {})
        begun = time.perf_counter()
        copies = await asyncio.to_thread(self._find, unknown, embedded, least)
        timings |= {"find": milliseconds_since(begun)}
        remaining = iter(merge_errors(embedded, copies))
        found = [
            one if isinstance(one, Exception) else same or next(remaining)
            for one, same in zip(pictures, known, strict=True)
        ]
        return found, timings

    def _identical(self, picture: bytes | Exception) -> CheckResult | None:
        if isinstance(picture, Exception):
            return None
        ids = self._catalogue.signatures.ids_by_sha256(hashlib.sha256(picture).hexdigest())
        items = self._catalogue.items(ids)
        return CheckResult(tuple(Copy(items[one], "identical", 1.0) for one in ids if one in items)) if items else None

    def _find(
        self, pictures: Sequence[PictureQuery], embedded: Sequence[Embedding | Exception], least: float
    ) -> list[CheckResult]:
        snapshot = self._catalogue.snapshot()
        finder = CopyFinder(snapshot, self._catalogue.signatures, match_model_of(self._catalogue))
        found = []
        for query, one in zip(pictures, embedded, strict=True):
            if isinstance(one, Embedding):
                matches = finder.find(Subject(one.vector, one.luma), least)
                items = self._catalogue.items([match.id for match in matches])
                same = self._same_pixels(query.data, one, [match.id for match in matches[:1]])
                copies = [
                    Copy(items[match.id], "same_pixels" if match.id in same else "altered_copy", match.match)
                    for match in matches
                    if match.id in items
                ]
                found.append(CheckResult(tuple(copies)))
        return found

    def _same_pixels(self, data: bytes, embedded: Embedding, best: Sequence[int]) -> set[int]:
        """Return the items whose pixels are those of a picture; it is read again where the best match has its signature."""
        signed = self._catalogue.signatures.get(best)
        if embedded.luma is None or not any(one.luma == embedded.luma.tobytes() for one in signed.values()):
            return set()
        try:
            digest = pixel_digest(read_picture(data, self._limits, self._enough))
        except ImageError:
            return set()
        return set(self._catalogue.signatures.ids_by_pixels(digest))
