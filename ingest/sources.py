"""Where the pictures of a build come from: files found in folders, and some of them to measure an extractor on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index import EmptyCatalogue
from model import ExtractorCard, ImageError, Limits, looks_like_a_picture, read_file, read_picture


class SourceNotFound(Exception):
    """A source to build from is not there or cannot be listed."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that may be a picture; ``key`` is its path below the source, ``label`` the name of its folder."""

    key: str
    path: Path
    label: str


@dataclass(slots=True)
class Sources:
    """What a look through the sources found: files to read, and files whose names say that they are no pictures."""

    files: list[SourceFile] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def find_sources(sources: Sequence[Path]) -> Sources:
    """Look through folders (with all below them, hidden ones left out) and single files, in order of their names.

    Raises SourceNotFound for one that is not there, EmptyCatalogue when no file looks like a picture.
    """
    found = Sources()
    for source in sources:
        if not source.exists():
            raise SourceNotFound(f"there is no file or folder at {source}")
        prefix = f"{source.resolve().name}/" if len(sources) > 1 else ""
        for path in _walk(source) if source.is_dir() else [source]:
            below = path.relative_to(source) if source.is_dir() else Path(path.name)
            # A name that is not UTF-8 can be neither stored nor sent as it is; escapes keep it readable and distinct.
            key = os.fsencode(prefix + below.as_posix()).decode("utf-8", "backslashreplace")
            if looks_like_a_picture(path) or path == source:
                found.files.append(SourceFile(key, path, path.parent.resolve().name))
            else:
                found.others.append(key)
    if len({file.key for file in found.files}) < len(found.files):
        raise SourceNotFound(
            "two sources share a name and hold files of the same names; build from their parent folder"
        )
    if not found.files:
        also = f" ({len(found.others)} other files are there)" if found.others else ""
        raise EmptyCatalogue(f"no picture is in {', '.join(map(str, sources))}{also}")
    return found


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise SourceNotFound(f"{error.filename} cannot be listed ({error.strerror})")

    for root, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in sorted(files) if not name.startswith("."))


@dataclass(frozen=True, slots=True)
class SourceSamples:
    """Pixels of some of the sources' pictures, spread over all of them, for an extractor to be measured on."""

    sources: Sources
    limits: Limits

    def __call__(self, card: ExtractorCard, count: int) -> NDArray[np.uint8]:
        """Return at most ``count`` pictures, uint8 [n, height, width, 3]. Raises EmptyCatalogue when no file can be read."""
        files, found = self.sources.files, list[NDArray[np.uint8]]()
        reason = ""
        # Every file once: first those a step apart, then the ones between, until enough could be read.
        step = max(1, len(files) // count)
        for file in (files[place] for first in range(step) for place in range(first, len(files), step)):
            try:
                picture = read_picture(read_file(file.path, self.limits)[0], self.limits, card.preprocessing.enough)
                found.append(card.preprocessing.to_pixels(picture.image))
            except (ImageError, OSError) as fault:
                reason = reason or f"{file.key}: {fault}"
            if len(found) == count:
                break
        if not found:
            raise EmptyCatalogue(f"none of {len(files)} files could be read; the first, {reason}")
        return np.stack(found)
