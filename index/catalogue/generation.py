"""Generations: each is an index file with its companions, and how much of the items' history is in it.

A generation's row in catalogue.sqlite never changes; the meta value ``generation`` says which one is current, and the one
before it is kept for a rollback.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from index.catalogue.database import Reading, open_database, read_meta
from index.catalogue.files import DATABASE, EXTRACTOR, FORMAT_VERSION
from index.catalogue.regions import Box
from index.catalogue.rows import checksum_text
from index.errors import CatalogueMismatch, CatalogueNotFound, DamagedIndex
from index.metrics import Metric

KEPT = 2  # generations: the current one, and the one before


@dataclass(frozen=True, slots=True)
class Generation:
    """What a generation is made of.

    ``base`` is its index file, of ``count`` items; ``files`` has the SHA-256 of each file of the catalogue but the
    database. It holds the items up to ``last_id`` but for those removed, with their metadata as of the change
    ``last_change``. ``extractor`` is the folder of the model, with ``model``, ``fingerprint`` and ``dim``, that made its
    vectors.
    """

    generation: int
    base: str
    count: int
    last_id: int
    last_change: int
    created_at: str
    extractor: str
    model: str
    fingerprint: str
    dim: int
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class CatalogueInfo:
    """What a catalogue says of itself. ``fingerprint`` is that of the extractor whose vectors it holds, ``files`` has the
    SHA-256 of each of its files but the database, ``count`` how many items it has, ``unmerged`` how many of them the index
    file has not, ``originals`` whether it keeps the pictures' own files, ``merged_at`` when that was made, ``regions`` the
    boxes in pictures, in shares of them, of which its items have vectors too."""

    format_version: int
    model: str
    fingerprint: str
    dim: int
    metric: Metric
    m: int
    ef_construction: int
    labelled: bool
    originals: bool
    generation: int
    base: str
    extractor: str
    files: dict[str, str]
    created_at: str
    merged_at: str
    count: int
    unmerged: int
    regions: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class CatalogueMeta:
    """What is true of all of a catalogue's generations. ``regions``: the boxes of which items have vectors, or none."""

    format_version: int
    metric: Metric
    m: int
    ef_construction: int
    labelled: bool
    originals: bool
    created_at: str
    generation: int
    regions: tuple[Box, ...] = ()


_META = TypeAdapter(CatalogueMeta)
_GENERATION = TypeAdapter(Generation)


def read_generation(database: Reading, folder: Path) -> tuple[CatalogueMeta, Generation]:
    """Return what the database in ``folder`` says of its catalogue, and of the current generation.

    Raises CatalogueNotFound, CatalogueMismatch (another format) or DamagedIndex.
    """
    meta = read_meta(database, folder)
    if (found := meta.get("format_version")) != FORMAT_VERSION:
        raise CatalogueMismatch(
            f"{folder} is a catalogue of format {found}; this version reads format {FORMAT_VERSION}; "
            "build it again with --overwrite"
        )
    if "generation" not in meta:
        raise CatalogueNotFound(f"{folder} is an unfinished build; run the same build command again to go on with it")
    try:
        known = _META.validate_json(json.dumps(meta), strict=True)
        ((facts,),) = database.query("SELECT facts FROM generations WHERE generation = ?", (known.generation,)) or [
            ("{}",)
        ]
        generation = _GENERATION.validate_json(facts, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
        raise DamagedIndex(
            f"{folder / DATABASE} does not say what the catalogue is ({what}); restore or rebuild it"
        ) from None
    names = (generation.base, generation.extractor, *generation.files)
    if strange := [name for name in names if Path(name).is_absolute() or ".." in Path(name).parts]:
        raise DamagedIndex(
            f"{folder / DATABASE} names {strange[0]}, which is not in the catalogue; restore or rebuild it"
        )
    return known, generation


def write_generation(connection: sqlite3.Connection, generation: Generation) -> None:
    """Make a generation the current one, and forget those that are older than the one before; the caller commits."""
    facts = json.dumps(asdict(generation))
    connection.execute("INSERT INTO generations VALUES (?, ?, ?)", (generation.generation, facts, checksum_text(facts)))
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('generation', ?)", (json.dumps(generation.generation),))
    connection.execute(
        "DELETE FROM generations WHERE generation NOT IN "
        "(SELECT generation FROM generations ORDER BY generation DESC LIMIT ?)",
        (KEPT,),
    )
    oldest = min(one.last_change for one in kept_generations(connection))
    connection.execute("DELETE FROM changes WHERE seq <= ?", (oldest,))


def kept_generations(connection: sqlite3.Connection) -> list[Generation]:
    """Return the generations that are kept, the newest first."""
    rows = connection.execute("SELECT facts FROM generations ORDER BY generation DESC").fetchall()
    return [_GENERATION.validate_json(facts) for (facts,) in rows]


def generation_before(connection: sqlite3.Connection, current: Generation) -> Generation | None:
    """Return the generation that was kept when ``current`` took its place, if there was one."""
    return next((one for one in kept_generations(connection) if one.generation != current.generation), None)


def slot_of(extractor: str) -> int:
    """Return which of two places an extractor's folder stands for, by its name: a migration leads to the other one."""
    return 1 if extractor.startswith(f"{EXTRACTOR}-1-") else 0


def current_extractor(folder: Path) -> str:
    """Return the name of the extractor's folder in the catalogue ``folder``. Raises as read_generation does."""
    with closing(open_database(folder)) as connection:
        return read_generation(Reading(connection), folder)[1].extractor
