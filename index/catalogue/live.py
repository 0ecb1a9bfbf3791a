"""Write to a catalogue that is in use: add, remove and update items, each call one durable transaction.

Any number of processes may write: they take turns, and readers wait for none of them. A call that returned is on the disk,
and in every reader's next snapshot.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np

from index.catalogue.database import Reading, begin, open_database
from index.catalogue.files import write_original
from index.catalogue.generation import CatalogueMeta, Generation, read_generation
from index.catalogue.rows import (
    Entry,
    delete_items,
    encode_metadata,
    ids_of_keys,
    insert_entry,
    now,
    select_in,
    write_metadata,
)
from index.errors import AnsweredAlready, CatalogueMismatch, InvalidEntry, KeyReused

Also = Callable[[sqlite3.Connection, Any], None]  # what else belongs to a transaction, given the result of its call
LARGEST_ID = 2**63  # SQLite has none beyond it
LONGEST_KEY = 4096  # characters
LARGEST_METADATA = 256 * 1024  # characters of JSON for one item
KEPT_SECONDS = 24 * 3600  # for which the answer to a request with an idempotency key is kept


@dataclass(frozen=True, slots=True)
class Added:
    """What became of an entry: the id of its item, and of the item that was there under its key."""

    id: int
    replaced: int | None


class LiveWriter:
    """Writes to the catalogue in ``folder``; safe to use from many threads at once.

    Raises CatalogueNotFound, CatalogueMismatch or DamagedIndex when the folder is no catalogue. Every method raises
    CatalogueBusy when another process writes for too long, DiskFull, and what is ``also`` to be done, as an Answer raises
    AnsweredAlready when the same request was answered before; then nothing of the call was written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._connection = open_database(folder, writable=True)
        self._lock = threading.Lock()
        try:
            self._read()
        except BaseException:
            self._connection.close()
            raise

    def add(self, entries: Sequence[Entry], fingerprint: str, also: Also | None = None) -> list[Added]:
        """Add entries, whose vectors the extractor with this fingerprint made; an entry replaces the item under its key.

        Of several entries under one key the last stays. ``also`` is what else belongs to the transaction, such as an Answer.
        Raises CatalogueMismatch for another extractor, InvalidEntry.
        """
        texts = [check_entry(entry.key, entry.metadata) for entry in entries]
        with self._transaction() as connection:
            meta, generation = self._read()
            if generation.fingerprint != fingerprint:
                raise CatalogueMismatch(
                    f"{self.folder} has vectors of {generation.model} ({generation.fingerprint[:12]}), not of the extractor "
                    f"that made these ({fingerprint[:12]}); embed them again"
                )
            added: list[Added] = []
            for entry, text in zip(entries, texts, strict=True):
                if entry.vector.shape != (generation.dim,) or not np.isfinite(entry.vector).all():
                    raise InvalidEntry(f"{entry.key}: its vector is not {generation.dim} finite numbers")
                if not _has_regions(entry, len(meta.regions), generation.dim):
                    raise InvalidEntry(
                        f"{entry.key}: it needs {len(meta.regions)} regional vectors, as the others have"
                    )
                there = ids_of_keys(connection, [entry.key]).get(entry.key)
                if there is not None:
                    delete_items(connection, [there])
                if meta.originals and entry.original is not None:
                    write_original(self.folder, entry.sha256, entry.original)
                added.append(Added(insert_entry(connection, entry, text, now()), there))
            if also:
                also(connection, added)
        return added

    def remove(self, names: Sequence[int | str], also: Also | None = None) -> list[int | None]:
        """Remove items, each named by its id or its key; return their ids in order, None for one that is not there."""
        with self._transaction() as connection:
            found = self._find(connection, names)
            delete_items(connection, sorted({one for one in found if one is not None}))
            if also:
                also(connection, found)
        return found

    def update(
        self,
        names: Sequence[int | str],
        metadata: Sequence[Mapping[str, Any]],
        *,
        replace: bool = False,
        also: Also | None = None,
    ) -> list[int | None]:
        """Change the metadata of items, each named by its id or its key; return their ids, None for one that is not there.

        Fields are set, and removed where they are null; with ``replace`` the metadata becomes what was given. Raises
        InvalidEntry.
        """
        with self._transaction() as connection:
            found = self._find(connection, names)
            for name, item_id, fields in zip(names, found, metadata, strict=True):
                if item_id is None:
                    continue
                ((text,),) = connection.execute("SELECT metadata FROM items WHERE id = ?", (item_id,))
                merged = (
                    dict(fields) if replace else {k: v for k, v in (json.loads(text) | fields).items() if v is not None}
                )
                write_metadata(connection, item_id, _metadata_text(name, merged))
            if also:
                also(connection, found)
        return found

    @property
    def meta(self) -> CatalogueMeta:
        """What is true of all of the catalogue's generations."""
        with self._lock:
            return self._read()[0]

    def sources(self) -> dict[str, tuple[int, int]]:
        """Return the size and modification time of every item's file, by key."""
        with self._lock:
            rows = self._connection.execute("SELECT key, source_size, source_mtime_ns FROM items")
            return {key: (size, mtime) for key, size, mtime in rows}

    def hashes(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the SHA-256 of the pictures with these keys, those that are there."""
        with self._lock:
            return dict(select_in(self._connection, "SELECT key, sha256 FROM items WHERE key IN ({})", list(keys)))

    def stored_answer(self, name: str, digest: str) -> str | None:
        """Return the JSON text that was kept for a request, or None. Raises KeyReused when it was another request."""
        with self._lock:
            row = self._connection.execute("SELECT digest, answer FROM requests WHERE name = ?", (name,)).fetchone()
        if row is not None and row[0] != digest:
            raise KeyReused("this Idempotency-Key was used for another request")
        return row and str(row[1])

    def to_merge(self) -> int:
        """Return how many items the index lacks and changes it has not seen; 0 where no item is left to make one of."""
        with self._lock:
            _, generation = self._read()
            sql = (
                "SELECT (SELECT count(*) FROM vectors WHERE id > ?) + (SELECT count(*) FROM changes WHERE seq > ?) "
                "WHERE EXISTS (SELECT 1 FROM items)"
            )
            found = self._connection.execute(sql, (generation.last_id, generation.last_change)).fetchone()
            return int(found[0]) if found else 0

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()

    def _read(self) -> tuple[CatalogueMeta, Generation]:
        return read_generation(Reading(self._connection), self.folder)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, begin(self._connection):
            yield self._connection

    def _find(self, connection: sqlite3.Connection, names: Sequence[int | str]) -> list[int | None]:
        ids = [one for one in names if isinstance(one, int) and one < LARGEST_ID]
        there = {one for (one,) in select_in(connection, "SELECT id FROM items WHERE id IN ({})", ids)}
        by_key = ids_of_keys(connection, [one for one in names if isinstance(one, str)])
        return [by_key.get(one) if isinstance(one, str) else one if one in there else None for one in names]


@dataclass(frozen=True, slots=True)
class Answer:
    """What to keep of a request so that it can be sent again: its idempotency key, a digest of all of it, and what makes the
    JSON text of its answer from the result."""

    name: str
    digest: str
    body: Callable[[Any], str]

    def __call__(self, connection: sqlite3.Connection, result: Any) -> None:
        """Keep the answer. Raises AnsweredAlready."""
        connection.execute("DELETE FROM requests WHERE at < ?", (time.time() - KEPT_SECONDS,))
        if connection.execute("SELECT 1 FROM requests WHERE name = ?", (self.name,)).fetchone():
            raise AnsweredAlready("the same request was answered meanwhile")
        row = (self.name, self.digest, self.body(result), time.time())
        connection.execute("INSERT INTO requests VALUES (?, ?, ?, ?)", row)


def _has_regions(entry: Entry, boxes: int, dim: int) -> bool:
    found = entry.regions
    return found is None if not boxes else found is not None and found.shape == (boxes, dim)


def check_entry(key: str, metadata: Mapping[str, Any]) -> str:
    """Return metadata as the catalogue has it. Raises InvalidEntry when an item cannot have it, or this key."""
    stored = normalize("NFC", key)
    if not stored or len(stored) > LONGEST_KEY or any(ord(one) < 32 or 0xD800 <= ord(one) < 0xE000 for one in stored):
        raise InvalidEntry(
            f"{key[:80]!r} is not a key: 1 to {LONGEST_KEY} characters, none of them a control character"
        )
    return _metadata_text(key, metadata)


def _metadata_text(name: object, metadata: Mapping[str, Any]) -> str:
    try:
        text = encode_metadata(dict(metadata))
        text.encode()
    except (TypeError, ValueError, RecursionError):
        raise InvalidEntry(
            f"the metadata of {name} is not JSON: texts, finite numbers, true, false, null, lists, objects"
        ) from None
    if len(text) > LARGEST_METADATA:
        raise InvalidEntry(
            f"the metadata of {name} has {len(text):,} characters, more than the {LARGEST_METADATA:,} allowed"
        )
    return text
