"""Perceptual hashes that are close to one of some: 256 bits each, as four words, compared one by one."""

from __future__ import annotations

import numpy as np

from index.hnsw.kernel.jit import compiled, inner

WORDS = 4


@inner()
def _bits(word):  # type: ignore[no-untyped-def]
    """Return how many bits of a word are set; LLVM knows this for what it is, and takes the instruction that counts them."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (word * np.uint64(0x0101010101010101)) >> np.uint64(56)


@compiled
def nearest_hashes(words, turned, farthest, farthest_first, nearest, rows, distances):  # type: ignore[no-untyped-def]
    """Fill ``rows`` and ``distances``, int64 [n], with the hashes that are close to one of ``turned``; return how many.

    ``words``: uint64 [4, n], ``turned``: uint64 [m, 4]. Close are ``farthest`` bits in all, of which the first word has
    ``farthest_first``. Scratch: ``nearest`` uint8 [n].
    """
    first = words[0]
    nearest[:] = 64
    for turn in range(turned.shape[0]):
        own = turned[turn, 0]
        for row in range(first.shape[0]):
            nearest[row] = min(nearest[row], np.uint8(_bits(first[row] ^ own)))
    count = 0
    for row in range(first.shape[0]):
        if nearest[row] > farthest_first:
            continue
        least = np.uint64(farthest + 1)
        for turn in range(turned.shape[0]):
            bits = np.uint64(0)
            for word in range(WORDS):
                bits += _bits(words[word, row] ^ turned[turn, word])
            least = min(least, bits)
        if least <= farthest:
            rows[count] = row
            distances[count] = least
            count += 1
    return count
