"""Perceptual hashes of items' pictures: 256 bits each, of which copies have most in common, however they were altered.

Those of a generation are a file, ``base-000001.hashes``: uint64 words, row by row of the index, first the first word of all,
then the second, and so on. No hash is all zeros but that of an item without a signature. They are compared one by one; only
rows whose first words are close are compared in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.catalogue.database import PART, Reading
from index.errors import DamagedIndex
from index.hamming import HASH_BYTES, WORDS, Words
from index.mapped_file import forget_pages, map_file


def write_hashes(path: Path, database: Reading, labels: NDArray[np.int64]) -> None:
    """Write the hashes of items, in the order of ``labels``. Raises OSError."""
    words = np.zeros((WORDS, len(labels)), "<u8")
    for at in range(0, len(labels), PART):
        words[:, at : at + PART] = stored_hashes(database, labels[at : at + PART].tolist()).T
    with path.open("wb") as file:
        file.write(words.tobytes())
        forget_pages(file)


def stored_hashes(database: Reading, ids: Sequence[int]) -> Words:
    """Return the hashes of up to PART items, uint64 [n, 4]; zeros for one that has none. Raises DamagedIndex."""
    marks = ", ".join("?" * len(ids))
    found = dict(database.query(f"SELECT id, hash FROM signatures WHERE id IN ({marks})", ids))
    return as_hashes([found.get(one, b"") for one in ids])


def as_hashes(stored: Sequence[object]) -> Words:
    """Return hashes as the database has them, uint64 [n, 4]; zeros for one that is empty. Raises DamagedIndex."""
    words = np.zeros((len(stored), WORDS), "<u8")
    for place, data in enumerate(stored):
        if not isinstance(data, bytes) or len(data) not in (0, HASH_BYTES):
            raise DamagedIndex("the database has a perceptual hash that is none; restore or rebuild the catalogue")
        if data:
            words[place] = np.frombuffer(data, "<u8")
    return words


def open_hashes(path: Path, rows: int) -> Words:
    """Map a generation's hashes, uint64 [4, rows]. Raises DamagedIndex."""
    size = path.stat().st_size
    if size != rows * HASH_BYTES:
        raise DamagedIndex(f"{path} has {size} bytes for {rows} hashes; restore or rebuild the catalogue")
    if not rows:
        return np.empty((WORDS, 0), np.uint64)
    with path.open("rb") as file:
        return np.frombuffer(map_file(file), "<u8").reshape(WORDS, rows)
