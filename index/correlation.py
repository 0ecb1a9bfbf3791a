"""Compare signatures, the grey levels of whole pictures: how well one lies in another (index/hnsw/kernel/correlation.py)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from index.hnsw.kernel.loader import kernel

SIDE = 32


def correlations(luma: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return how well a signature, uint8 [32, 32], lies in each other, uint8 [n, 32, 32], or that in it: float64 [n].

    From -1 to 1: 1 for grey levels that differ by a factor and a constant, of a picture that is the same, turned by quarters,
    mirrored, or a part of the other; unrelated ones have some 0.5.
    """
    found = np.zeros(len(others))
    if len(others):
        loaded = kernel()
        pixels = SIDE**2
        floats, sums = np.zeros((3, loaded.FLOATS), np.float32), np.zeros((3, loaded.SUMS))
        # Compiled for arrays that can be written to, as what the database gives cannot.
        rows = np.require(others.reshape(len(others), pixels), np.uint8, ["C", "W"])
        own = np.require(luma.reshape(pixels), np.uint8, ["C", "W"])
        loaded.correlate(own, rows, floats, sums, np.zeros(pixels, np.uint8), found)
    return found
