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
from index.mapped_file import forget_pages, map_file

WORDS = 4
HASH_BYTES = 8 * WORDS
FARTHEST = 80  # bits: what differs in more is no copy by its hash; unrelated pictures differ in 128, give or take 10
FARTHEST_FIRST = 20  # of the first word, as are to be expected of the farthest; of unrelated ones 2 % are so near
BLOCK = 32_768  # rows that are compared at a time, so that they stay in the processor's cache
Words = NDArray[np.uint64]


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


def nearest_hashes(words: Words, turned: Words) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of ``words``, uint64 [4, n], that are close to one of ``turned``, uint64 [m, 4], and their distances.

    The distance is that of the nearest, in bits.
    """
    rows, distances = [], []
    for at in range(0, words.shape[1], BLOCK):
        block = words[:, at : at + BLOCK]
        first = np.bitwise_count(block[0][None] ^ turned[:, :1]).min(axis=0)
        close = np.flatnonzero(first <= FARTHEST_FIRST)
        found = hash_distances(block[:, close].T, turned)
        near = found <= FARTHEST
        rows.append(close[near] + at)
        distances.append(found[near])
    if not rows:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate(rows), np.concatenate(distances)


def hash_distances(hashes: Words, turned: Words) -> NDArray[np.int64]:
    """Return in how many bits each hash, uint64 [n, 4], differs from the nearest of ``turned``, uint64 [m, 4]: int64 [n].

    One that is all zeros stands for no hash, and is as far as unrelated ones are.
    """
    bits = np.bitwise_count(hashes[:, None] ^ turned[None]).sum(axis=2, dtype=np.int64)
    return np.where(hashes.any(axis=1), bits.min(axis=1), 4 * HASH_BYTES)
