"""What the page is handed, and what it gets back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass


class PageRefusal(Exception):
    """Raised by what the page calls when a query cannot be answered; its text is shown to the person."""


@dataclass(frozen=True, slots=True)
class PageHit:
    """A neighbour to show: ``score`` in [-1, 1], ``thumbnail`` a JPEG's bytes."""

    id: int
    name: str
    score: float
    thumbnail: bytes


@dataclass(frozen=True, slots=True)
class PageAnswer:
    """A query's neighbours, nearest first, and how long each step took."""

    hits: list[PageHit]
    timings_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class PageParts:
    """The calls that the page makes, what it says of the catalogue in one line, its k, and the most bytes of an upload."""

    search: Callable[[bytes, int], Awaitable[PageAnswer]]
    more_like: Callable[[int, int], Awaitable[PageAnswer]]
    thumbnail: Callable[[int], Awaitable[bytes | None]]
    about: Callable[[], str]
    k: int
    max_k: int
    max_bytes: int
