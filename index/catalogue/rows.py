"""The rows of items in catalogue.sqlite: written with a checksum, changed and deleted with a note of what became of them.

Nothing here commits: a caller's transaction holds all of a request, or none of it.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from index.catalogue.database import PART

REMOVED, UPDATED = "removed", "updated"
ITEM = "key, sha256, metadata, added_at, source_size, source_mtime_ns, source"  # what an item's checksum is of
SIGNATURE = "luma, hash, pixels, bytes, format"  # and that of a signature


@dataclass(frozen=True, slots=True)
class Signature:
    """What tells a picture from others that are only alike.

    ``luma`` is what its pixels are compared by, ``hash`` its perceptual hash, 32 bytes, ``pixels`` a digest of all of its
    pixels. ``bytes`` is the size of its file, ``format`` that file's format.
    """

    luma: bytes
    hash: bytes
    pixels: bytes
    bytes: int
    format: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture on its way into a catalogue: the seam between model and index, and what resuming needs.

    ``source`` is the path or URL that it was read from, ``source_size`` its bytes, ``source_mtime_ns`` a number that changes
    with them. ``original`` is its whole file, where the catalogue is to keep it; ``regions``, float32 [boxes, dim], are the
    vectors of boxes in it, where it has them.
    """

    key: str
    vector: NDArray[np.float32]
    metadata: dict[str, Any]
    sha256: str
    thumbnail: bytes
    source_size: int
    source_mtime_ns: int
    source: str = ""
    original: bytes | None = None
    regions: NDArray[np.float32] | None = None
    signature: Signature | None = None


def checksum_item(key: object, *facts: object) -> int:
    """Return the checksum of the columns ITEM of a row, as SQLite holds numbers."""
    digest = hashlib.sha256("\0".join(f"{type(one).__name__}{one}" for one in (key, *facts)).encode("utf-8", "replace"))
    return int.from_bytes(digest.digest()[:8], "big", signed=True)


def checksum_bytes(data: bytes) -> int:
    """Return the checksum of a thumbnail or a vector."""
    return zlib.crc32(data)


def checksum_signature(luma: object, perceptual: object, pixels: object, *facts: object) -> int:
    """Return the checksum of a signature."""
    return zlib.crc32(repr((luma, perceptual, pixels, *facts)).encode())


def checksum_text(text: str) -> int:
    """Return the checksum of a generation's facts."""
    return zlib.crc32(text.encode())


def encode_metadata(metadata: dict[str, Any]) -> str:
    """Return metadata as the catalogue has it: JSON, in NFC."""
    return normalize("NFC", json.dumps(metadata, ensure_ascii=False, allow_nan=False))


def now() -> str:
    """Return the time as rows have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def insert_entry(connection: sqlite3.Connection, entry: Entry, metadata: str, added_at: str) -> int:
    """Insert an item under a key that is not there, and return its id, which is larger than any before it."""
    metadata = normalize("NFC", metadata)
    key, source = normalize("NFC", entry.key), entry.source.encode("utf-8", "backslashreplace").decode()
    facts = (key, entry.sha256, metadata, added_at, entry.source_size, entry.source_mtime_ns, source)
    cursor = connection.execute(
        f"INSERT INTO items ({ITEM}, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*facts, checksum_item(*facts))
    )
    item_id = int(cursor.lastrowid or 0)
    insert_vector(connection, item_id, entry.vector)
    if entry.regions is not None:
        insert_regions(connection, item_id, entry.regions)
    if entry.signature is not None:
        insert_signature(connection, item_id, entry.signature)
    connection.execute(
        "INSERT INTO thumbnails VALUES (?, ?, ?)", (item_id, entry.thumbnail, checksum_bytes(entry.thumbnail))
    )
    return item_id


def insert_vector(connection: sqlite3.Connection, item_id: int, vector: NDArray[np.float32]) -> None:
    """Keep an item's vector, float32 [dim], until the index has it."""
    data = np.ascontiguousarray(vector, np.float32).tobytes()
    connection.execute("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", (item_id, data, checksum_bytes(data)))


def insert_regions(connection: sqlite3.Connection, item_id: int, vectors: NDArray[np.float32]) -> None:
    """Keep an item's regional vectors, float32 [boxes, dim], until the index has them."""
    data = np.ascontiguousarray(vectors, np.float32).tobytes()
    connection.execute("INSERT OR REPLACE INTO regions VALUES (?, ?, ?)", (item_id, data, checksum_bytes(data)))


def insert_signature(connection: sqlite3.Connection, item_id: int, one: Signature) -> None:
    """Keep the signature of an item's picture."""
    facts = (one.luma, one.hash, one.pixels, one.bytes, one.format)
    connection.execute(
        "INSERT INTO signatures VALUES (?, ?, ?, ?, ?, ?, ?)", (item_id, *facts, checksum_signature(*facts))
    )


def delete_items(connection: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Delete items with all that is theirs, and note it."""
    some = [(item_id,) for item_id in ids]
    connection.executemany("DELETE FROM items WHERE id = ?", some)
    connection.executemany(f"INSERT INTO changes (id, kind) VALUES (?, '{REMOVED}')", some)


def ids_of_keys(connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, int]:
    """Return the ids of the items with these keys, which are compared in NFC; those that are not there are left out."""
    stored = {key: normalize("NFC", key) for key in keys}
    found = dict(select_in(connection, "SELECT key, id FROM items WHERE key IN ({})", list(set(stored.values()))))
    return {key: found[name] for key, name in stored.items() if name in found}


def write_metadata(connection: sqlite3.Connection, item_id: int, metadata: str) -> None:
    """Give an item other metadata, JSON text in NFC, and note it; one that has it already is left alone."""
    ((key, sha256, old, *facts),) = connection.execute(f"SELECT {ITEM} FROM items WHERE id = ?", (item_id,))
    if metadata == old:
        return
    checksum = checksum_item(key, sha256, metadata, *facts)
    connection.execute("UPDATE items SET metadata = ?, checksum = ? WHERE id = ?", (metadata, checksum, item_id))
    connection.execute(f"INSERT INTO changes (id, kind) VALUES (?, '{UPDATED}')", (item_id,))


def select_in(connection: sqlite3.Connection, sql: str, values: Sequence[Any]) -> list[Any]:
    """Return the rows of a statement whose ``{}`` stands for any number of values."""
    rows: list[Any] = []
    for at in range(0, len(values), PART):
        part = values[at : at + PART]
        rows += connection.execute(sql.format(", ".join("?" * len(part))), part).fetchall()
    return rows
