"""Add pictures to a catalogue that is there: only new and changed files are embedded. Prints nothing."""

from __future__ import annotations

from index import LiveWriter
from ingest.embed import BuildReport, Progress, embed_files, metadata_of
from ingest.sources.records import Sources
from model import Extractor, Limits

PART = 500  # items in one transaction


def add_sources(
    sources: Sources,
    writer: LiveWriter,
    extractor: Extractor,
    *,
    limits: Limits = Limits(),
    labels: bool = False,
    batch: int = 32,
    progress: Progress = lambda stage, done, total: None,
) -> BuildReport:
    """Embed every picture that the catalogue has not, or had when its file was another, and add it; each batch is durable.

    A file whose key, size and modification time, or key and bytes, the catalogue knows is not embedded again; what a table
    says of it is set. One that cannot be read is skipped, with its reason in the report. Interrupted, it keeps what was
    added, and the same call goes on.

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
    embed_files(
        todo,
        extractor,
        lambda entries: writer.add(entries, fingerprint),
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
