"""Files into entries: read, decode, embed and write at the same time, each timed. Prints nothing."""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from index import Entry
from ingest.prepare import Prepared, prepare
from ingest.sources.content import Stamp
from ingest.sources.records import SourceFile
from model import Extractor, ImageError, Limits, WeightsMismatch

Progress = Callable[[str, int, int], None]  # stage, done, total
Regions = list[NDArray[np.float32] | None]  # the vectors of boxes in each picture, where it has some
FETCHES = 16  # at once, of what waits for a network


@dataclass(slots=True)
class BuildReport:
    """What became of every file; also written into the catalogue as report.json.

    ``kept`` are from the build that was broken off, ``reused`` from the catalogue that is replaced. ``skipped`` has files,
    folders (with a slash at the end), archives and rows that could not be read; ``others`` and ``left_out`` are what Sources
    says. ``duplicates``: pictures that the catalogue had already, where they were looked for. ``seconds``: how long pictures
    were waited for, the network ran, what it gave was written, and the index was built; the first three at the same time.
    """

    added: int = 0
    kept: int = 0
    reused: int = 0
    skipped: list[dict[str, str]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    duplicates: list[dict[str, str | float]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"read": 0.0, "embed": 0.0, "write": 0.0, "index": 0.0})


class _Read(NamedTuple):
    """A file's picture, or None where the catalogue has just these bytes; and what the file was when it was read."""

    picture: Prepared | None
    stamp: Stamp


class _Embedded(NamedTuple):
    file: SourceFile
    picture: Prepared
    stamp: Stamp


def metadata_of(file: SourceFile, labels: bool) -> dict[str, Any]:
    """Return the metadata that an item has besides its picture's own."""
    return ({"label": file.label} if labels else {}) | dict(file.metadata)


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
    known: Mapping[str, str] | None = None,
    keep: bool = False,
) -> None:
    """Embed files, and ``write`` their entries batch by batch; ``report`` says what became of each.

    ``done`` files of all were done before, for ``progress``. ``known`` has SHA-256s by key: a file whose bytes they are is
    kept, and not embedded. ``keep``: entries have the whole files. Raises WeightsMismatch (vectors that are not numbers),
    and what ``write`` raises.
    """
    total, before = done + len(files), len(report.skipped) + report.kept
    progress("embed", done, total)
    prepare_one = functools.partial(
        prepare, card=extractor.card, limits=limits, keep=keep, windows=extractor.windows is not None
    )
    groups = _batches(_prepared(files, prepare_one, limits, report, known or {}), batch, report)
    for group, vectors, regions in _embedded(groups, extractor, report):
        begun = time.perf_counter()
        triples = zip(group, vectors, regions, strict=True)
        write([_entry(one, vector, boxes, labels) for one, vector, boxes in triples])
        report.added += len(group)
        report.seconds["write"] += time.perf_counter() - begun
        progress("embed", done + report.added + report.kept + len(report.skipped) - before, total)
    progress("embed", total, total)


def _entry(one: _Embedded, vector: NDArray[np.float32], regions: NDArray[np.float32] | None, labels: bool) -> Entry:
    file, metadata = one.file, metadata_of(one.file, labels)
    address = file.content.address
    return one.picture.entry(file.key, vector, metadata, source=address, stamp=one.stamp, regions=regions)


def _read(
    file: SourceFile,
    prepare_one: Callable[[bytes], Prepared],
    limits: Limits,
    known: str | None,
    fetched: Future[tuple[bytes, Stamp]] | None,
) -> _Read:
    data, stamp = fetched.result() if fetched else file.content.read(limits)
    if known and hashlib.sha256(data).hexdigest() == known:
        return _Read(None, stamp)
    return _Read(prepare_one(data), stamp)


def _prepared(
    files: Iterable[SourceFile],
    prepare_one: Callable[[bytes], Prepared],
    limits: Limits,
    report: BuildReport,
    known: Mapping[str, str],
) -> Iterator[_Embedded]:
    """Prepare files on all cores, a bounded number ahead, in order; those that fail go into the report."""
    workers = os.cpu_count() or 1
    ahead = max(8 * workers, 2 * FETCHES)
    waiting: deque[tuple[SourceFile, Future[_Read]]] = deque()
    remaining = iter(files)
    with (
        ThreadPoolExecutor(FETCHES, thread_name_prefix="fetch") as network,
        ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool,
    ):
        try:
            while True:
                while len(waiting) < ahead and (file := next(remaining, None)):
                    fetched = network.submit(file.content.read, limits) if file.content.remote else None
                    waiting.append((file, pool.submit(_read, file, prepare_one, limits, known.get(file.key), fetched)))
                if not waiting:
                    return
                file, future = waiting.popleft()
                try:
                    read = future.result()
                except (ImageError, OSError) as error:
                    report.skipped.append(file.skip(error))
                    continue
                if read.picture is None:
                    report.kept += 1
                else:
                    yield _Embedded(file, read.picture, read.stamp)
        finally:
            network.shutdown(wait=False, cancel_futures=True)
            pool.shutdown(cancel_futures=True)


def _batches(prepared: Iterator[_Embedded], size: int, report: BuildReport) -> Iterator[list[_Embedded]]:
    group: list[_Embedded] = []
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
    groups: Iterator[list[_Embedded]], extractor: Extractor, report: BuildReport
) -> Iterator[tuple[list[_Embedded], NDArray[np.float32], Regions]]:
    """Embed groups on a thread of their own, one ahead, so that the network runs while what it gave is written."""

    def embed(group: list[_Embedded]) -> tuple[NDArray[np.float32], Regions]:
        begun = time.perf_counter()
        vectors = extractor.embed(np.stack([one.picture.pixels for one in group]))
        shown = [one.picture.shown for one in group]
        regions = [extractor.windows.encode(one) if extractor.windows and one else None for one in shown]
        report.seconds["embed"] += time.perf_counter() - begun
        if not np.isfinite(vectors).all():
            raise WeightsMismatch(
                f"{extractor.card.model} with these weights gives vectors that are not numbers; use others"
            )
        return vectors, regions

    with ThreadPoolExecutor(1, thread_name_prefix="embed") as pool:
        last: tuple[list[_Embedded], Future[tuple[NDArray[np.float32], Regions]]] | None = None
        for group in groups:
            running = (group, pool.submit(embed, group))
            if last:
                yield last[0], *last[1].result()
            last = running
        if last:
            yield last[0], *last[1].result()
