"""Where the pictures of a build come from: files found in folders, and some of them to measure an extractor on."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index import EmptyCatalogue
from ingest.folders import FolderWalk, key_of
from model import ExtractorCard, ImageError, Limits, looks_like_a_picture, read_file, read_picture


class SourceNotFound(Exception):
    """A source to build from is not there or cannot be listed."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that may be a picture. ``key`` is its path below the source, in NFC; ``label`` the name of its folder."""

    key: str
    path: Path
    label: str


@dataclass(slots=True)
class Sources:
    """What a look through the sources found, by keys.

    ``files`` are to be read; ``others`` are no pictures by name and first bytes; ``left_out`` are folders of system junk and
    what was excluded; ``skipped`` are folders that cannot be read, with their reasons.
    """

    files: list[SourceFile] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)


def find_sources(sources: Sequence[Path], exclude: Sequence[str] = ()) -> Sources:
    """Look through folders (with all below them, hidden ones and system junk left out) and single files.

    A file's key is its name, a file's in the only folder its path below it; of several folders it begins with the folder's
    name. Where names are the same, as much of the paths above them is added as tells them apart. A file or folder that is
    given twice, or is within another, counts once. ``exclude`` has patterns of names or paths below a source to leave out.

    Raises SourceNotFound for a source that is not there or cannot be listed, EmptyCatalogue when no file looks like a
    picture.
    """
    given: dict[Path, Path] = {}
    for source in sources:
        if not source.exists():
            raise SourceNotFound(f"there is no file or folder at {source}")
        given.setdefault(source.resolve() if source.is_dir() else source.parent.resolve() / source.name, source)
    names = [Path(name) for name in _names(list(given))]
    found, walk, keys = Sources(), FolderWalk(exclude), set[str]()
    single = {path for path in given if not path.is_dir()}
    for (path, source), name in zip(given.items(), names, strict=True):
        if path in single and not walk.leaves_out(name):
            found.files.append(SourceFile(_new_key(name, keys), source, path.parent.name))
    for (path, source), name in zip(given.items(), names, strict=True):
        if path not in single:
            start = name if len(given) > 1 else Path()
            _take(walk.files(path, start), single, found, keys)
            if walk.unreadable and walk.unreadable[-1][0] == start:
                raise SourceNotFound(f"{source}: {walk.unreadable[-1][1]}")
    _take(walk.follow_links(), single, found, keys)
    found.left_out = [key_of(path) for path in walk.left_out]
    found.skipped = [{"key": f"{key_of(path)}/", "reason": reason} for path, reason in walk.unreadable]
    if not found.files:
        raise EmptyCatalogue(_nothing_in(sources, found))
    return found


def _take(files: Iterable[tuple[Path, Path]], given: Container[Path], found: Sources, keys: set[str]) -> None:
    for path, name in files:
        if given and path.parent.resolve() / path.name in given:
            continue  # it was given itself
        if looks_like_a_picture(path):
            found.files.append(SourceFile(_new_key(name, keys), path, path.parent.name))
        else:
            found.others.append(key_of(name))


def _new_key(path: Path, keys: set[str]) -> str:
    """Return a key that no other file has: names that differ in their composition only are told apart by escapes."""
    plain, escaped = key_of(path), path.as_posix().encode("ascii", "backslashreplace").decode()
    key = next(
        key
        for key in itertools.chain((plain, escaped), (f"{plain}~{n}" for n in itertools.count(2)))
        if key not in keys
    )
    keys.add(key)
    return key


def _names(paths: Sequence[Path]) -> list[str]:
    """Return for each path as many of its last parts as tell it from the others."""
    depths = [1] * len(paths)
    while True:
        names = ["/".join(path.parts[1:][-depth:]) for path, depth in zip(paths, depths, strict=True)]
        same = {name for name, times in Counter(names).items() if times > 1}
        grown = [place for place, name in enumerate(names) if name in same and depths[place] < len(paths[place].parts)]
        if not grown:
            return names
        for place in grown:
            depths[place] += 1


def _nothing_in(sources: Sequence[Path], found: Sources) -> str:
    also = [
        f"{len(some)} {what}"
        for some, what in (
            (found.others, "other files are there"),
            (found.left_out, "left out as junk or by --exclude"),
            (found.skipped, "folders cannot be read"),
        )
        if some
    ]
    return f"no picture is in {', '.join(map(str, sources))}" + (f" ({', '.join(also)})" if also else "")


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
