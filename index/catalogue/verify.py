"""Check a catalogue folder from end to end: every file's SHA-256, and that all that is in it fits together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.catalogue.database import COUNTED, PART, Reading, open_database
from index.catalogue.files import base_files, hash_file, original_file, region_files
from index.catalogue.generation import Generation, read_generation
from index.catalogue.hashes import open_hashes, stored_hashes
from index.catalogue.regions import labels_of
from index.catalogue.rows import (
    ITEM,
    SIGNATURE,
    checksum_bytes,
    checksum_item,
    checksum_signature,
    checksum_text,
)
from index.columns.build import TableBuilder
from index.columns.file import ColumnsFile, open_columns
from index.errors import VectorIndexError
from index.hnsw.file import HnswFile, open_hnsw_file
from index.hnsw.verify import Progress, check_codes, check_index
from index.metrics import Metric


def verify_catalogue(folder: Path, progress: Progress = lambda *_: None) -> Iterator[str]:
    """Look at all of a catalogue, and give each fault as a sentence that begins with the file it is in.

    It may be written to meanwhile. ``progress`` gets "hash" (bytes) and "vectors" (rows). Raises CatalogueNotFound or
    CatalogueMismatch when the folder is no catalogue of this format, and DamagedIndex when its database does not say what it
    is.
    """
    database = Reading(open_database(folder))
    try:
        with database.snapshot():
            meta, generation = read_generation(database, folder)
            yield from _check_files(folder, generation.files, progress)
            yield from _check_originals(folder, database if meta.originals else None)
            faults = list(check_database(database, generation))
            yield from (f"catalogue.sqlite: {fault}" for fault in faults)
            yield from _check_generation(folder, generation, meta.metric, len(meta.regions), database, progress)
    finally:
        database.close()


def _check_generation(
    folder: Path, generation: Generation, metric: Metric, boxes: int, database: Reading, progress: Progress
) -> Iterator[str]:
    base, codes, columns, hashes = base_files(generation.base)
    if not (folder / base).is_file():
        return  # told already
    try:
        file = open_hnsw_file(folder / base, generation.dim)
    except (VectorIndexError, OSError) as error:
        yield f"{base}: {error}"
        return
    yield from (f"{base}: {fault}" for fault in check_index(file, metric, progress))
    yield from (f"{codes}: {fault}" for fault in check_codes(folder / codes, file, metric))
    try:
        yield from (f"{base}: {fault}" for fault in _check_ids(file.labels(), generation, database))
        if boxes:
            yield from _check_regions(folder, file.labels(), boxes, generation, metric, progress)
        opened = open_columns(folder / columns)
        yield from (f"{columns}: {fault}" for fault in _check_columns(opened, file, generation, database))
        yield from (f"{hashes}: {fault}" for fault in _check_hashes(folder / hashes, file.labels(), database))
    except (VectorIndexError, OSError) as error:
        yield f"{columns}: {error}"


def _check_regions(
    folder: Path, ids: NDArray[np.int64], boxes: int, generation: Generation, metric: Metric, progress: Progress
) -> Iterator[str]:
    """Check the index of regional vectors, which is of the same items."""
    base, codes = region_files(generation.base)
    try:
        file = open_hnsw_file(folder / base, generation.dim)
    except (VectorIndexError, OSError) as error:
        yield f"{base}: {error}"
        return
    yield from (f"{base}: {fault}" for fault in check_index(file, metric, progress))
    yield from (f"{codes}: {fault}" for fault in check_codes(folder / codes, file, metric))
    if not np.array_equal(np.sort(file.labels()), labels_of(np.sort(ids), boxes)):
        yield f"{base}: its labels are not those of {boxes} boxes in each item"


def _check_files(folder: Path, files: dict[str, str], progress: Progress) -> Iterator[str]:
    sizes = {name: (folder / name).stat().st_size for name in files if (folder / name).is_file()}
    done = 0
    for name, digest in files.items():
        if name not in sizes:
            yield f"{name}: the file is missing"
            continue
        try:
            found = hash_file(folder / name)
        except OSError as error:
            yield f"{name}: the file cannot be read ({error.strerror})"
            continue
        if found != digest:
            yield f"{name}: the file has changed since the build (SHA-256 {found[:12]}, not {digest[:12]})"
        done += sizes[name]
        progress("hash", done, sum(sizes.values()))


def _check_originals(folder: Path, database: Reading | None) -> Iterator[str]:
    """Check the pictures' own files, where they are kept."""
    if database is None:
        return
    for (sha256,) in database.query("SELECT DISTINCT sha256 FROM items"):
        path = original_file(folder, sha256)
        if not path.is_file():
            yield f"{path.relative_to(folder)}: the file is missing"
        elif hash_file(path) != sha256:
            yield f"{path.relative_to(folder)}: the file has changed since it was added"


def check_database(database: Reading, generation: Generation) -> Iterator[str]:
    """Yield the faults of the database: every row is held to its checksum, and none may be lost."""
    try:
        for (found,) in database.query("PRAGMA integrity_check(10)"):
            if found != "ok":
                yield str(found)
        for number, facts, checksum in database.query("SELECT generation, facts, checksum FROM generations"):
            if checksum_text(str(facts)) != checksum:
                yield f"what it says of generation {number} has changed"
        for number, facts, checksum in database.query("SELECT generation, facts, checksum FROM matching"):
            if checksum_text(str(facts)) != checksum:
                yield f"the match model of generation {number} has changed"
        named = [name for (name,) in database.query("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for table in (one for one in COUNTED if one in named):  # older catalogues have no regions
            ((there, counted),) = database.query(
                f"SELECT (SELECT count(*) FROM {table}), (SELECT rows FROM counts WHERE name = '{table}')"
            )
            if there != counted:
                yield f"the table {table} has {there} rows where {counted} were written"
        changed = _first_changed(
            database, f"SELECT id, checksum, {ITEM} FROM items", lambda *facts: checksum_item(*facts)
        )
        changed |= _first_changed(database, "SELECT id, checksum, jpeg FROM thumbnails", _checksum_of)
        changed |= _first_changed(database, "SELECT id, checksum, vector FROM vectors", _checksum_of)
        changed |= _first_changed(
            database, f"SELECT id, checksum, {SIGNATURE} FROM signatures", lambda *facts: checksum_signature(*facts)
        )
        if "regions" in named:
            changed |= _first_changed(database, "SELECT id, checksum, vectors FROM regions", _checksum_of)
        if changed:
            yield f"the rows of {len(changed)} items have changed since they were written; the first, item {min(changed)}"
        for what, condition in (
            ("no thumbnail", "id NOT IN (SELECT id FROM thumbnails)"),
            ("metadata that is no JSON object", "NOT json_valid(metadata) OR json_type(metadata) <> 'object'"),
            (
                "neither a row in the index file nor a vector",
                f"id > {generation.last_id} AND id NOT IN (SELECT id FROM vectors)",
            ),
        ):
            ((count,),) = database.query(f"SELECT count(*) FROM items WHERE {condition}")
            if count:
                yield f"{count} items have {what}"
    except VectorIndexError as error:
        yield str(error)


def _checksum_of(data: object) -> int:
    return checksum_bytes(data if isinstance(data, bytes) else repr(data).encode())


def _first_changed(database: Reading, sql: str, checksum: Any) -> set[int]:
    return {item_id for item_id, known, *facts in database.rows(sql) if checksum(*facts) != known}


def _check_ids(labels: NDArray[np.int64], generation: Generation, database: Reading) -> Iterator[str]:
    """Check that the index has just the items that it was made of: those there now, and those removed since."""
    there = database.numbers("SELECT id FROM items WHERE id <= ? ORDER BY id", (generation.last_id,))
    sql = "SELECT DISTINCT id FROM changes WHERE kind = 'removed' AND seq > ?"
    gone = database.numbers(sql, (generation.last_change,))
    if np.setdiff1d(there, labels).size or np.setdiff1d(labels, np.append(there, gone)).size:
        yield f"its {len(labels)} labels are not the ids of the catalogue's {len(there)} items"


def _check_hashes(path: Path, labels: NDArray[np.int64], database: Reading) -> Iterator[str]:
    """Check that hashes are those of the items' signatures, but for items that were removed since."""
    words = open_hashes(path, len(labels))
    wrong = 0
    for at in range(0, len(labels), PART):
        part = labels[at : at + PART]
        found = stored_hashes(database, part.tolist())
        there = found.any(axis=1)
        wrong += int(np.any(found[there] != words[:, at : at + PART].T[there], axis=1).sum())
    if wrong:
        yield f"{wrong} hashes are not those of the items' signatures"


def _check_columns(columns: ColumnsFile, file: HnswFile, generation: Generation, database: Reading) -> Iterator[str]:
    """Check that the rows of ids are those of the index, and that the columns are those of the items' metadata."""
    labels = file.labels()
    order = np.argsort(labels)
    if not np.array_equal(columns.ids, labels[order]) or not np.array_equal(columns.rows_of_ids, order):
        yield "its ids are not those of the index file"
        return
    changed = database.numbers("SELECT DISTINCT id FROM changes WHERE seq > ?", (generation.last_change,))
    if changed.size:
        return  # the metadata that it was made of is no more; its SHA-256 has been checked
    table = TableBuilder()
    for at in range(0, len(labels), PART):
        part = labels[at : at + PART].tolist()
        marks = ", ".join("?" * len(part))
        found = dict(database.query(f"SELECT id, metadata FROM items WHERE id IN ({marks})", part))
        for row, item_id in enumerate(part, at):
            with suppress(KeyError, TypeError, ValueError, RecursionError, AttributeError):  # told already
                table.add(row, json.loads(found[item_id]))
    count, wrong = 0, []
    for path, of_elements, column in table.build(len(labels)):
        count += 1
        known = columns.elements(path) if of_elements else columns.column(path)
        if known is None or not known.equals(column):
            wrong.append(".".join(path))
    if wrong:
        yield f"{len(wrong)} columns are not those of the items' metadata; the first, {wrong[0]}"
    if count != len(columns):
        yield f"it has {len(columns)} columns where the items' metadata has {count}"
