"""Which of several duplicates to keep, and why: the rules that put them in order, each with the reason it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

LOSSLESS = ("TIFF", "PNG", "BMP", "PPM", "TGA", "JPEG2000")
FEW_COLOURS = ("GIF",)
FACTS = ("captured_at", "latitude", "longitude")  # what a camera writes


@dataclass(frozen=True, slots=True)
class Picture:
    """What is known of a picture that may be kept. ``bytes`` and ``format`` are its file's, 0 and "" where not known."""

    id: int
    key: str
    sha256: str
    pixels: bytes
    bytes: int
    format: str
    added_at: str
    metadata: dict[str, Any]

    @property
    def size(self) -> tuple[int, int]:
        """Its width and height, 0 where not known."""
        width, height = (self.metadata.get(name) for name in ("width", "height"))
        return (width, height) if isinstance(width, int) and isinstance(height, int) else (0, 0)

    @property
    def captured_at(self) -> str:
        """When it was captured, ISO 8601, or nothing."""
        found = self.metadata.get("captured_at")
        return found if isinstance(found, str) else ""


@dataclass(frozen=True, slots=True)
class PathRules:
    """Patterns of keys, as of a shell: pictures to keep before others, and to keep only where there is no other."""

    prefer: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()

    def rank(self, key: str) -> int:
        """Return where a key stands: larger is better."""
        return any(fnmatchcase(key, one) for one in self.prefer) - any(fnmatchcase(key, one) for one in self.avoid)


class Rule(NamedTuple):
    """A rule: the larger ``value`` is kept, for a ``reason``."""

    value: Callable[[Picture], Any]
    reason: Callable[[Picture], str]


def rules(paths: PathRules) -> tuple[Rule, ...]:
    """Return the rules in the order in which they decide."""
    return (
        Rule(lambda one: paths.rank(one.key), lambda one: "its path, by the rules given"),
        Rule(lambda one: one.size[0] * one.size[1], lambda one: f"most pixels, {one.size[0]} × {one.size[1]}"),
        Rule(_format_rank, lambda one: f"its format, {one.format}"),
        Rule(_fact_count, lambda one: "what its camera wrote: time or place"),
        Rule(lambda one: one.bytes, lambda one: f"largest file, {one.bytes:,} bytes"),
        Rule(lambda one: _earlier(one.captured_at), lambda one: f"captured first, {one.captured_at}"),
        Rule(lambda one: len(one.metadata), lambda one: "most metadata"),
        Rule(lambda one: _earlier(one.added_at), lambda one: f"added first, {one.added_at}"),
        Rule(lambda one: -len(one.key), lambda one: "shortest path"),
        Rule(lambda one: -one.id, lambda one: "added first"),
    )


def rank(picture: Picture, order: Sequence[Rule]) -> tuple[Any, ...]:
    """Return what pictures are compared by: the largest is kept."""
    return tuple(rule.value(picture) for rule in order)


def reason_to_keep(kept: Picture, others: Sequence[Picture], order: Sequence[Rule]) -> str:
    """Return why a picture is kept and not the best of others: by the first rule that tells them apart."""
    if not others:
        return "there is no other"
    second = max(others, key=lambda one: rank(one, order))
    return next(rule.reason(kept) for rule in order if rule.value(kept) != rule.value(second))


def _format_rank(one: Picture) -> int:
    return (one.format in LOSSLESS) - (one.format in FEW_COLOURS)


def _fact_count(one: Picture) -> int:
    return sum(one.metadata.get(name) is not None for name in FACTS)


def _earlier(moment: str) -> tuple[int, ...]:
    """Return a value that is the larger the earlier a moment is; no moment is the latest."""
    return tuple(-ord(letter) for letter in moment) or (-0x110000,)
