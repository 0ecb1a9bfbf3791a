"""Limits on a picture's bytes and pixels, and on how many pixels are decoded at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class Room:
    """Where pictures are decoded that strangers send: so many pixels at once, or one picture of any number.

    A file of some hundred kilobytes may be of a hundred million pixels, and each takes up to twelve bytes on its way.
    """

    def __init__(self, pixels: int) -> None:
        self._free = self._pixels = pixels
        self._changed = threading.Condition()

    @contextmanager
    def for_pixels(self, count: int) -> Iterator[None]:
        """Wait until there is room for so many pixels, and take it."""
        count = min(count, self._pixels)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= count)
            self._free -= count
        try:
            yield
        finally:
            with self._changed:
                self._free += count
                self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a picture may weigh: ``bytes`` as sent, ``pixels`` (width × height) once decoded; and where it is decoded."""

    bytes: int = 64 * 1024 * 1024
    pixels: int = 100_000_000
    room: Room | None = None
