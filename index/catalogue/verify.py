"""Check a catalogue folder from end to end: every file's SHA-256, and that all that is in it fits together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from index.catalogue.database import Reading, hash_tables, open_database
from index.catalogue.files import codes_file, hash_file
from index.catalogue.reader import read_info
from index.errors import VectorIndexError
from index.hnsw.file import HnswFile, open_hnsw_file
from index.hnsw.verify import Progress, check_codes, check_index


def verify_catalogue(folder: Path, progress: Progress = lambda *_: None) -> Iterator[str]:
    """Look at all of a catalogue, and give each fault as a sentence that begins with the file it is in.

    ``progress`` gets "hash" (bytes) and "vectors" (rows). Raises CatalogueNotFound or CatalogueMismatch when the
    folder is no catalogue of this format, and DamagedIndex when its database does not say what it is.
    """
    database = Reading(open_database(folder))
    try:
        info = read_info(database, folder)
        yield from _check_files(folder, info.files, progress)
        yield from (f"catalogue.sqlite: {fault}" for fault in _check_database(database, info.tables_sha256))
        if not (folder / info.base).is_file():
            return  # told already
        try:
            file = open_hnsw_file(folder / info.base, info.dim)
        except (VectorIndexError, OSError) as error:
            yield f"{info.base}: {error}"
            return
        yield from (f"{info.base}: {fault}" for fault in check_index(file, info.metric, progress))
        yield from (f"{info.base}: {fault}" for fault in _check_rows(file, database))
        codes = codes_file(info.base)
        yield from (f"{codes}: {fault}" for fault in check_codes(folder / codes, file, info.metric))
    finally:
        database.close()


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


def _check_database(database: Reading, digest: str) -> Iterator[str]:
    try:
        if (found := hash_tables(database)) != digest:
            yield f"its tables have changed since the build (SHA-256 {found[:12]}, not {digest[:12]})"
        for (found,) in database.query("PRAGMA integrity_check(10)"):
            if found != "ok":
                yield str(found)
        for what, condition in (
            ("no thumbnail", "id NOT IN (SELECT id FROM thumbnails)"),
            ("metadata that is no JSON object", "NOT json_valid(metadata) OR json_type(metadata) <> 'object'"),
            ("neither a row in the index file nor a vector", "row IS NULL AND vector IS NULL"),
        ):
            ((count,),) = database.query(f"SELECT count(*) FROM items WHERE {condition}")
            if count:
                yield f"{count} items have {what}"
    except VectorIndexError as error:
        yield str(error)


def _check_rows(file: HnswFile, database: Reading) -> Iterator[str]:
    """Check that each item's row in the index file has the item's id for its label, and each row its item."""
    try:
        rows, ids = (
            database.numbers(f"SELECT {column} FROM items WHERE row IS NOT NULL ORDER BY row")
            for column in ("row", "id")
        )
    except VectorIndexError as error:
        yield str(error)
        return
    labels = file.labels()
    if not np.array_equal(rows, np.arange(len(labels))) or not np.array_equal(ids, labels):
        yield f"its {len(labels)} labels are not the ids of the catalogue's {len(rows)} items"
