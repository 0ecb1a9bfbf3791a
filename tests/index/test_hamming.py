"""Perceptual hashes: the compiled scan finds what a comparison of every pair of words finds."""

from __future__ import annotations

import numpy as np
import pytest

from index.hamming import FARTHEST, FARTHEST_FIRST, hash_distances, nearest_hashes


@pytest.mark.parametrize("count", [0, 1, 3000])
def test_close_hashes_are_found_with_their_distances(count: int) -> None:
    rng = np.random.default_rng(count)
    turned = rng.integers(0, 2**64, (8, 4), dtype=np.uint64)
    words = rng.integers(0, 2**64, (count, 4), dtype=np.uint64)
    for row in range(0, count, 7):  # copies of one of them, with 0 to 25 bits of each word flipped
        bits = [rng.permutation(64)[: rng.integers(0, 26)] for _ in range(4)]
        flipped = [sum(1 << int(bit) for bit in some) for some in bits]
        words[row] = turned[row % 8] ^ np.array(flipped, np.uint64)
    distances = hash_distances(words, turned)
    first = np.bitwise_count(words[:, None, 0] ^ turned[None, :, 0]).min(axis=1)
    expected = np.flatnonzero((distances <= FARTHEST) & (first <= FARTHEST_FIRST))
    for stored in (np.ascontiguousarray(words.T), words.T):  # as a file has them, and as unmerged items do
        rows, found = nearest_hashes(stored, turned)
        assert rows.tolist() == expected.tolist()
        assert found.tolist() == distances[expected].tolist()
    assert (len(expected) > count // 14) == (count > 0)
