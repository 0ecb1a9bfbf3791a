"""Build a catalogue: read, decode, embed and write at the same time, each timed. Prints nothing."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from copies import refit_match_model
from index import METRICS, CatalogueMismatch, CatalogueWriter, EmptyCatalogue, Metric, start_catalogue
from ingest.embed import BuildReport, Progress, embed_files, metadata_of
from ingest.prepare import OWN_FIELDS
from ingest.sources.records import SourceFile, Sources
from model import Extractor, Limits

# Counts the changes to what a picture's file gives (pixels, metadata): items that an older reader made are not reused.
READER = 3
PART = 500  # items in one transaction


def build_catalogue(
    sources: Sources,
    out: Path,
    extractor: Extractor,
    *,
    metric: Metric = "cosine",
    limits: Limits = Limits(),
    labels: bool = False,
    originals: bool = False,
    overwrite: bool = False,
    batch: int = 32,
    progress: Progress = lambda stage, done, total: None,
) -> BuildReport:
    """Embed every picture and write the catalogue ``out``; go on with a build of it that was broken off.

    A file that cannot be read is skipped, with its reason in the report. ``originals``: keep the pictures' files. With
    ``overwrite``, what is unchanged since the catalogue at ``out`` was built (key, size, modification time; same extractor)
    is taken over from it. Whatever interrupts this leaves ``out`` untouched and keeps the finished part for the next call.
    Last, the match model is fitted; a catalogue without it is whole, and has the built-in one.

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
        originals=originals,
        regions=extractor.windows.boxes if extractor.windows else (),
        reader=READER,
        overwrite=overwrite,
    )
    try:
        extractor.save(writer.extractor_folder)
        folders = list(sources.skipped)
        report = BuildReport(skipped=sources.skipped, others=sources.others, left_out=sources.left_out)
        todo = _not_yet_in(writer, sources, report, labels)
        total = len(sources.files)
        embed_files(
            todo,
            extractor,
            writer.add,
            limits=limits,
            labels=labels,
            batch=batch,
            done=total - len(todo),
            progress=progress,
            report=report,
            keep=originals,
        )
        if not len(writer):
            writer.abandon()
            first = report.skipped[len(folders)]
            raise EmptyCatalogue(
                f"none of {total} files could be read, so there is no catalogue to write; "
                f"the first, {first['key']}: {first['reason']}"
            )
        _index(writer, report, progress)
        writer.publish(asdict(report))
        refit_match_model(out, lambda _: extractor, progress)
        return report
    finally:
        writer.close()


def _not_yet_in(writer: CatalogueWriter, sources: Sources, report: BuildReport, labels: bool) -> list[SourceFile]:
    """Return the files to embed; drop from a broken-off build what has gone or changed, take over what was built before."""
    now = {file.key: stamp for file in sources.files if (stamp := file.content.stamp())}
    known = writer.known()
    writer.discard(key for key, facts in known.items() if now.get(key) != facts)
    kept = {key for key, facts in known.items() if now.get(key) == facts}
    report.kept = len(kept)
    reused = writer.take_over({key: facts for key, facts in now.items() if key not in kept})
    report.reused = len(reused)
    there = {file.key: file for file in sources.files if file.key in kept or file.key in reused}

    def describe(key: str, old: dict[str, Any]) -> dict[str, Any]:  # a table may say something else now
        return {name: old[name] for name in OWN_FIELDS if name in old} | metadata_of(there[key], labels)

    keys = list(there)
    for at in range(0, len(keys), PART):
        writer.describe(keys[at : at + PART], describe)
    return [file for file in sources.files if file.key not in there]


def _index(writer: CatalogueWriter, report: BuildReport, progress: Progress) -> None:
    begun = time.perf_counter()
    writer.build_index(progress)
    report.seconds["index"] = time.perf_counter() - begun
