"""Compare signatures, the grey levels of whole pictures: how well one lies in another (index/hnsw/kernel/correlation.py)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from index.hnsw.kernel.loader import kernel

SIDE = 32


def correlations(lumas: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return how well signatures, uint8 [n, 32, 32], lie in others, uint8 [n, 32, 32], or these in them: float64 [n].

    One signature, uint8 [32, 32], is compared with all others.

    From -1 to 1: 1 for grey levels that differ by a factor and a constant, of a picture that is the same, turned by quarters,
    mirrored, or a part of the other; unrelated ones have some 0.5.
    """
    found = np.zeros(len(others))
    if len(others):
        loaded = kernel()
        pixels = SIDE**2
        floats, sums = np.zeros((3, loaded.FLOATS), np.float32), np.zeros((3, loaded.SUMS))
        # Compiled for arrays that can be written to, as what the database gives cannot.
        own, rows = (
            np.require(np.broadcast_to(some, (len(others), SIDE, SIDE)).reshape(-1, pixels), np.uint8, ["C", "W"])
            for some in (lumas, others)
        )
        loaded.correlate(own, rows, floats, sums, np.zeros(pixels, np.uint8), found)
    return found
