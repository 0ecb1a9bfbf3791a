"""Files into entries: read, decode, embed and write at the same time, each timed. Prints nothing."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from index import Entry
from ingest.prepare import Prepared, prepare
from ingest.sources import SourceFile
from model import Extractor, ExtractorCard, ImageError, Limits, WeightsMismatch, read_file

Progress = Callable[[str, int, int], None]  # stage, done, total


@dataclass(slots=True)
class BuildReport:
    """What became of every file; also written into the catalogue as report.json.

    ``kept`` are from the build that was broken off, ``reused`` from the catalogue that is replaced. ``skipped`` has files and
    folders (with a slash at the end) that could not be read; ``others`` and ``left_out`` are what Sources says.
    ``seconds``: how long pictures were waited for, the network ran, what it gave was written, and the index was built; the
    first three go on at the same time.
    """

    added: int = 0
    kept: int = 0
    reused: int = 0
    skipped: list[dict[str, str]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"read": 0.0, "embed": 0.0, "write": 0.0, "index": 0.0})


class _Read(NamedTuple):
    """A file's picture, and what the file was when it was read."""

    picture: Prepared
    size: int
    mtime_ns: int


def _read(file: SourceFile, card: ExtractorCard, limits: Limits) -> _Read:
    data, facts = read_file(file.path, limits)
    return _Read(prepare(data, card, limits), facts.st_size, facts.st_mtime_ns)


def embed_files(
    files: Sequence[SourceFile],
    extractor: Extractor,
    write: Callable[[list[Entry]], object],
    *,
    limits: Limits,
    labels: bool,
    batch: int,
    done: int,
    progress: Progress,
    report: BuildReport,
) -> None:
    """Embed files, and ``write`` their entries batch by batch; ``report`` says what became of each.

    ``done`` files of all were done before, for ``progress``. Raises WeightsMismatch (vectors that are not numbers), and what
    ``write`` raises.
    """
    total, before = done + len(files), len(report.skipped)
    progress("embed", done, total)
    groups = _batches(_prepared(files, extractor.card, limits, report), batch, report)
    for group, vectors in _embedded(groups, extractor, report):
        begun = time.perf_counter()
        pairs = zip(group, vectors, strict=True)
        write([_entry(file, read, vector, labels) for (file, read), vector in pairs])
        report.added += len(group)
        report.seconds["write"] += time.perf_counter() - begun
        progress("embed", done + report.added + len(report.skipped) - before, total)
    progress("embed", total, total)


def _entry(file: SourceFile, read: _Read, vector: NDArray[np.float32], labels: bool) -> Entry:
    metadata = {"label": file.label} if labels else None
    return read.picture.entry(file.key, vector, metadata, size=read.size, mtime_ns=read.mtime_ns)


def _prepared(
    files: Iterable[SourceFile], card: ExtractorCard, limits: Limits, report: BuildReport
) -> Iterator[tuple[SourceFile, _Read]]:
    """Prepare files on all cores, a bounded number ahead, in order; those that fail go into the report."""
    workers = os.cpu_count() or 1
    waiting: deque[tuple[SourceFile, Future[_Read]]] = deque()
    remaining = iter(files)
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            while True:
                while len(waiting) < 8 * workers and (file := next(remaining, None)):
                    waiting.append((file, pool.submit(_read, file, card, limits)))
                if not waiting:
                    return
                file, future = waiting.popleft()
                try:
                    yield file, future.result()
                except (ImageError, OSError) as error:
                    report.skipped.append({"key": file.key, "reason": str(error)})
        finally:
            pool.shutdown(cancel_futures=True)


def _batches(
    prepared: Iterator[tuple[SourceFile, _Read]], size: int, report: BuildReport
) -> Iterator[list[tuple[SourceFile, _Read]]]:
    group: list[tuple[SourceFile, _Read]] = []
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


def _embedded(
    groups: Iterator[list[tuple[SourceFile, _Read]]], extractor: Extractor, report: BuildReport
) -> Iterator[tuple[list[tuple[SourceFile, _Read]], NDArray[np.float32]]]:
    """Embed groups on a thread of their own, one ahead, so that the network runs while what it gave is written."""

    def embed(group: list[tuple[SourceFile, _Read]]) -> NDArray[np.float32]:
        begun = time.perf_counter()
        vectors = extractor.embed(np.stack([read.picture.pixels for _, read in group]))
        report.seconds["embed"] += time.perf_counter() - begun
        if not np.isfinite(vectors).all():
            raise WeightsMismatch(
                f"{extractor.card.model} with these weights gives vectors that are not numbers; use others"
            )
        return vectors

    with ThreadPoolExecutor(1, thread_name_prefix="embed") as pool:
        last: tuple[list[tuple[SourceFile, _Read]], Future[NDArray[np.float32]]] | None = None
        for group in groups:
            running = (group, pool.submit(embed, group))
            if last:
                yield last[0], last[1].result()
            last = running
        if last:
            yield last[0], last[1].result()
