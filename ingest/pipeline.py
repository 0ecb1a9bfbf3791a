"""Build a catalogue: read, decode, embed and write at the same time, each timed. Prints nothing."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from index import METRICS, CatalogueMismatch, CatalogueWriter, EmptyCatalogue, Metric, start_catalogue
from ingest.prepare import Prepared, prepare
from ingest.sources import SourceFile, Sources
from model import (
    Extractor,
    ExtractorCard,
    ImageError,
    Limits,
    WeightsMismatch,
    read_file,
)

# Counts the changes to what a picture's file gives (pixels, metadata): items that an older reader made are not reused.
READER = 2
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


def build_catalogue(
    sources: Sources,
    out: Path,
    extractor: Extractor,
    *,
    metric: Metric = "cosine",
    limits: Limits = Limits(),
    labels: bool = False,
    overwrite: bool = False,
    batch: int = 32,
    progress: Progress = lambda stage, done, total: None,
) -> BuildReport:
    """Embed every picture and write the catalogue ``out``; go on with a build of it that was broken off.

    A file that cannot be read is skipped, with its reason in the report. With ``overwrite``, what is unchanged since the
    catalogue at ``out`` was built (key, size, modification time; same extractor) is taken over from it. Whatever interrupts
    this leaves ``out`` untouched and keeps the finished part for the next call.

    Raises CatalogueExists, CatalogueMismatch, EmptyCatalogue, WeightsMismatch (vectors that are not numbers) or OSError.
    """
    card = extractor.card
    if card.normalized != METRICS[metric].normalized:
        raise CatalogueMismatch(f"the metric {metric} needs an extractor made for it: normalized={not card.normalized}")
    writer = start_catalogue(
        out,
        model=card.model,
        fingerprint=card.fingerprint,
        dim=card.dim,
        metric=metric,
        labelled=labels,
        reader=READER,
        overwrite=overwrite,
    )
    try:
        extractor.save(writer.extractor_folder)
        folders = list(sources.skipped)
        report = BuildReport(skipped=sources.skipped, others=sources.others, left_out=sources.left_out)
        todo = _not_yet_in(writer, sources, report)
        total = len(sources.files)
        done = total - len(todo)
        progress("embed", done, total)
        groups = _batches(_prepared(todo, card, limits, report), batch, report)
        for group, vectors in _embedded(groups, extractor, report):
            _write(group, vectors, writer, labels, report)
            progress("embed", done + report.added + len(report.skipped) - len(folders), total)
        progress("embed", total, total)
        if not len(writer):
            writer.abandon()
            first = report.skipped[len(folders)]
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
    """Return the files to embed; drop from a broken-off build what has gone or changed, take over what was built before."""
    now: dict[str, tuple[int, int]] = {}
    for file in sources.files:
        with suppress(OSError):  # gone since it was listed: reading it will say so
            stat = file.path.stat()
            now[file.key] = (stat.st_size, stat.st_mtime_ns)
    known = writer.known()
    writer.discard(key for key, facts in known.items() if now.get(key) != facts)
    kept = {key for key, facts in known.items() if now.get(key) == facts}
    report.kept = len(kept)
    reused = writer.take_over({key: facts for key, facts in now.items() if key not in kept})
    report.reused = len(reused)
    return [file for file in sources.files if file.key not in kept and file.key not in reused]


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


def _write(
    group: list[tuple[SourceFile, _Read]],
    vectors: NDArray[np.float32],
    writer: CatalogueWriter,
    labels: bool,
    report: BuildReport,
) -> None:
    begun = time.perf_counter()
    writer.add(
        [
            read.picture.entry(
                file.key, vector, {"label": file.label} if labels else None, size=read.size, mtime_ns=read.mtime_ns
            )
            for (file, read), vector in zip(group, vectors, strict=True)
        ]
    )
    report.added += len(group)
    report.seconds["write"] += time.perf_counter() - begun


def _index(writer: CatalogueWriter, report: BuildReport, progress: Progress) -> None:
    begun = time.perf_counter()
    writer.build_index(progress)
    report.seconds["index"] = time.perf_counter() - begun
