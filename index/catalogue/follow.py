"""Follow a catalogue: keep a snapshot that is as new as the database, for microseconds a query while nothing changes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from index.catalogue.base import Base
from index.catalogue.database import PART, Reading, read_meta
from index.catalogue.generation import CatalogueMeta, read_generation
from index.catalogue.rows import REMOVED
from index.catalogue.snapshot import Snapshot
from index.catalogue.unmerged import Unmerged
from index.errors import DamagedIndex

TRIES = 5  # to open a generation whose files another one's merge takes away meanwhile


class CatalogueFollower:
    """Has the newest snapshot of the catalogue in ``folder``; safe to ask from many threads at once.

    It stays with the extractor that the catalogue had: vectors of another one are for whoever opens the catalogue anew.
    ``superseded`` says that there are some.

    Raises CatalogueNotFound, CatalogueMismatch or DamagedIndex when it cannot be opened.
    """

    def __init__(self, folder: Path, database: Reading) -> None:
        self._folder = folder
        self._database = database
        self._lock = threading.Lock()
        read_meta(database, folder)  # the first to notice what is no database
        self._version = self._data_version()
        self.superseded = False
        self.meta, self._snapshot = self._open()

    def current(self) -> Snapshot:
        """Return a snapshot that has all that was committed before this call. Raises DamagedIndex."""
        with self._lock:
            if (version := self._data_version()) != self._version:
                self._snapshot = self._advance(self._snapshot)
                self._version = version
            return self._snapshot

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def _data_version(self) -> int:
        ((version,),) = self._database.query("PRAGMA data_version")  # changes with each commit of another connection
        return int(version)

    def _open(self) -> tuple[CatalogueMeta, Snapshot]:
        for remaining in reversed(range(TRIES)):
            with self._database.snapshot():
                meta, generation = read_generation(self._database, self._folder)
                try:
                    base = Base(self._folder, generation, meta.metric)
                except (DamagedIndex, FileNotFoundError) as error:
                    if not remaining:
                        raise DamagedIndex(str(error)) from None
                    continue  # in a new transaction, which sees the generation that has taken its place
                nothing = Unmerged.read([], generation.dim, base.regions.boxes if base.regions else 0, meta.metric)
                start = Snapshot(base, meta.metric, nothing, frozenset(), {}, generation.last_change, meta.regions)
                return meta, self._caught_up(start)
        raise AssertionError("the last try returns or raises")

    def _advance(self, old: Snapshot) -> Snapshot:
        with self._database.snapshot():
            ((number,),) = self._database.query("SELECT value FROM meta WHERE name = 'generation'")
            if json.loads(number) == old.generation.generation:
                return self._caught_up(old)
            _, generation = read_generation(self._database, self._folder)
            if self.superseded or generation.fingerprint != old.generation.fingerprint:
                self.superseded = True
                return old
        self.meta, snapshot = self._open()
        return snapshot

    def _caught_up(self, old: Snapshot) -> Snapshot:
        """Return the snapshot that the database has now, of the same generation, within a transaction that reads."""
        rows = self._database.query("SELECT seq, id, kind FROM changes WHERE seq > ? ORDER BY seq", (old.last_change,))
        gone = {item_id for _, item_id, kind in rows if kind == REMOVED}
        changed = {item_id for _, item_id, kind in rows if kind != REMOVED} - gone
        boxes = old.unmerged.boxes
        regions, join = ("regions.vectors", "JOIN regions USING (id)") if boxes else ("x''", "")
        sql = (
            f"SELECT id, vector, metadata, coalesce(hash, x''), {regions} FROM vectors JOIN items USING (id) "
            f"LEFT JOIN signatures USING (id) {join} WHERE id > ? ORDER BY id"
        )
        added = self._database.query(sql, (old.last_id,))
        if not rows and not added:
            return old
        read = [(item_id, vector, _object(item_id, text), *more) for item_id, vector, text, *more in added]
        more = Unmerged.read(read, old.generation.dim, boxes, old.metric)
        new = dict(self._metadata(changed)) if changed else {}
        unmerged = old.unmerged.lacking(gone).saying(new).having(more)
        merged = {one: new[one] for one in sorted(new) if one <= old.generation.last_id}
        return Snapshot(
            old.base,
            old.metric,
            unmerged,
            old.removed | gone,
            {item_id: fields for item_id, fields in ({**old.updated, **merged}).items() if item_id not in gone},
            rows[-1][0] if rows else old.last_change,
            old.boxes,
        )

    def _metadata(self, ids: Iterable[int]) -> Iterable[tuple[int, dict[str, Any]]]:
        some = list(ids)
        for at in range(0, len(some), PART):
            part = some[at : at + PART]
            marks = ", ".join("?" * len(part))
            for item_id, text in self._database.query(f"SELECT id, metadata FROM items WHERE id IN ({marks})", part):
                yield item_id, _object(item_id, text)


def _object(item_id: int, text: Any) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise DamagedIndex(f"item {item_id} of the catalogue cannot be read; restore or rebuild it")
    return found
