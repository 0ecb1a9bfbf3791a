"""Where model and index meet: folders of pictures become a catalogue, pictures become answers. Prints nothing."""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from index import CatalogueWriter, EmptyCatalogue, Entry, start_catalogue
from model import (
    ExtractorCard,
    ImageFault,
    Limits,
    WeightsMismatch,
    looks_like_a_picture,
    read_file,
    read_picture,
    thumbnail,
)

Progress = Callable[[str, int, int], None]  # stage, done, total


class SourceNotFound(Exception):
    """A source to build from is not there or cannot be listed."""


class Extractor(Protocol):
    """What the pipeline needs of a model: uint8 pixels [n, height, width, 3] in, unit vectors float32 [n, dim] out."""

    card: ExtractorCard

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]: ...

    def save(self, folder: Path) -> None: ...


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


@dataclass(slots=True)
class BuildReport:
    """What became of every file; also written into the catalogue as report.json."""

    added: int = 0
    kept: int = 0
    skipped: list[dict[str, str]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"read": 0.0, "embed": 0.0, "write": 0.0, "index": 0.0})


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
class _Prepared:
    """A picture read, checked and brought to the network's size: an entry that lacks only its vector."""

    pixels: NDArray[np.uint8]
    metadata: dict[str, Any]
    sha256: str
    thumbnail: bytes
    size: int
    mtime_ns: int


def _prepare(file: SourceFile, card: ExtractorCard, limits: Limits, labels: bool) -> _Prepared:
    data, facts = read_file(file.path, limits)
    picture = read_picture(data, limits)
    return _Prepared(
        pixels=card.preprocessing.to_pixels(picture.image),
        metadata=picture.metadata() | ({"label": file.label} if labels else {}),
        sha256=hashlib.sha256(data).hexdigest(),
        thumbnail=thumbnail(picture.image),
        size=facts.st_size,
        mtime_ns=facts.st_mtime_ns,
    )


def build_catalogue(
    sources: Sources,
    out: Path,
    extractor: Extractor,
    *,
    limits: Limits = Limits(),
    labels: bool = False,
    overwrite: bool = False,
    batch: int = 32,
    progress: Progress = lambda stage, done, total: None,
) -> BuildReport:
    """Embed every picture and write the catalogue ``out``; go on with a build of it that was broken off.

    A file that cannot be read is skipped, with its reason in the report. Whatever interrupts this leaves ``out``
    untouched and keeps the finished part for the next call. Raises CatalogueExists, CatalogueMismatch, EmptyCatalogue,
    WeightsMismatch (vectors that are not numbers) or OSError.
    """
    card = extractor.card
    writer = start_catalogue(
        out, model=card.model, fingerprint=card.fingerprint, dim=card.dim, labelled=labels, overwrite=overwrite
    )
    try:
        extractor.save(writer.extractor_folder)
        report = BuildReport(others=sources.others)
        todo = _not_yet_in(writer, sources, report)
        total = len(sources.files)
        progress("embed", report.kept, total)
        for group in _batches(_prepared(todo, card, limits, labels, report), batch, report):
            _embed_and_write(group, extractor, writer, report)
            progress("embed", report.kept + report.added + len(report.skipped), total)
        progress("embed", total, total)
        if not len(writer):
            writer.abandon()
            first = report.skipped[0]
            raise EmptyCatalogue(
                f"none of {total} files could be read, so there is no catalogue to write; "
                f"the first, {first['key']}: {first['reason']}"
            )
        _index(writer, report, progress)
        writer.publish(asdict(report))
        return report
    finally:
        writer.close()


def _not_yet_in(writer: CatalogueWriter, sources: Sources, report: BuildReport) -> list[SourceFile]:
    known = writer.known()
    writer.discard(known.keys() - {file.key for file in sources.files})
    todo = []
    for file in sources.files:
        if file.key in known:
            stat = file.path.stat()
            if known[file.key] == (stat.st_size, stat.st_mtime_ns):
                report.kept += 1
                continue
        todo.append(file)
    return todo


def _prepared(
    files: Iterable[SourceFile], card: ExtractorCard, limits: Limits, labels: bool, report: BuildReport
) -> Iterator[tuple[SourceFile, _Prepared]]:
    """Prepare files on all cores, a bounded number ahead, in order; those that fail go into the report."""
    workers = os.cpu_count() or 1
    waiting: deque[tuple[SourceFile, Future[_Prepared]]] = deque()
    remaining = iter(files)
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            while True:
                while len(waiting) < 8 * workers and (file := next(remaining, None)):
                    waiting.append((file, pool.submit(_prepare, file, card, limits, labels)))
                if not waiting:
                    return
                file, future = waiting.popleft()
                try:
                    yield file, future.result()
                except (ImageFault, OSError) as error:
                    report.skipped.append({"key": file.key, "reason": str(error)})
        finally:
            pool.shutdown(cancel_futures=True)


def _batches(
    prepared: Iterator[tuple[SourceFile, _Prepared]], size: int, report: BuildReport
) -> Iterator[list[tuple[SourceFile, _Prepared]]]:
    group: list[tuple[SourceFile, _Prepared]] = []
    while True:
        begun = time.perf_counter()
        item = next(prepared, None)
        report.seconds["read"] += time.perf_counter() - begun
        if item is not None:
            group.append(item)
        if group and (item is None or len(group) == size):
            yield group
            group = []
        if item is None:
            return


def _embed_and_write(
    group: list[tuple[SourceFile, _Prepared]], extractor: Extractor, writer: CatalogueWriter, report: BuildReport
) -> None:
    begun = time.perf_counter()
    vectors = extractor.embed(np.stack([prepared.pixels for _, prepared in group]))
    embedded = time.perf_counter()
    if not np.isfinite(vectors).all():
        raise WeightsMismatch(
            f"{extractor.card.model} with these weights gives vectors that are not numbers; use others"
        )
    writer.add(
        [
            Entry(
                key=file.key,
                vector=vector,
                metadata=prepared.metadata,
                sha256=prepared.sha256,
                thumbnail=prepared.thumbnail,
                source_size=prepared.size,
                source_mtime_ns=prepared.mtime_ns,
            )
            for (file, prepared), vector in zip(group, vectors, strict=True)
        ]
    )
    report.added += len(group)
    report.seconds["embed"] += embedded - begun
    report.seconds["write"] += time.perf_counter() - embedded


def _index(writer: CatalogueWriter, report: BuildReport, progress: Progress) -> None:
    total, done, begun = len(writer), 0, time.perf_counter()

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress("index", done, total)

    progress("index", 0, total)
    writer.build_index(advance)
    report.seconds["index"] = time.perf_counter() - begun
