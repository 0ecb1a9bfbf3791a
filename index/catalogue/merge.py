"""Merge: make a new generation's index of all items, while others read and write.

Only the end is a transaction: the generation switches, and what was written meanwhile stays ahead of it, as unmerged items
and changes. Readers that have the files of a generation open keep them; the files of the one before are kept for a rollback.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.catalogue.base import Base
from index.catalogue.database import Reading, begin, open_database
from index.catalogue.files import BASE, EXTRACTOR, MERGE_LOCK, ORIGINALS, base_file, base_files, flush_folder, hash_file
from index.catalogue.generation import (
    Generation,
    generation_before,
    kept_generations,
    read_generation,
    write_generation,
)
from index.catalogue.rows import insert_vector, now, select_in
from index.columns.build import TableBuilder
from index.columns.file import write_columns
from index.errors import CatalogueBusy, CatalogueMismatch, EmptyCatalogue, NothingToRollBack
from index.hnsw.build import build_hnsw
from index.hnsw.codes import build_codes
from index.hnsw.file import open_hnsw_file
from index.metrics import Metric

CHUNK = 1024
PRUNED = 500  # vectors that leave the database in one transaction
Progress = Callable[[str, int, int], None]  # stage, done, total


@contextmanager
def merge_lock(folder: Path) -> Iterator[None]:
    """Keep all others from merging a catalogue. Raises CatalogueBusy while one does."""
    with (folder / MERGE_LOCK).open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CatalogueBusy(f"{folder} is being merged by another process; wait for it, or end it") from None
        yield


def merge_catalogue(folder: Path, progress: Progress = lambda *_: None) -> Generation:
    """Make a new generation of all items of the catalogue in ``folder``, and return it: the current one if it has them all.

    Interrupted at any moment it leaves the catalogue as it was. Raises CatalogueBusy, EmptyCatalogue, DamagedIndex, OSError.
    """
    with closing(open_database(folder, writable=True)) as connection, merge_lock(folder):
        meta, current = read_generation(Reading(connection), folder)
        remove_old_files(folder, connection)
        base = Base(folder, current, meta.metric)
        if not _is_behind(connection, current):
            return current
        following = replace(
            current, generation=current.generation + 1, base=unused_base(folder, current.generation + 1)
        )
        made = build_generation(folder, connection, following, meta.metric, base, progress)
        with begin(connection):
            write_generation(connection, made)
        prune(folder, connection, made)
        return made


def _is_behind(connection: sqlite3.Connection, current: Generation) -> bool:
    sql = "SELECT EXISTS (SELECT 1 FROM items WHERE id > ?) OR EXISTS (SELECT 1 FROM changes WHERE seq > ?)"
    ((behind,),) = connection.execute(sql, (current.last_id, current.last_change))
    return bool(behind)


def build_generation(
    folder: Path,
    connection: sqlite3.Connection,
    planned: Generation,
    metric: Metric,
    base: Base | None,
    progress: Progress,
    vectors: str = "vectors",
) -> Generation:
    """Write the files of a ``planned`` generation, from the vectors of ``base`` and of a table; return it whole."""
    database = Reading(connection)
    with database.snapshot():  # one state of the items; what comes later is ahead of this generation
        ids = database.numbers("SELECT id FROM items ORDER BY id")
        ((last_change,),) = database.query("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'changes'")
    if not len(ids):
        raise EmptyCatalogue("the catalogue has no items left, and an index needs one; add some, or remove the folder")
    last_id = int(ids[-1])
    path = folder / planned.base
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress("index", done, len(ids))

    progress("index", 0, len(ids))
    build_hnsw(
        path, _vectors(connection, ids, base, planned.dim, vectors), len(ids), planned.dim, metric, progress=advance
    )
    file = open_hnsw_file(path, planned.dim)
    build_codes(folder / base_files(planned.base)[1], file, metric)
    labels = file.labels()
    _build_columns(folder / base_files(planned.base)[2], connection, labels)
    flush_folder(folder)
    return replace(
        planned,
        count=len(labels),
        last_id=last_id,
        last_change=last_change,
        created_at=now(),
        files={name: digest for name, digest in planned.files.items() if not name.startswith(BASE)}
        | {name: hash_file(folder / name) for name in base_files(planned.base)},
    )


def _vectors(
    connection: sqlite3.Connection, ids: NDArray[np.int64], base: Base | None, dim: int, table: str
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Yield chunks of labels and vectors in the order of ids; items that were removed meanwhile are left out."""
    for at in range(0, len(ids), CHUNK):
        part = ids[at : at + CHUNK]
        vectors = np.empty((len(part), dim), np.float32)
        there = np.zeros(len(part), bool)
        if base:
            rows = base.columns.rows(part)
            there = rows >= 0
            vectors[there] = base.index.vectors()[rows[there]]
        sought = part[~there].tolist()
        for item_id, vector in select_in(connection, f"SELECT id, vector FROM {table} WHERE id IN ({{}})", sought):
            place = int(np.searchsorted(part, item_id))
            vectors[place], there[place] = np.frombuffer(vector, np.float32), True
        yield part[there], vectors[there]


def _build_columns(path: Path, connection: sqlite3.Connection, labels: NDArray[np.int64]) -> None:
    table = TableBuilder()
    for at in range(0, len(labels), CHUNK):
        part = labels[at : at + CHUNK].tolist()
        found = dict(select_in(connection, "SELECT id, metadata FROM items WHERE id IN ({})", part))
        for row, item_id in enumerate(part, at):
            if item_id in found:  # else it was removed meanwhile
                table.add(row, json.loads(found[item_id]))
    write_columns(path, labels, table.build(len(labels)))


def rollback_catalogue(folder: Path) -> Generation:
    """Go back to the index of the generation before, and return it as the new one; no item is lost.

    Called again, it goes forth again. Raises CatalogueBusy, NothingToRollBack, DamagedIndex or OSError.
    """
    with closing(open_database(folder, writable=True)) as connection, merge_lock(folder):
        meta, current = read_generation(Reading(connection), folder)
        before = generation_before(connection, current)
        if before is None:
            raise NothingToRollBack(f"{folder} has no generation before {current.generation}; nothing was merged yet")
        if before.fingerprint != current.fingerprint:
            raise CatalogueMismatch(
                f"the generation before has vectors of {before.model}; items need to be embedded by it"
            )
        Base(folder, before, meta.metric)  # which must be sound
        base = Base(folder, current, meta.metric)
        with begin(connection):
            restore_vectors(connection, base, before)
            made = replace(before, generation=current.generation + 1)
            write_generation(connection, made)
        return made


def restore_vectors(connection: sqlite3.Connection, base: Base, before: Generation) -> None:
    """Put the vectors of the items that ``base`` has and the generation ``before`` has not back into the database."""
    lacking = connection.execute(
        "SELECT id FROM items WHERE id > ? AND id NOT IN (SELECT id FROM vectors) ORDER BY id", (before.last_id,)
    ).fetchall()
    for (item_id,) in lacking:
        (vector,) = base.vectors(np.array([item_id]))
        insert_vector(connection, item_id, vector)


def prune(folder: Path, connection: sqlite3.Connection, current: Generation) -> None:
    """Drop what a new generation has made superfluous: vectors that its index has, and the files of older generations."""
    remove_old_files(folder, connection)
    remove_old_originals(folder, connection)
    while True:
        with begin(connection):
            done = connection.execute(
                "DELETE FROM vectors WHERE id IN (SELECT id FROM vectors WHERE id <= ? LIMIT ?)",
                (current.last_id, PRUNED),
            )
        if done.rowcount < PRUNED:
            return


def remove_old_files(folder: Path, connection: sqlite3.Connection) -> None:
    """Remove the files of generations that are not kept, and of merges that were broken off."""
    generations = kept_generations(connection)
    kept = {name for one in generations for name in (*base_files(one.base), one.extractor)}
    for path in (*folder.glob(f"{BASE}*"), *folder.glob(f"{EXTRACTOR}*")):
        if path.name not in kept:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def remove_old_originals(folder: Path, connection: sqlite3.Connection) -> None:
    """Remove the files of pictures that are items no more; writers wait, so that none is about to become one again."""
    paths = {path.name: path for path in folder.glob(f"{ORIGINALS}/??/*")}
    names = list(paths)
    for at in range(0, len(names), CHUNK):
        part = names[at : at + CHUNK]
        with begin(connection):
            there = {sha for (sha,) in select_in(connection, "SELECT sha256 FROM items WHERE sha256 IN ({})", part)}
            for name in part:
                if name not in there:
                    paths[name].unlink(missing_ok=True)


def unused_base(folder: Path, number: int) -> str:
    """Return the name of an index file for a generation that no other has."""
    while (folder / base_file(number)).exists():  # of a generation that a rollback has gone back to
        number += 1
    return base_file(number)
