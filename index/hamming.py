"""Compare perceptual hashes, 256 bits each: in how many they differ (index/hnsw/kernel/hamming.py)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from index.hnsw.kernel.loader import kernel

WORDS = 4
HASH_BYTES = 8 * WORDS
FARTHEST = 80  # bits: what differs in more is no copy by its hash; unrelated pictures differ in 128, give or take 10
FARTHEST_FIRST = 20  # of the first word, as are to be expected of the farthest; of unrelated ones 2 % are so near
Words = NDArray[np.uint64]


def nearest_hashes(words: Words, turned: Words) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of ``words``, uint64 [4, n], that are close to one of ``turned``, uint64 [m, 4], and their distances.

    The distance is that of the nearest, in bits.
    """
    count = words.shape[1]
    rows, distances = np.empty(count, np.int64), np.empty(count, np.int64)
    mapped = np.ascontiguousarray(words).view()
    mapped.flags.writeable = False  # as those of a file are, for which it is compiled
    found = kernel().nearest_hashes(
        mapped, np.ascontiguousarray(turned), FARTHEST, FARTHEST_FIRST, np.empty(count, np.uint8), rows, distances
    )
    return rows[:found].copy(), distances[:found].copy()


def hash_distances(hashes: Words, turned: Words) -> NDArray[np.int64]:
    """Return in how many bits each hash, uint64 [n, 4], differs from the nearest of ``turned``: int64 [n].

    ``turned``: uint64 [m, 4], or [n, m, 4], those for each. One that is all zeros stands for no hash, and is as far as
    unrelated ones are.
    """
    bits = np.bitwise_count(hashes[:, None] ^ turned).sum(axis=2, dtype=np.int64)
    return np.where(hashes.any(axis=1), bits.min(axis=1), 4 * HASH_BYTES)
