"""The pairs of a catalogue's pictures that may be duplicates, in a database of their own that can be removed at any time.

Each item is compared once, with those nearest to it by embedding and by hash, when it is the newest: what is added later is
compared with it. What a pair has in common is kept, and not its match, so that another match model needs no comparison.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from copies.finder import Comparisons, CopyFinder, Subject, as_luma
from copies.fit import item_ids
from copies.match import MatchModel, match_model_of
from index import Catalogue, CatalogueBusy, DamagedIndex, DiskFull

PAIRS = "duplicates.sqlite"
VERSION = 1
CHUNK = 512  # items that are compared in one transaction
NEAREST = 16  # others that each is compared with, by embedding; more where MOSTLY of these may be copies
GROWTH, MOSTLY = 4, 0.75
DEEPER = (64, 256, 1024)
ALIKE_FLOOR = 0.8  # the cosine from which pairs of the nearest are kept that are no copies
KEPT_MATCH = 0.3  # and the match from which pairs are, whatever their cosine
HASHED = 50_000  # items: in larger catalogues pairs are looked for by embedding alone
SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE pairs (
    first INTEGER NOT NULL, second INTEGER NOT NULL, cosine REAL NOT NULL, distance INTEGER NOT NULL, fit REAL NOT NULL,
    PRIMARY KEY (first, second)
) WITHOUT ROWID
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
        with self._lock():
            snapshot = self._catalogue.snapshot()
            finder = CopyFinder(snapshot, self._catalogue.signatures, match_model_of(self._catalogue))
            ids = item_ids(snapshot)
            start = int(np.searchsorted(ids, self._through(), side="right"))
            progress("compare", start, len(ids))
            for at in range(start, len(ids), CHUNK):
                part = ids[at : at + CHUNK]
                rows = list(_compare(finder, self._catalogue, part, by_hash=len(ids) <= HASHED))
                with _writing(self._connection):
                    self._connection.executemany("INSERT OR REPLACE INTO pairs VALUES (?, ?, ?, ?, ?)", rows)
                    self._connection.execute("INSERT OR REPLACE INTO meta VALUES ('through', ?)", (int(part[-1]),))
                progress("compare", at + len(part), len(ids))
            self._forget_removed(ids)

    def read(self, model: MatchModel) -> Pairs:
        """Return the pairs of items that are there, with their match by a model."""
        found = self._connection.execute("SELECT first, second, cosine, distance, fit FROM pairs").fetchall()
        rows = np.array(found, np.float64).reshape(-1, 5)
        first, second = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
        ids = item_ids(self._catalogue.snapshot())
        there = np.isin(first, ids) & np.isin(second, ids)
        match = model.probabilities(rows[:, 2], rows[:, 3].astype(np.int64), rows[:, 4])
        return Pairs(first[there], second[there], rows[there, 2], np.round(match[there], 4))

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()

    def _through(self) -> int:
        row = self._connection.execute("SELECT value FROM meta WHERE name = 'through'").fetchone()
        return int(row[0]) if row else 0

    def _forget_removed(self, ids: NDArray[np.int64]) -> None:
        known = np.array(
            self._connection.execute("SELECT first FROM pairs UNION SELECT second FROM pairs").fetchall(), np.int64
        ).reshape(-1)
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


@contextmanager
def _writing(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        with connection:
            yield
    except sqlite3.OperationalError as error:
        raise DiskFull(f"pairs of duplicates cannot be kept ({error}); free some space") from None


def _open(path: Path, catalogue: Catalogue) -> sqlite3.Connection:
    """Open the pairs of a catalogue; those of another one, of another extractor or version are dropped."""
    info = catalogue.info
    wanted = f"{VERSION} {info.created_at} {info.fingerprint}"
    for _ in range(2):
        with ExitStack() as stack:
            connection = stack.enter_context(closing(sqlite3.connect(path, timeout=30, check_same_thread=False)))
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
                raise DiskFull(f"{path} cannot be written ({error})") from None
            except sqlite3.DatabaseError:
                pass  # it is none, and can be made anew
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            path.with_name(name).unlink(missing_ok=True)
    raise DamagedIndex(f"{path} cannot be made; remove it")


def _compare(
    finder: CopyFinder, catalogue: Catalogue, ids: NDArray[np.int64], *, by_hash: bool
) -> Iterator[tuple[int, int, float, int, float]]:
    """Yield what the pairs of some items and others have in common, where they are alike or may be copies."""
    some = ids.tolist()
    vectors = finder.snapshot.vectors(some)
    signed = catalogue.signatures.get(some)
    nearest = finder.snapshot.search(vectors, NEAREST + 1)
    for item_id, vector, near in zip(some, vectors, nearest, strict=True):
        luma = as_luma(signed[item_id].luma) if item_id in signed else None
        subject = Subject(vector, luma)
        others = [one for one in near.labels.tolist() if one != item_id]
        found = finder.compare(subject, others)
        for deeper in DEEPER:
            if (
                np.count_nonzero(found.matches >= KEPT_MATCH) < MOSTLY * len(others)
                or len(others) + 1 < deeper // GROWTH
            ):
                break
            (near,) = finder.snapshot.search(vector[None], deeper)
            others = [one for one in near.labels.tolist() if one != item_id]
            found = finder.compare(subject, others)
        yield from _kept(item_id, others, found)
        if by_hash and luma is not None:
            more = [one for one in finder.near_by_hash(subject) if one != item_id and one not in others]
            yield from _kept(item_id, more, finder.compare(subject, more))


def _kept(item_id: int, others: list[int], found: Comparisons) -> Iterator[tuple[int, int, float, int, float]]:
    """Yield an item's pairs with those others that are alike or may be copies."""
    for place in np.flatnonzero((found.cosines >= ALIKE_FLOOR) | (found.matches >= KEPT_MATCH)).tolist():
        first, second = sorted((item_id, others[place]))
        yield first, second, float(found.cosines[place]), int(found.distances[place]), float(found.fits[place])
