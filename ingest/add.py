"""Add pictures to a catalogue that is there: only new and changed files are embedded. Prints nothing."""

from __future__ import annotations

from contextlib import suppress

from index import LiveWriter
from ingest.embed import BuildReport, Progress, embed_files
from ingest.sources import Sources
from model import Extractor, Limits


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

    A file whose key, size and modification time the catalogue knows is left alone; one that cannot be read is skipped, with
    its reason in the report. Interrupted, it keeps what was added, and the same call goes on.

    Raises CatalogueBusy, CatalogueMismatch, DiskFull, WeightsMismatch (vectors that are not numbers) or OSError.
    """
    known = writer.sources()
    report = BuildReport(skipped=sources.skipped, others=sources.others, left_out=sources.left_out)
    todo = []
    for file in sources.files:
        facts = None
        with suppress(OSError):  # gone since it was listed: reading it will say so
            stat = file.path.stat()
            facts = (stat.st_size, stat.st_mtime_ns)
        if facts is None or known.get(file.key) != facts:
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
    )
    return report
