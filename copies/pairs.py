"""The pairs of a catalogue's pictures that may be duplicates, in a database of their own that can be removed at any time.

Each item is compared once, with those nearest to it by embedding and by hash, when it is the newest: what is added later is
compared with it. What a pair has in common is kept, and not its match, so that another match model needs no comparison.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from copies.compare import PART, PairComparer
from copies.fit import item_ids
from copies.match import MatchModel
from index import Catalogue, CatalogueBusy, DamagedIndex, DiskFull

PAIRS = "duplicates.sqlite"
VERSION = 1
BUSY_SECONDS = 30
READ = 100_000  # pairs that are read at a time
CHUNK = 512  # items that are compared in one transaction, in parts that threads take
HASHED = 200_000  # items: in larger catalogues pairs are looked for by embedding alone
SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE pairs (
    first INTEGER NOT NULL, second INTEGER NOT NULL, cosine REAL NOT NULL, distance INTEGER NOT NULL, fit REAL NOT NULL,
    PRIMARY KEY (first, second)
) WITHOUT ROWID
"""
# A pair is seen from either side, of which one may have found more to look at.
KEEP = """
INSERT INTO pairs VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET distance = min(distance, excluded.distance), fit = max(fit, excluded.fit)
"""
Progress = Callable[[str, int, int], None]  # stage, done, total


class Pairs(NamedTuple):
    """Pairs of items that are there: ids, int64 [n], the smaller one first; their cosine and their match, float64 [n]."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    cosine: NDArray[np.float64]
    match: NDArray[np.float64]


class Compared(NamedTuple):
    """How many of a catalogue's items have been compared, and how many there are."""

    done: int
    total: int


class PairStore:
    """The pairs of an open catalogue, in the database at ``path``, made if need be; for one thread.

    Raises OSError or DiskFull where it cannot be written.
    """

    def __init__(self, path: Path, catalogue: Catalogue) -> None:
        self._path = path
        self._catalogue = catalogue
        self._connection = _open(path, catalogue)

    def compared(self) -> Compared:
        """Return how far the comparison is."""
        ids = item_ids(self._catalogue.snapshot())
        return Compared(int(np.searchsorted(ids, self._through(), side="right")), len(ids))

    def update(self, progress: Progress = lambda *_: None) -> None:
        """Compare the items that have not been; each chunk is durable, so that it can be stopped and gone on with.

        ``progress``: "compare" (items). Raises CatalogueBusy while another process does it, DamagedIndex, DiskFull.
        """
        with self._lock(), ThreadPoolExecutor(os.cpu_count()) as pool:
            snapshot = self._catalogue.snapshot()
            ids = item_ids(snapshot)
            comparer = PairComparer(self._catalogue, snapshot, by_hash=len(ids) <= HASHED)
            start = int(np.searchsorted(ids, self._through(), side="right"))
            progress("compare", start, len(ids))
            for at in range(start, len(ids), CHUNK):
                part = ids[at : at + CHUNK]
                rows = [*pool.map(comparer.rows, np.array_split(part, -(-len(part) // PART)))]
                with _writing(self._connection):
                    self._connection.executemany(KEEP, itertools.chain.from_iterable(rows))
                    self._connection.execute("INSERT OR REPLACE INTO meta VALUES ('through', ?)", (int(part[-1]),))
                progress("compare", at + len(part), len(ids))
            self._forget_removed(ids)

    def read(self, model: MatchModel, match: float = 0.0, cosine: float = 1.0) -> Pairs:
        """Return the pairs of items that are there: those that match at least so well by a model, or are so much alike."""
        ids = item_ids(self._catalogue.snapshot())
        found = self._connection.execute("SELECT first, second, cosine, distance, fit FROM pairs")
        parts = [Pairs(*(np.empty(0, kind) for kind in (np.int64, np.int64, float, float)))]
        while rows := found.fetchmany(READ):  # of which most may be neither
            first, second = (np.array([row[at] for row in rows], np.int64) for at in (0, 1))
            cosines, distances, fits = np.array([row[2:] for row in rows]).T
            matches = np.round(model.probabilities(cosines, distances.astype(np.int64), fits), 4)
            kept = (matches >= match) | (cosines >= cosine)
            kept[kept] = _among(ids, first[kept]) & _among(ids, second[kept])
            parts.append(Pairs(first[kept], second[kept], cosines[kept], matches[kept]))
        return Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()

    def _through(self) -> int:
        row = self._connection.execute("SELECT value FROM meta WHERE name = 'through'").fetchone()
        return int(row[0]) if row else 0

    def _forget_removed(self, ids: NDArray[np.int64]) -> None:
        paired = self._connection.execute("SELECT first FROM pairs UNION SELECT second FROM pairs")
        known = np.fromiter((one for (one,) in paired), np.int64)
        gone = [(int(one), int(one)) for one in np.setdiff1d(known, ids)]
        if gone:
            with _writing(self._connection):
                self._connection.executemany("DELETE FROM pairs WHERE first = ? OR second = ?", gone)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with self._path.with_name(f"{self._path.name}.lock").open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise CatalogueBusy(f"another process is comparing the pictures of {self._catalogue.folder}") from None
            yield


def _among(ids: NDArray[np.int64], some: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which of some ids are among others, which ascend, bool [n]."""
    return np.asarray(ids[np.minimum(np.searchsorted(ids, some), len(ids) - 1)] == some) if len(ids) else some < 0


@contextmanager
def _writing(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        with connection:
            yield
    except sqlite3.OperationalError as error:
        raise _refusal("pairs of duplicates", error) from None


def _refusal(what: object, error: sqlite3.OperationalError) -> DiskFull | CatalogueBusy:
    if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
        return CatalogueBusy(
            f"{what} cannot be written, since another process has been writing for {BUSY_SECONDS} s; try again"
        )
    return DiskFull(f"{what} cannot be written ({error}); free some space")


def _open(path: Path, catalogue: Catalogue) -> sqlite3.Connection:
    """Open the pairs of a catalogue; those of another one, of another extractor or version are dropped."""
    info = catalogue.info
    wanted = f"{VERSION} {info.created_at} {info.fingerprint}"
    for _ in range(2):
        with ExitStack() as stack:
            connection = stack.enter_context(
                closing(sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False))
            )
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                if not connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
                    with connection:
                        for statement in SCHEMA.split(";\n"):
                            connection.execute(statement)
                        connection.execute("INSERT INTO meta VALUES ('of', ?)", (wanted,))
                if connection.execute("SELECT value FROM meta WHERE name = 'of'").fetchone() == (wanted,):
                    stack.pop_all()
                    return connection
            except sqlite3.OperationalError as error:
                raise _refusal(path, error) from None
            except sqlite3.DatabaseError:
                pass  # it is none, and can be made anew
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            path.with_name(name).unlink(missing_ok=True)
    raise DamagedIndex(f"{path} cannot be made; remove it")
