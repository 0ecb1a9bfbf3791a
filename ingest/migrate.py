"""Embed a catalogue's own pictures by another extractor, while it is used, and switch to it. Prints nothing."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from copies import refit_match_model
from index import (
    Entry,
    Generation,
    Migration,
    Overlap,
    StoredItem,
    original_file,
    read_stored_items,
    start_going_back,
    start_migration,
)
from ingest.embed import BuildReport, Progress, embed_files
from ingest.sources.addresses import open_address
from ingest.sources.content import Content, Fetch, Stamp
from ingest.sources.records import SourceFile, skip
from ingest.sources.samples import read_samples
from model import Extractor, ExtractorCard, ImageError, Limits, UnreadableImage

PART = 2048  # items that are listed at once
COMPARED = 200  # pictures that both extractors are compared on
TIMED = 8  # pictures that are embedded one by one, by each extractor


class UnreadablePictures(Exception):
    """Some of a catalogue's pictures cannot be had, not even their thumbnails, so that it cannot be migrated."""


@dataclass(slots=True)
class MigrationReport:
    """What became of a migration.

    ``from_thumbnails`` are the items whose own files could not be read, with the reasons; ``overlap`` is how alike both
    extractors see the catalogue, ``milliseconds`` what a picture takes the network, before and after; None for both on the
    way back. ``generation`` is None where nothing was switched.
    """

    embedded: int = 0
    from_thumbnails: list[dict[str, str]] = field(default_factory=list)
    overlap: Overlap | None = None
    milliseconds: tuple[float, float] | None = None
    generation: Generation | None = None


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """An item's picture: the file that was kept, or its own where that is still the same, else its thumbnail; the reason for
    this goes into ``notes``."""

    item: StoredItem
    original: Path
    content: Content
    notes: list[dict[str, str]]

    @property
    def address(self) -> str:
        return self.content.address

    @property
    def remote(self) -> bool:
        return self.content.remote

    def stamp(self) -> Stamp | None:
        return None

    def read(self, limits: Limits) -> tuple[bytes, Stamp]:
        try:
            kept = self.original.is_file()
            data = self.original.read_bytes() if kept else self.content.read(limits)[0]
            if hashlib.sha256(data).hexdigest() != self.item.sha256:
                raise UnreadableImage("its file has changed since it was added")
        except (ImageError, OSError) as error:
            self.notes.append(skip(self.item.key, str(error)))
            data = self.item.thumbnail
        return data, (0, 0)


def stored_files(
    folder: Path, items: Sequence[StoredItem], fetch: Fetch | None, notes: list[dict[str, str]] | None = None
) -> list[SourceFile]:
    """Return the pictures of items of the catalogue in ``folder``; their keys here are their ids."""
    notes = [] if notes is None else notes
    return [
        SourceFile(
            str(one.id),
            StoredPicture(one, original_file(folder, one.sha256), open_address(one.source, fetch), notes),
            "",
        )
        for one in items
    ]


def migrate_catalogue(
    folder: Path,
    extractor: Extractor,
    before: Extractor,
    *,
    limits: Limits = Limits(),
    batch: int = 32,
    fetch: Fetch | None = None,
    dry_run: bool = False,
    progress: Progress = lambda stage, done, total: None,
) -> MigrationReport:
    """Embed all pictures of the catalogue in ``folder`` by ``extractor``, compare it with the one ``before``, and switch.

    The catalogue is searched and written to meanwhile, by the extractor before. Interrupted, the same call goes on. With
    ``dry_run`` nothing is switched, and what was embedded is kept.

    Raises CatalogueBusy, CatalogueMismatch (it is this extractor's already), UnreadablePictures, WeightsMismatch, OSError.
    """
    report = MigrationReport()
    card = extractor.card
    migration = start_migration(
        folder, model=card.model, fingerprint=card.fingerprint, dim=card.dim, save=extractor.save
    )
    with closing(migration):
        embed = _Embedding(migration, extractor, limits, batch, fetch, progress, report)
        embed.all()
        migration.build(progress)
        report.overlap = migration.compare(COMPARED)
        pixels = _some_pixels(folder, (before, extractor), limits)
        report.milliseconds = (_time(before, pixels[0]), _time(extractor, pixels[1]))
        if not dry_run:
            _switch(embed)
            refit_match_model(folder, lambda _: extractor, progress)
    return report


def go_back(
    folder: Path,
    open_extractor: Callable[[str], Extractor],
    *,
    limits: Limits = Limits(),
    batch: int = 32,
    fetch: Fetch | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> MigrationReport:
    """Go back to the generation before, whose extractor ``open_extractor`` opens by the name of its folder.

    What was added since is embedded by it. Raises as migrate_catalogue, and NothingToRollBack.
    """
    report = MigrationReport()
    with closing(start_going_back(folder)) as migration:
        extractor = open_extractor(migration.planned.extractor)
        _switch(_Embedding(migration, extractor, limits, batch, fetch, progress, report))
    return report


@dataclass(slots=True)
class _Embedding:
    migration: Migration
    extractor: Extractor
    limits: Limits
    batch: int
    fetch: Fetch | None
    progress: Progress
    report: MigrationReport

    def all(self) -> None:
        """Embed all items that lack a new vector. Raises UnreadablePictures."""
        while items := self.migration.lacking(PART):
            done, total = self.migration.count()
            found = BuildReport()
            embed_files(
                stored_files(self.migration.folder, items, self.fetch, self.report.from_thumbnails),
                self.extractor,
                self._write,
                limits=self.limits,
                labels=False,
                batch=self.batch,
                done=done,
                progress=lambda stage, now, _, total=total: self.progress(stage, min(now, total), total),  # type: ignore[misc]
                report=found,
            )
            self.report.embedded += found.added
            if found.skipped:
                keys = {str(one.id): one.key for one in items}
                first = found.skipped[0]
                raise UnreadablePictures(
                    f"{len(found.skipped)} pictures can be read neither from their files nor from their thumbnails; "
                    f"the first, {keys[first['key']]}: {first['reason']}; remove these items, or restore a backup"
                )

    def _write(self, entries: list[Entry]) -> None:
        regions = {int(one.key): one.regions for one in entries if one.regions is not None}
        self.migration.add({int(one.key): one.vector for one in entries}, regions)


def _switch(embedding: _Embedding) -> None:
    """Switch, as soon as what was added meanwhile has its vectors too."""
    while True:
        embedding.all()
        if made := embedding.migration.switch():
            embedding.report.generation = made
            return


def _some_pixels(folder: Path, extractors: Sequence[Extractor], limits: Limits) -> list[NDArray[np.uint8]]:
    files = stored_files(folder, read_stored_items(folder, TIMED), None)
    return [read_samples(files, one.card, TIMED, limits) for one in extractors]


def _time(extractor: Extractor, pixels: NDArray[np.uint8]) -> float:
    """Return the milliseconds that the network takes for one picture, the median."""
    extractor.embed(pixels[:1])
    times = []
    for one in pixels:
        begun = time.perf_counter()
        extractor.embed(one[None])
        times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times)


@dataclass(frozen=True, slots=True)
class CatalogueSamples:
    """Some of the own pictures of the catalogue in ``folder``, for an extractor to be measured on."""

    folder: Path
    limits: Limits
    fetch: Fetch | None = None

    def __call__(self, card: ExtractorCard, count: int) -> NDArray[np.uint8]:
        """Return at most ``count`` pictures, uint8 [n, height, width, 3]. Raises EmptyCatalogue when none can be read."""
        files = stored_files(self.folder, read_stored_items(self.folder, count), self.fetch)
        return read_samples(files, card, count, self.limits)
