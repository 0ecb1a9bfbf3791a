"""Which way a filtered query goes: through the graph, or straight through the rows that the filter allows."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.errors import DamagedIndex


@dataclass(frozen=True)
class Allowed:
    """The rows that a filter allows, int64 [n] in order, out of ``count``."""

    rows: NDArray[np.int64]
    count: int

    def __len__(self) -> int:
        return len(self.rows)

    @functools.cached_property
    def bits(self) -> NDArray[np.uint8]:
        """A bit for each row, the lowest first: uint8 [ceil(count / 8)]."""
        flags = np.zeros(self.count, bool)
        flags[self.rows] = True
        return np.packbits(flags, bitorder="little")


def allow_rows(rows: Sequence[int], count: int) -> Allowed:
    """Allow these rows, in any order, of an index of ``count``. Raises DamagedIndex for a row that is not there."""
    array = np.unique(np.asarray(rows, np.int64))
    if len(array) and not 0 <= array[0] <= array[-1] < count:
        raise DamagedIndex(
            f"the catalogue names rows {array[0]} to {array[-1]} of an index of {count}; restore or rebuild it"
        )
    return Allowed(array, count)


def plan(allowed: int, count: int, ef: int, dim: int, codes: bool) -> int:
    return 0
