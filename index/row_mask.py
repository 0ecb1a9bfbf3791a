"""The rows of an index that a filter allows, as a bit mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.errors import DamagedIndex

KEPT_ROWS = 2**16  # rows that are kept one by one next to their bits: at most half a megabyte


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

    def mask(self) -> NDArray[np.bool_]:
        """Return the rows as bool [count]."""
        return np.unpackbits(self.bits, count=self.count, bitorder="little").view(bool)

    def has(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of some rows are among them, bool [n]."""
        return (self.bits[rows >> 3] >> (rows & 7).astype(np.uint8) & 1).astype(bool)

    def rows(self) -> NDArray[np.int64]:
        """Return the rows, int64 [size] in order."""
        if self.few is not None:
            return self.few
        return np.flatnonzero(self.mask())


def allow_mask(mask: NDArray[np.bool_]) -> Allowed:
    """Allow the rows that are true in ``mask``, bool [count]."""
    size = int(np.count_nonzero(mask))
    few = np.flatnonzero(mask) if size <= KEPT_ROWS else None
    return Allowed(np.packbits(mask, bitorder="little"), few, size, len(mask))


def allow_rows(rows: Sequence[int] | NDArray[np.int64], count: int) -> Allowed:
    """Allow these rows, in any order, of an index of ``count``. Raises DamagedIndex for a row that is not there."""
    array = np.unique(np.asarray(rows, np.int64))
    if len(array) and not 0 <= array[0] <= array[-1] < count:
        raise DamagedIndex(
            f"the catalogue names rows {array[0]} to {array[-1]} of an index of {count}; restore or rebuild it"
        )
    flags = np.zeros(count, bool)
    flags[array] = True
    return allow_mask(flags)
