"""Which way a filtered query goes: through the graph, or straight through the rows that the filter allows.

The costs are of one core of an AMD EPYC (Zen 5), in nanoseconds, by ``python -m benchmarks.filters``; only their ratios
matter here. On other processors the ratios are much the same: both ways wait for the same memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.errors import DamagedIndex

UNBOUNDED = np.iinfo(np.int64).max
CACHE = 16 * 2**20  # bytes of rows that stay near the processor from one query to the next
FAR = 2.2  # how much longer a row takes that does not
KEPT_ROWS = 2**16  # rows that a filter remembers one by one, beside their bits: at most half a megabyte
FILTERED = 0.85  # distances of a filtered walk: this, times those of an unfiltered one, by the share that is allowed


@dataclass(frozen=True, slots=True)
class Allowed:
    """The rows that a filter allows, ``size`` of ``count``.

    ``bits``: a bit for each row, the lowest first, uint8 [ceil(count / 8)]; ``few``: the rows themselves, int64 [size] in
    order, where they are few enough to keep.
    """

    bits: NDArray[np.uint8]
    few: NDArray[np.int64] | None
    size: int
    count: int

    def __len__(self) -> int:
        return self.size

    def rows(self) -> NDArray[np.int64]:
        """The rows, int64 [size] in order."""
        if self.few is not None:
            return self.few
        return np.flatnonzero(np.unpackbits(self.bits, count=self.count, bitorder="little"))


def allow_rows(rows: Sequence[int] | NDArray[np.int64], count: int) -> Allowed:
    """Allow these rows, in any order, of an index of ``count``. Raises DamagedIndex for a row that is not there."""
    array = np.unique(np.asarray(rows, np.int64))
    if len(array) and not 0 <= array[0] <= array[-1] < count:
        raise DamagedIndex(
            f"the catalogue names rows {array[0]} to {array[-1]} of an index of {count}; restore or rebuild it"
        )
    flags = np.zeros(count, bool)
    flags[array] = True
    few = array if len(array) <= KEPT_ROWS else None
    return Allowed(np.packbits(flags, bitorder="little"), few, len(array), count)


def plan(allowed: int, count: int, usual: float, dim: int, *, codes: bool) -> int:
    """How many distances a walk may take before comparing the allowed rows is cheaper; 0 where it is from the start.

    ``usual``: what an unfiltered walk takes. A filter whose rows lie far from the query makes the walk longer than
    foreseen: at the price of the scan it is given up, so that no query costs more than about twice the better way.
    """
    each_walked = 90 + 0.06 * dim if codes else 110 + 0.2 * dim
    each_scanned = (12 + 0.08 * dim) * (FAR if allowed * dim * 4 > CACHE else 1)
    walk = min(count, FILTERED * usual * count / max(1, allowed)) * each_walked
    scan = allowed * each_scanned
    return int(scan / each_walked) if walk < scan else 0
