"""The signatures of a catalogue's pictures, and the items whose pictures are close to another by them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.catalogue.database import Reading, begin, open_database
from index.catalogue.generation import KEPT
from index.catalogue.rows import SIGNATURE, Signature, checksum_text
from index.catalogue.snapshot import Selection, Snapshot
from index.hamming import nearest_hashes


class SignatureTable:
    """Reads the signatures in a catalogue's database; any thread may ask. Every method raises DamagedIndex."""

    def __init__(self, database: Reading) -> None:
        self._database = database

    def get(self, ids: Sequence[int]) -> dict[int, Signature]:
        """Return the signatures of items; those that have none are left out."""
        sql = f"SELECT id, {SIGNATURE} FROM signatures WHERE id IN ({{}})"
        return {row[0]: Signature(*row[1:]) for row in self._database.query_in(sql, ids)}

    def ids_by_sha256(self, digest: str) -> list[int]:
        """Return the ids of the items whose files have a SHA-256, ascending."""
        return self._ids("SELECT id FROM items WHERE sha256 = ? ORDER BY id", digest)

    def ids_by_pixels(self, digest: bytes) -> list[int]:
        """Return the ids of the items whose pictures' pixels have a digest, ascending."""
        return self._ids("SELECT id FROM signatures WHERE pixels = ? ORDER BY id", digest)

    def equal_ids(self) -> NDArray[np.int64]:
        """Return the ids of the items whose files' bytes, or whose pictures' pixels, another item has too: int64 [n]."""
        several = "SELECT {0} FROM {1} GROUP BY {0} HAVING count(*) > 1"
        bytes_too = f"SELECT id FROM items WHERE sha256 IN ({several.format('sha256', 'items')})"
        pixels_too = f"SELECT id FROM signatures WHERE pixels IN ({several.format('pixels', 'signatures')})"
        return self._database.numbers(f"{bytes_too} UNION {pixels_too}")

    def sources(self, ids: Sequence[int]) -> dict[int, str]:
        """Return where items' pictures were read, a path or a URL, or nothing where that is not known."""
        return dict(self._database.query_in("SELECT id, source FROM items WHERE id IN ({})", ids))

    def match_model(self, generation: int) -> str | None:
        """Return what is kept of the match model of a generation, or None where none was fitted for it or one before."""
        sql = "SELECT facts FROM matching WHERE generation <= ? ORDER BY generation DESC LIMIT 1"
        found = self._database.query(sql, (generation,))
        return str(found[0][0]) if found else None

    def _ids(self, sql: str, value: object) -> list[int]:
        return [item_id for (item_id,) in self._database.query(sql, (value,))]


def write_match_model(folder: Path, generation: int, facts: str) -> None:
    """Keep the match model that was fitted for a generation, and the one before. Raises CatalogueBusy, DiskFull."""
    with closing(open_database(folder, writable=True)) as connection, begin(connection):
        connection.execute(
            "INSERT OR REPLACE INTO matching VALUES (?, ?, ?)", (generation, facts, checksum_text(facts))
        )
        connection.execute(
            "DELETE FROM matching WHERE generation NOT IN (SELECT generation FROM matching ORDER BY generation DESC LIMIT ?)",
            (KEPT,),
        )


def near_hashes(
    snapshot: Snapshot, turned: NDArray[np.uint64], selection: Selection | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ids of the items, of a selection or of all, whose hashes are close to one of some, and their distances.

    ``turned``: uint64 [m, 4], of one picture. Both are int64 [n], the nearest first.
    """
    rows, distances = nearest_hashes(snapshot.base.hashes, turned)
    allowed = snapshot.live if selection is None else selection.allowed
    if allowed is not None:
        kept = allowed.has(rows)
        rows, distances = rows[kept], distances[kept]
    places, more = nearest_hashes(snapshot.unmerged.hashes.T, turned)
    if selection is not None:
        kept = selection.unmerged[places]
        places, more = places[kept], more[kept]
    ids = np.append(snapshot.base.index.file.labels(rows), snapshot.unmerged.ids[places])
    distances = np.append(distances, more)
    order = np.lexsort((ids, distances))
    return ids[order], distances[order]


def hashes_of(snapshot: Snapshot, ids: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the perceptual hashes of items that a snapshot has, uint64 [n, 4]; zeros for one without a signature."""
    base = snapshot.base
    return snapshot.of_both(ids, snapshot.unmerged.hashes, lambda merged: base.hashes[:, base.columns.rows(merged)].T)
