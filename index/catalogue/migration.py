"""Migration: the vectors of another extractor next to those in use, and the switch to them in one transaction.

The new vectors stand in a database of their own until then, so that a migration can be broken off, gone on with, or
dropped, and nothing of the catalogue has changed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.catalogue.base import Base
from index.catalogue.database import Reading, begin, open_database
from index.catalogue.files import DATABASE, EXTRACTOR, REPORT, hash_file, replace_folder
from index.catalogue.generation import Generation, generation_before, read_generation, slot_of, write_generation
from index.catalogue.merge import Progress, build_generation, merge_lock, prune, unused_base
from index.catalogue.rows import checksum_bytes
from index.errors import CatalogueMismatch, NothingToRollBack
from index.metrics import METRICS, Metric

NEXT = f"{DATABASE}.migrating"
NEIGHBOURS = 10  # of each picture that two extractors are compared by
STORED = "SELECT id, key, sha256, source, jpeg FROM items JOIN thumbnails USING (id)"
ALIKE = 0.95  # the cosine from which two pictures count as copies of each other


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item that is to be embedded again: where its picture was read, what it was, and its thumbnail, a JPEG."""

    id: int
    key: str
    sha256: str
    source: str
    thumbnail: bytes


@dataclass(frozen=True, slots=True)
class Overlap:
    """What two extractors see in ``pictures`` of the catalogue's own: the share of the ten nearest neighbours that they agree
    on, and how many pictures have a copy by each, None where the metric has no cosine."""

    pictures: int
    neighbours: float
    copies_before: int | None
    copies_after: int | None


class Migration:
    """A migration of the catalogue in ``folder`` to the extractor of ``planned``; all others are kept from merging.

    Raises CatalogueBusy, CatalogueNotFound, CatalogueMismatch, DamagedIndex, or what ``plan`` raises.
    """

    def __init__(self, folder: Path, plan: Callable[[sqlite3.Connection, Generation], Generation]) -> None:
        self.folder = folder
        with ExitStack() as stack:
            self._connection = stack.enter_context(closing(open_database(folder, writable=True)))
            stack.enter_context(merge_lock(folder))
            meta, self.current = read_generation(Reading(self._connection), folder)
            self.metric: Metric = meta.metric
            self.regions = meta.regions
            self.planned = plan(self._connection, self.current)
            self._open_next()
            self._close = stack.pop_all()

    @property
    def known(self) -> int:
        """The id up to which the planned generation's index has all items; 0 before it is built."""
        return self.planned.last_id

    def lacking(self, count: int) -> list[StoredItem]:
        """Return up to ``count`` items that have no new vector yet."""
        rows = self._connection.execute(
            f"{STORED} WHERE id > ? AND id NOT IN (SELECT id FROM next.vectors) ORDER BY id LIMIT ?",
            (self.known, count),
        )
        return [StoredItem(*row) for row in rows.fetchall()]

    def count(self) -> tuple[int, int]:
        """Return how many items have a new vector, and how many need one."""
        sql = (
            "SELECT (SELECT count(*) FROM items WHERE id > ? AND id IN (SELECT id FROM next.vectors)), "
            "(SELECT count(*) FROM items WHERE id > ?)"
        )
        ((done, total),) = self._connection.execute(sql, (self.known, self.known))
        return done, total

    def add(
        self, vectors: Mapping[int, NDArray[np.float32]], regions: Mapping[int, NDArray[np.float32]] | None = None
    ) -> None:
        """Keep new vectors, float32 [dim], by item id, durably, and regional ones, float32 [boxes, dim]."""
        with begin(self._connection):
            for table, some in (("vectors", vectors), ("regions", regions or {})):
                rows = [(item_id, np.ascontiguousarray(one, np.float32).tobytes()) for item_id, one in some.items()]
                self._connection.executemany(
                    f"INSERT OR REPLACE INTO next.{table} VALUES (?, ?, ?)",
                    [(item_id, data, checksum_bytes(data)) for item_id, data in rows],
                )

    def build(self, progress: Progress = lambda *_: None) -> None:
        """Build the index of the new vectors, next to the one in use. Raises EmptyCatalogue, OSError."""
        self.planned = build_generation(
            self.folder,
            self._connection,
            self.planned,
            self.metric,
            None,
            progress,
            boxes=len(self.regions),
            schema="next",
        )

    def compare(self, pictures: int) -> Overlap:
        """Compare both extractors on up to so many pictures, spread over the catalogue, once the index is built."""
        old, new = (Base(self.folder, one, self.metric) for one in (self.current, self.planned))
        both = np.intersect1d(old.columns.ids, new.columns.ids)
        ids = both[np.unique(np.linspace(0, len(both) - 1, min(pictures, len(both))).astype(int))]
        found = [_neighbours(base, ids) for base in (old, new)]
        shared = [len(set(one) & set(two)) / max(1, len(one)) for (one, _), (two, _) in zip(*found, strict=True)]
        cosine = METRICS[self.metric].normalized
        copies = [sum(best >= ALIKE for _, best in some) if cosine else None for some in found]
        return Overlap(len(ids), float(np.mean(shared)) if shared else 1.0, *copies)

    def switch(self) -> Generation | None:
        """Make the planned generation the current one, in one transaction; None where items were added that lack a vector."""
        made = replace(self.planned, generation=self.current.generation + 1)
        connection = self._connection
        with begin(connection):
            sql = "SELECT EXISTS (SELECT 1 FROM items WHERE id > ? AND id NOT IN (SELECT id FROM next.vectors))"
            if connection.execute(sql, (made.last_id,)).fetchone()[0]:
                return None
            for table in ("vectors", "regions") if self.regions else ("vectors",):
                connection.execute(f"DELETE FROM {table} WHERE id > ?", (made.last_id,))
                connection.execute(
                    f"INSERT INTO {table} SELECT * FROM next.{table} WHERE id > ? AND id IN (SELECT id FROM items)",
                    (made.last_id,),
                )
            write_generation(connection, made)
        connection.execute("DETACH next")
        (self.folder / NEXT).unlink(missing_ok=True)
        prune(self.folder, connection, made)
        return made

    def close(self) -> None:
        """Stop here; the vectors so far are kept for the next attempt."""
        self._close.close()

    def _open_next(self) -> None:
        """Open the database of new vectors, and go on with it where it is of the same extractor."""
        connection = self._connection
        for fresh in (False, True):
            if fresh:
                (self.folder / NEXT).unlink(missing_ok=True)
            connection.execute("ATTACH ? AS next", (str(self.folder / NEXT),))
            connection.execute("PRAGMA next.synchronous=FULL")
            try:
                connection.execute("CREATE TABLE IF NOT EXISTS next.made (fingerprint TEXT PRIMARY KEY)")
                for table, column in (("vectors", "vector"), ("regions", "vectors")):
                    connection.execute(
                        f"CREATE TABLE IF NOT EXISTS next.{table} "
                        f"(id INTEGER PRIMARY KEY, {column} BLOB NOT NULL, checksum INTEGER NOT NULL)"
                    )
                connection.execute(
                    "INSERT INTO next.made SELECT ? WHERE NOT EXISTS (SELECT 1 FROM next.made)",
                    (self.planned.fingerprint,),
                )
                ((found,),) = connection.execute("SELECT fingerprint FROM next.made")
            except sqlite3.DatabaseError:  # broken off while it was made
                found = None
            if found == self.planned.fingerprint:
                return
            connection.execute("DETACH next")
        raise AssertionError("a fresh one is of this extractor")


def start_migration(folder: Path, *, model: str, fingerprint: str, dim: int, save: Callable[[Path], None]) -> Migration:
    """Begin or go on with a migration to another extractor, which ``save`` writes into a folder.

    Raises CatalogueBusy, CatalogueNotFound, CatalogueMismatch (it is this extractor's already), DamagedIndex or OSError.
    """

    def plan(connection: sqlite3.Connection, current: Generation) -> Generation:
        if current.fingerprint == fingerprint:
            raise CatalogueMismatch(f"{folder} has the vectors of {model} ({fingerprint[:12]}) already")
        slot = 1 - slot_of(current.extractor)
        name = f"{EXTRACTOR}-{slot}-{fingerprint[:12]}"
        replace_folder(folder / name, save)
        files = {f"{name}/{path.name}": hash_file(path) for path in sorted((folder / name).iterdir())}
        files |= {REPORT: current.files[REPORT]} if REPORT in current.files else {}
        base = unused_base(folder, current.generation + 1)
        return Generation(0, base, 0, 0, 0, "", name, model, fingerprint, dim, files)

    return Migration(folder, plan)


def start_going_back(folder: Path) -> Migration:
    """Begin the way back to the generation before, whose vectors another extractor made.

    Raises CatalogueBusy, NothingToRollBack, DamagedIndex or OSError.
    """

    def plan(connection: sqlite3.Connection, current: Generation) -> Generation:
        before = generation_before(connection, current)
        if before is None:
            raise NothingToRollBack(f"{folder} has no generation before {current.generation}; nothing was merged yet")
        return before

    return Migration(folder, plan)


def needs_other_extractor(folder: Path) -> bool:
    """Return whether the generation before the current one has the vectors of another extractor."""
    with closing(open_database(folder)) as connection:
        _, current = read_generation(Reading(connection), folder)
        before = generation_before(connection, current)
        return before is not None and before.fingerprint != current.fingerprint


def read_stored_items(folder: Path, count: int) -> list[StoredItem]:
    """Return up to ``count`` items, spread over the catalogue in ``folder``. Raises CatalogueNotFound or DamagedIndex."""
    with closing(Reading(open_database(folder))) as database:
        ids = database.numbers("SELECT id FROM items ORDER BY id")
        some = ids[np.unique(np.linspace(0, max(0, len(ids) - 1), min(count, len(ids))).astype(int))].tolist()
        return [StoredItem(*row) for one in some for row in database.query(f"{STORED} WHERE id = ?", (one,))]


def _neighbours(base: Base, ids: NDArray[np.int64]) -> list[tuple[list[int], float]]:
    """Return for each item the ids of its nearest others, and the cosine of the very nearest."""
    found = base.index.search(base.vectors(ids), NEIGHBOURS + 1)
    some = []
    for item_id, one in zip(ids.tolist(), found, strict=True):
        both = zip(one.labels.tolist(), one.distances.tolist(), strict=True)
        pairs = [(label, distance) for label, distance in both if label != item_id]
        some.append(([label for label, _ in pairs[:NEIGHBOURS]], 1 - pairs[0][1] if pairs else 0.0))
    return some
