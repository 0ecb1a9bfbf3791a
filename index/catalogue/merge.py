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
from index.catalogue.files import (
    BASE,
    EXTRACTOR,
    MERGE_LOCK,
    ORIGINALS,
    base_file,
    base_files,
    flush_folder,
    hash_file,
    region_files,
)
from index.catalogue.generation import (
    Generation,
    generation_before,
    kept_generations,
    read_generation,
    write_generation,
)
from index.catalogue.hashes import write_hashes
from index.catalogue.regions import labels_of
from index.catalogue.rows import insert_regions, insert_vector, now, select_in
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
Rows = tuple[NDArray[np.int64], NDArray[np.float32]]  # labels and what goes with them


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
        boxes = len(meta.regions)
        made = build_generation(folder, connection, following, meta.metric, base, progress, boxes=boxes)
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
    *,
    boxes: int,
    schema: str = "main",
) -> Generation:
    """Write the files of a ``planned`` generation, from the vectors of ``base`` and of a ``schema``; return it whole.

    ``boxes``: how many regional vectors each item has.
    """
    database = Reading(connection)
    with database.snapshot():  # one state of the items; what comes later is ahead of this generation
        ids = database.numbers("SELECT id FROM items ORDER BY id")
        ((last_change,),) = database.query("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'changes'")
    if not len(ids):
        raise EmptyCatalogue("the catalogue has no items left, and an index needs one; add some, or remove the folder")
    dim, done, total = planned.dim, 0, len(ids) * (1 + boxes)

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress("index", done, total)

    progress("index", 0, total)
    index, codes, columns, hashes = names = list(base_files(planned.base))
    merged = base.find_vectors if base else None
    rows = _stored(connection, ids, dim, f"{schema}.vectors", "vector", merged)
    labels = _build_index(folder / index, folder / codes, rows, len(ids), dim, metric, advance)
    _build_columns(folder / columns, connection, labels)
    write_hashes(folder / hashes, database, labels)
    if boxes:
        index, codes = region_files(planned.base)
        names += [index, codes]
        merged = base.find_regions if base else None
        there = np.sort(labels)  # some may have been removed meanwhile, and both are of the same items
        stored = _stored(connection, there, boxes * dim, f"{schema}.regions", "vectors", merged, lost=True)
        rows = ((labels_of(part, boxes), vectors.reshape(-1, dim)) for part, vectors in stored)
        _build_index(folder / index, folder / codes, rows, len(there) * boxes, dim, metric, advance)
    flush_folder(folder)
    return replace(
        planned,
        count=len(labels),
        last_id=int(ids[-1]),
        last_change=last_change,
        created_at=now(),
        files={name: digest for name, digest in planned.files.items() if not name.startswith(BASE)}
        | {name: hash_file(folder / name) for name in names},
    )


def _build_index(
    path: Path,
    codes: Path,
    rows: Iterator[Rows],
    count: int,
    dim: int,
    metric: Metric,
    progress: Callable[[int], None],
) -> NDArray[np.int64]:
    """Build an index file and its companion; return its labels by row."""
    build_hnsw(path, rows, count, dim, metric, progress=progress)
    file = open_hnsw_file(path, dim)
    build_codes(codes, file, metric)
    return file.labels()


def _stored(
    connection: sqlite3.Connection,
    ids: NDArray[np.int64],
    width: int,
    table: str,
    column: str,
    merged: Callable[[NDArray[np.int64]], tuple[NDArray[np.bool_], NDArray[np.float32]]] | None,
    *,
    lost: bool = False,
) -> Iterator[Rows]:
    """Yield chunks of ids, ascending, and what ``merged`` has of them, or else a table: float32 [n, width].

    Items that were removed meanwhile are left out; where they may not be ``lost``, they are all ones.
    """
    for at in range(0, len(ids), CHUNK):
        part = ids[at : at + CHUNK]
        values, there = np.ones((len(part), width), np.float32), np.zeros(len(part), bool)
        if merged:
            there, found = merged(part)
            values[there] = found
        sought = part[~there].tolist()
        for item_id, data in select_in(connection, f"SELECT id, {column} FROM {table} WHERE id IN ({{}})", sought):
            place = int(np.searchsorted(part, item_id))
            values[place], there[place] = np.frombuffer(data, np.float32), True
        there |= lost
        yield part[there], values[there]


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
        if base.regions:
            insert_regions(connection, item_id, base.regions.vectors(np.array([item_id]))[0])


def stored_vectors(
    connection: sqlite3.Connection, base: Base, item_id: int
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return an item's vector and, where the catalogue has them, its regional ones: of the index, or the database."""
    boxes = base.regions.boxes if base.regions else 0
    one, dim = np.array([item_id]), base.generation.dim
    whole = _stored(connection, one, dim, "vectors", "vector", base.find_vectors)
    ((_, (vector,)),) = whole
    if not boxes:
        return vector, None
    ((_, (regions,)),) = _stored(connection, one, boxes * dim, "regions", "vectors", base.find_regions)
    return vector, regions.reshape(boxes, dim)


def prune(folder: Path, connection: sqlite3.Connection, current: Generation) -> None:
    """Drop what a new generation has made superfluous: vectors that its index has, and the files of older generations."""
    remove_old_files(folder, connection)
    remove_old_originals(folder, connection)
    has_regions = any(name in current.files for name in region_files(current.base))
    for table in ("vectors", "regions") if has_regions else ("vectors",):
        count = PRUNED
        while count == PRUNED:
            with begin(connection):
                count = connection.execute(
                    f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE id <= ? LIMIT ?)",
                    (current.last_id, PRUNED),
                ).rowcount


def remove_old_files(folder: Path, connection: sqlite3.Connection) -> None:
    """Remove the files of generations that are not kept, and of merges that were broken off."""
    generations = kept_generations(connection)
    kept = {name for one in generations for name in (*base_files(one.base), *region_files(one.base), one.extractor)}
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
