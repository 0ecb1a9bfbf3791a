"""What stands next to a picture in an archive, as WebDataset has it: files of the same stem."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any

from index import InvalidEntry, check_entry
from ingest.sources.archives import Archive, Member
from model import UnreadableImage

LARGEST = 256 * 1024  # bytes of a file that describes a picture


def _object(text: str) -> dict[str, Any]:
    found = json.loads(text)
    return {name: value for name, value in found.items() if value is not None} if isinstance(found, dict) else {}


def _class(text: str) -> dict[str, Any]:
    return {"label": int(text) if text.strip().isdecimal() else text.strip()}


# By suffix: the metadata that a file's text is.
SIDECARS: dict[str, Callable[[str], dict[str, Any]]] = {
    ".json": _object,
    ".txt": lambda text: {"caption": text.strip()},
    ".cls": _class,
}


def read_sidecars(archive: Archive, members: Sequence[Member]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return the metadata that members next to a picture say of it, and the name and fault of each that says nothing."""
    metadata: dict[str, Any] = {}
    faults: list[tuple[str, str]] = []
    for member in members:
        try:
            if member.size > LARGEST:
                raise ValueError(f"it has {member.size:,} bytes, more than the {LARGEST:,} allowed")
            found = SIDECARS[PurePosixPath(member.name).suffix.lower()](archive.read(member).decode())
            check_entry(member.name, found)
            metadata |= found
        except (InvalidEntry, UnreadableImage, OSError, ValueError, RecursionError) as error:
            faults.append((member.name, f"it does not describe its picture ({error})"))
    return metadata, faults
