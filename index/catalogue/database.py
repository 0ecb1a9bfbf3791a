"""catalogue.sqlite: its tables, and how it is opened, read and copied."""

from __future__ import annotations

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
from index.errors import CatalogueBusy, CatalogueMismatch, CatalogueNotFound, DamagedIndex, DiskFull

PART = 500  # SQLite takes a bounded number of parameters
BUSY_SECONDS = 30  # that a writer waits for another one
# vectors: float32 bytes of the items that the current generation's index has not. changes: what became of items that it has,
# or an earlier one. checksum: of the row (index/catalogue/rows.py). counts: kept by triggers, so that a lost row is seen.
# regions: float32 bytes of the vectors of a few boxes in an item's picture, one after the other, where there are some.
# signatures: of each picture its luma and perceptual hash, the digest of its pixels, the size of its file and its format.
# matching: what tells copies from pictures that are alike, as it was fitted for a generation, and holds for later ones.
# jobs, job_items: pictures that are to be added; lease: until when (a Unix time) their owner has them; attempts: how often
# they were taken since one was done; result: the JSON of what became of one.
# source: where the picture was read, a path or a URL, or nothing; source_size and source_mtime_ns (a time in ns, or another
# number that changes with the bytes): what it was then, so that only changed ones are read again.
SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE generations (generation INTEGER PRIMARY KEY, facts TEXT NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE items (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    sha256 TEXT NOT NULL,
    metadata TEXT NOT NULL,
    added_at TEXT NOT NULL,
    source_size INTEGER NOT NULL,
    source_mtime_ns INTEGER NOT NULL,
    source TEXT NOT NULL,
    checksum INTEGER NOT NULL
);
CREATE TABLE thumbnails (
    id INTEGER PRIMARY KEY REFERENCES items (id) ON DELETE CASCADE, jpeg BLOB NOT NULL, checksum INTEGER NOT NULL
);
CREATE TABLE vectors (
    id INTEGER PRIMARY KEY REFERENCES items (id) ON DELETE CASCADE, vector BLOB NOT NULL, checksum INTEGER NOT NULL
);
CREATE TABLE regions (
    id INTEGER PRIMARY KEY REFERENCES items (id) ON DELETE CASCADE, vectors BLOB NOT NULL, checksum INTEGER NOT NULL
);
CREATE TABLE signatures (
    id INTEGER PRIMARY KEY REFERENCES items (id) ON DELETE CASCADE, luma BLOB NOT NULL, hash BLOB NOT NULL,
    pixels BLOB NOT NULL, bytes INTEGER NOT NULL, format TEXT NOT NULL, checksum INTEGER NOT NULL
);
CREATE INDEX items_sha256 ON items (sha256);
CREATE INDEX signatures_pixels ON signatures (pixels);
CREATE TABLE matching (generation INTEGER PRIMARY KEY, facts TEXT NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE changes (seq INTEGER PRIMARY KEY AUTOINCREMENT, id INTEGER NOT NULL, kind TEXT NOT NULL);
CREATE TABLE counts (name TEXT PRIMARY KEY, rows INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counts VALUES ('items', 0), ('thumbnails', 0), ('vectors', 0), ('regions', 0), ('signatures', 0);
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, created_at TEXT NOT NULL, finished_at TEXT, owner TEXT, lease REAL NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE job_items (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE, place INTEGER NOT NULL, key TEXT NOT NULL,
    metadata TEXT NOT NULL, url TEXT, data BLOB, result TEXT, PRIMARY KEY (job, place)
);
CREATE TABLE requests (
    name TEXT PRIMARY KEY, digest TEXT NOT NULL, answer TEXT NOT NULL, at REAL NOT NULL
) WITHOUT ROWID
"""
COUNTED = ("items", "thumbnails", "vectors", "regions", "signatures")


class Connection(sqlite3.Connection):
    """A connection that knows whether the file that it has open is still the one at its path."""

    def __init__(self, database: str, *, path: Path, **options: Any) -> None:
        # Before it is opened: a file replaced between the two is then refused, and never taken for the one opened.
        self._path, self._inode = path, _inode(path)
        super().__init__(database, **options)

    def check_in_place(self) -> None:
        """Raise CatalogueMismatch where another file has taken its place: what is written to the old one would be lost."""
        if _inode(self._path) != self._inode:
            raise CatalogueMismatch(
                f"{self._path.parent} was replaced by another catalogue, or removed, while it was open; restart the "
                "service that has it open, or run the command again"
            )


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def create_database(folder: Path, meta: dict[str, Any]) -> sqlite3.Connection:
    """Make catalogue.sqlite in ``folder``, in WAL mode, with its tables and ``meta`` in one transaction."""
    connection = sqlite3.connect(folder / DATABASE, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    with begin(connection):
        for statement in SCHEMA.split(";\n"):
            connection.execute(statement)
        for table in COUNTED:
            for event, step in (("INSERT", "+ 1"), ("DELETE", "- 1")):
                connection.execute(
                    f"CREATE TRIGGER {table}_{event.lower()} AFTER {event} ON {table} BEGIN "
                    f"UPDATE counts SET rows = rows {step} WHERE name = '{table}'; END"
                )
        write_meta(connection, meta)
    return connection


def open_database(folder: Path, *, writable: bool = False, seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """Open a folder's catalogue.sqlite; usable from any thread, one at a time.

    ``seconds``: how long to wait for another process that writes.

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
    connection = Connection(
        f"{path.resolve().as_uri()}?{mode}",
        uri=True,
        timeout=seconds,
        check_same_thread=False,
        isolation_level=None,  # transactions begin and end where the code says so
        path=path,
    )
    try:
        connection.execute("PRAGMA foreign_keys=ON")
        if writable:
            connection.execute("PRAGMA synchronous=FULL")  # what is committed survives a power cut
    except sqlite3.DatabaseError as error:
        connection.close()
        if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise CatalogueBusy(f"{folder} is being written by another process that keeps all others out") from None
        raise CatalogueNotFound(f"{path} is not a catalogue's database ({error}); restore or rebuild it") from None
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

    def query_in(self, sql: str, values: Sequence[Any]) -> list[Any]:
        """Return the rows of a statement whose ``{}`` stands for any number of values. Raises DamagedIndex."""
        rows: list[Any] = []
        for at in range(0, len(values), PART):
            part = values[at : at + PART]
            rows += self.query(sql.format(", ".join("?" * len(part))), part)
        return rows

    def rows(self, sql: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a statement one by one; other readers wait meanwhile. Raises DamagedIndex."""
        with self._lock, _damage_named():
            yield from self._connection.execute(sql, values)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all queries within see one state of the database; the connection must be this thread's alone meanwhile."""
        self.query("BEGIN")
        try:
            yield
        finally:
            self.query("ROLLBACK")

    def copy_to(self, path: Path) -> None:
        """Write a consistent, self-contained copy of the database, whoever else is writing to it."""
        with self._lock, closing(sqlite3.connect(path)) as target:
            self._connection.backup(target)

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()


@contextmanager
def begin(connection: sqlite3.Connection) -> Iterator[None]:
    """Run a transaction that writes: all of it is durable at the end, or none of it happened.

    Others that write wait. Raises CatalogueBusy when another one writes for too long, CatalogueMismatch when the file was
    replaced since it was opened, DiskFull, or DamagedIndex.
    """
    with _faults_named():
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            if isinstance(connection, Connection):
                connection.check_in_place()
            connection.commit()
        except BaseException:
            connection.rollback()
            raise


@contextmanager
def _faults_named() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise CatalogueBusy(f"another process has been writing for {BUSY_SECONDS} s; try again") from None
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise DiskFull(f"nothing was written, since the disk does not take it ({error}); free some space") from None
        raise DamagedIndex(f"the catalogue's database cannot be written ({error}); restore or rebuild it") from None
    except sqlite3.DatabaseError as error:
        raise DamagedIndex(f"the catalogue's database cannot be written ({error}); restore or rebuild it") from None


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
