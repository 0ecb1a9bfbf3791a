"""Add pictures to a catalogue that is there: only new and changed files are embedded. Prints nothing."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Literal

from index import Entry, LiveWriter
from ingest.duplicates import DuplicateGate
from ingest.embed import BuildReport, Progress, embed_files, metadata_of
from ingest.sources.records import Sources
from model import Extractor, Limits

Duplicates = Literal["skip", "report"]
PART = 500  # items in one transaction


def add_sources(
    sources: Sources,
    writer: LiveWriter,
    extractor: Extractor,
    *,
    limits: Limits = Limits(),
    labels: bool = False,
    batch: int = 32,
    duplicates: Duplicates | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> BuildReport:
    """Embed every picture that the catalogue has not, or had when its file was another, and add it; each batch is durable.

    A file whose key, size and modification time, or key and bytes, the catalogue knows is not embedded again; what a table
    says of it is set. One that cannot be read is skipped, with its reason in the report. Interrupted, it keeps what was
    added, and the same call goes on. With ``duplicates``, those of what the catalogue has are looked for and reported, and
    not added where they are to be skipped.

    Raises CatalogueBusy, CatalogueMismatch, DiskFull, InvalidEntry, OSError or WeightsMismatch (vectors are not numbers).
    """
    known = writer.sources()
    report = BuildReport(skipped=sources.skipped, others=sources.others, left_out=sources.left_out)
    todo = []
    for file in sources.files:
        stamp = file.content.stamp() if file.key in known else None
        if stamp is None or known[file.key] != stamp:
            todo.append(file)
    report.kept = len(sources.files) - len(todo)
    fingerprint = extractor.card.fingerprint
    with ExitStack() as stack:
        gate = stack.enter_context(DuplicateGate(writer.folder)) if duplicates else None

        def write(entries: list[Entry]) -> None:
            if gate is None:
                writer.add(entries, fingerprint)
                return
            for entry in entries:  # one by one: the first of a batch may be what the second is a duplicate of
                if found := gate.duplicate_of(entry):
                    report.duplicates.append({"key": entry.key, **found})
                if found and duplicates == "skip":
                    report.added -= 1
                else:
                    writer.add([entry], fingerprint)

        embed_files(
            todo,
            extractor,
            write,
            limits=limits,
            labels=labels,
            batch=batch,
            done=report.kept,
            progress=progress,
            report=report,
            keep=writer.meta.originals,
            known=writer.hashes([file.key for file in todo if file.key in known]),
        )
    described = [file for file in sources.files if file.key in known and file.metadata]
    for at in range(0, len(described), PART):
        part = described[at : at + PART]
        writer.update([file.key for file in part], [metadata_of(file, labels) for file in part])
    return report
