"""What a look through sources finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ingest.sources.content import Content


class SourceNotFound(Exception):
    """A source to build from is not there or cannot be listed."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that may be a picture.

    ``key`` is its path below the source, in NFC, or what a table says; ``label`` the name of its folder; ``metadata`` what a
    table or a file next to it says of it. ``place`` is where that stands, such as ``list.csv, row 17``, or nothing.
    """

    key: str
    content: Content
    label: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    place: str = ""

    def skip(self, reason: object) -> dict[str, str]:
        """Return what a report says of it when it is left out."""
        return skip(self.key, str(reason), self.place)


def skip(key: str, reason: str, place: str = "") -> dict[str, str]:
    """Return what a report says of a picture or a source that is left out."""
    return {"key": key, "reason": reason} | ({"place": place} if place else {})


@dataclass(slots=True)
class Sources:
    """What a look through the sources found, by keys.

    ``files`` are to be read; ``others`` are no pictures by name and first bytes; ``left_out`` are folders of system junk and
    what was excluded; ``skipped`` are folders, archives and rows of tables that cannot be read, with their reasons.
    """

    files: list[SourceFile] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
