"""catalogue.sqlite: its tables, and how it is opened, read and copied."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.catalogue.files import DATABASE
from index.errors import CatalogueNotFound, DamagedIndex


def hash_tables(database: Reading) -> str:
    """Return a SHA-256 over every value of every table, but for itself: what verify holds the database to."""
    digest = hashlib.sha256()
    for sql in (
        "SELECT name, value FROM meta WHERE name <> 'tables_sha256' ORDER BY name",
        "SELECT * FROM items ORDER BY id",
        "SELECT * FROM thumbnails ORDER BY id",
    ):
        for row in database.rows(sql):
            for value in row:
                data = value if isinstance(value, bytes) else repr(value).encode("utf-8", "surrogateescape")
                digest.update(f"{type(value).__name__} {len(data)} ".encode())
                digest.update(data)
    return digest.hexdigest()


# vector: float32 bytes, only while the item is not in the index file; row: where it is in that file.
# source_size and source_mtime_ns: what the file was when it was read, so that a resumed build can tell it again.
SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE items (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    sha256 TEXT NOT NULL,
    metadata TEXT NOT NULL,
    added_at TEXT NOT NULL,
    row INTEGER UNIQUE,
    vector BLOB,
    source_size INTEGER NOT NULL,
    source_mtime_ns INTEGER NOT NULL
);
CREATE TABLE thumbnails (id INTEGER PRIMARY KEY REFERENCES items (id) ON DELETE CASCADE, jpeg BLOB NOT NULL)
"""


def create_database(folder: Path, meta: dict[str, Any]) -> sqlite3.Connection:
    """Make catalogue.sqlite in ``folder``, in WAL mode, with its tables and ``meta`` in one transaction."""
    connection = sqlite3.connect(folder / DATABASE)
    connection.execute("PRAGMA journal_mode=WAL")
    with connection:
        connection.execute("BEGIN")
        for statement in SCHEMA.split(";\n"):
            connection.execute(statement)
        write_meta(connection, meta)
    return connection


def open_database(folder: Path, *, writable: bool = False) -> sqlite3.Connection:
    """Open a folder's catalogue.sqlite; usable from any thread, one at a time.

    A folder that cannot be written (a container's layer) is opened as immutable, since SQLite would otherwise want to
    make its lock files there. Raises CatalogueNotFound when the folder has no catalogue.
    """
    path = folder / DATABASE
    if not path.is_file():
        missing = "is a file" if folder.exists() else "is not there"
        what = f"has no {DATABASE}" if folder.is_dir() else missing
        raise CatalogueNotFound(
            f"{folder} is not a catalogue: it {what}; make one with: python cli.py build PHOTOS --out {folder}"
        )
    mode = "mode=rw" if writable else "mode=ro" if os.access(folder, os.W_OK) else "mode=ro&immutable=1"
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True, timeout=1, check_same_thread=False)
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


@contextmanager
def _damage_named() -> Iterator[None]:
    try:
        yield
    except (sqlite3.DatabaseError, TypeError, ValueError, OverflowError) as error:
        raise DamagedIndex(f"the catalogue's database cannot be read ({error}); restore or rebuild it") from None


class Reading:
    """A connection that reads, from any thread, one at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return all rows that a statement gives. Raises DamagedIndex when the database cannot be read."""
        with self._lock, _damage_named():
            return self._connection.execute(sql, values).fetchall()

    def numbers(self, sql: str, values: Sequence[Any] = ()) -> NDArray[np.int64]:
        """Return the whole numbers that a statement of one column gives, int64 [n]. Raises DamagedIndex."""
        with self._lock, _damage_named():
            return np.fromiter((number for (number,) in self._connection.execute(sql, values)), np.int64)

    def rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a statement one by one; other readers wait meanwhile. Raises DamagedIndex."""
        with self._lock, _damage_named():
            yield from self._connection.execute(sql)

    def copy_to(self, path: Path) -> None:
        """Write a consistent, self-contained copy of the database, whoever else is writing to it."""
        with self._lock, closing(sqlite3.connect(path)) as target:
            self._connection.backup(target)

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()


def read_meta(database: Reading, folder: Path) -> dict[str, Any]:
    """Return all meta values. Raises CatalogueNotFound when the file is not a catalogue's database."""
    try:
        return {name: json.loads(value) for name, value in database.query("SELECT name, value FROM meta")}
    except (DamagedIndex, ValueError) as error:
        raise CatalogueNotFound(
            f"{folder / DATABASE} is not a catalogue's database ({error}); restore or rebuild it"
        ) from None


def write_meta(connection: sqlite3.Connection, values: dict[str, Any]) -> None:
    """Set meta values; the caller commits."""
    rows = [(name, json.dumps(value)) for name, value in values.items()]
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)
