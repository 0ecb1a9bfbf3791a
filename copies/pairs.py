"""The pairs of a catalogue's pictures that may be duplicates, in a database of their own that can be removed at any time.

Each item is compared once, with those nearest to it by embedding and by hash, when it is the newest: what is added later is
compared with it. What a pair has in common is kept, and not its match, so that another match model needs no comparison.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from copies.compare import PAIR, PART, PairComparer
from copies.fit import item_ids
from copies.match import MatchModel
from index import Catalogue, CatalogueBusy, DamagedIndex, DiskFull

PAIRS = "duplicates.sqlite"
VERSION = 2
BUSY_SECONDS = 30
CHUNK = 512  # items that are compared in one transaction, in parts that threads take
HASHED = 200_000  # items: in larger catalogues pairs are looked for by embedding alone
SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE chunks (last INTEGER PRIMARY KEY, pairs BLOB NOT NULL)
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
                found = np.concatenate([*pool.map(comparer.pairs, np.array_split(part, -(-len(part) // PART)))])
                with _writing(self._connection):
                    self._connection.execute("INSERT INTO chunks VALUES (?, ?)", (int(part[-1]), found.tobytes()))
                progress("compare", at + len(part), len(ids))
            self._forget_removed(ids)

    def read(self, model: MatchModel, match: float = 0.0, cosine: float = 1.0) -> Pairs:
        """Return the pairs of items that are there: those that match at least so well by a model, or are so much alike."""
        ids = item_ids(self._catalogue.snapshot())
        parts, matched = [np.empty(0, PAIR)], [np.empty(0)]
        for last in self._chunks():  # of whose pairs most may be neither
            pairs = self._pairs(last)
            matches = np.round(model.probabilities(pairs["cosine"], pairs["distance"], pairs["fit"]), 4)
            kept = (matches >= match) | (pairs["cosine"] >= cosine)
            kept[kept] = _among(ids, pairs[kept])
            parts.append(pairs[kept])
            matched.append(matches[kept])
        return _best_of_each(np.concatenate(parts), np.concatenate(matched))

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()

    def _through(self) -> int:
        """Return the last item that was compared."""
        return max(self._chunks(), default=0)

    def _chunks(self) -> list[int]:
        return [last for (last,) in self._connection.execute("SELECT last FROM chunks ORDER BY last")]

    def _pairs(self, last: int) -> NDArray[np.void]:
        found = self._connection.execute("SELECT pairs FROM chunks WHERE last = ?", (last,)).fetchone()
        try:
            return np.frombuffer(found[0] if found else b"", PAIR)
        except ValueError:
            raise DamagedIndex(f"{self._path} is damaged; remove it") from None

    def _forget_removed(self, ids: NDArray[np.int64]) -> None:
        for last in self._chunks():
            pairs = self._pairs(last)
            there = _among(ids, pairs)
            if not there.all():
                with _writing(self._connection):
                    self._connection.execute(
                        "UPDATE chunks SET pairs = ? WHERE last = ?", (pairs[there].tobytes(), last)
                    )

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with self._path.with_name(f"{self._path.name}.lock").open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise CatalogueBusy(f"another process is comparing the pictures of {self._catalogue.folder}") from None
            yield


def _among(ids: NDArray[np.int64], pairs: NDArray[np.void]) -> NDArray[np.bool_]:
    """Return which pairs are of two items that are there, bool [n]; ``ids`` of these ascend."""
    if not len(ids):
        return np.zeros(len(pairs), bool)
    both = np.stack([pairs["first"], pairs["second"]])
    return np.asarray((ids[np.minimum(np.searchsorted(ids, both), len(ids) - 1)] == both).all(axis=0))


def _best_of_each(pairs: NDArray[np.void], matches: NDArray[np.float64]) -> Pairs:
    """Return each pair once: it is seen from either side, of which one may have found more to look at."""
    order = np.lexsort((-matches, pairs["second"], pairs["first"]))
    pairs, matches = pairs[order], matches[order]
    first, second = pairs["first"], pairs["second"]
    new = np.append([True], (np.diff(first) != 0) | (np.diff(second) != 0))[: len(pairs)]
    return Pairs(first[new], second[new], pairs["cosine"][new].astype(np.float64), matches[new])


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
