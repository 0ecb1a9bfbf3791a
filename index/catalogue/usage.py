"""What a catalogue takes and has to do: its generations, what is not merged, its jobs, and the disk."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from index.catalogue.database import Reading, open_database
from index.catalogue.files import BASE, DATABASE, EXTRACTOR, ORIGINALS
from index.catalogue.generation import kept_generations, read_generation


@dataclass(frozen=True, slots=True)
class KeptGeneration:
    """A generation that a catalogue has the files of, the newest first."""

    generation: int
    created_at: str
    model: str
    count: int


@dataclass(frozen=True, slots=True)
class CatalogueUsage:
    """What a catalogue takes, in bytes by kind of file, and has to do.

    ``changes``: removals and updates that the index file has not seen. ``jobs``: those that are not done, with so many
    ``pending_pictures``. ``migrating``: whether a migration was begun and not ended.
    """

    generations: list[KeptGeneration]
    changes: int
    jobs: int
    pending_pictures: int
    migrating: bool
    bytes: dict[str, int]
    free_bytes: int


def read_usage(folder: Path) -> CatalogueUsage:
    """Look at the catalogue in ``folder``. Raises CatalogueNotFound, CatalogueMismatch or DamagedIndex."""
    with closing(open_database(folder)) as connection:
        database = Reading(connection)
        _, current = read_generation(database, folder)
        ((changes,),) = database.query("SELECT count(*) FROM changes WHERE seq > ?", (current.last_change,))
        ((jobs,),) = database.query("SELECT count(*) FROM jobs WHERE finished_at IS NULL")
        ((pending,),) = database.query("SELECT count(*) FROM job_items WHERE result IS NULL")
        kept = [
            KeptGeneration(one.generation, one.created_at, one.model, one.count) for one in kept_generations(connection)
        ]
    sizes = {"database": 0, "index": 0, "extractor": 0, "originals": 0, "other": 0}
    kinds = ((DATABASE, "database"), (BASE, "index"), (EXTRACTOR, "extractor"), (ORIGINALS, "originals"))
    for path in folder.rglob("*"):
        if path.is_file():
            top = path.relative_to(folder).parts[0]
            sizes[next((kind for prefix, kind in kinds if top.startswith(prefix)), "other")] += path.stat().st_size
    return CatalogueUsage(
        generations=kept,
        changes=changes,
        jobs=jobs,
        pending_pictures=pending,
        migrating=(folder / f"{DATABASE}.migrating").is_file(),
        bytes=sizes,
        free_bytes=shutil.disk_usage(folder).free,
    )
