"""Which way a filtered query goes: through the graph, or straight through the rows that the filter allows.

The costs are of one core of an AMD EPYC (Zen 5), in nanoseconds, by ``python -m benchmarks.filters``; only their ratios
matter here. On other processors the ratios are much the same: both ways wait for the same memory.
"""

from __future__ import annotations

import numpy as np

UNBOUNDED = np.iinfo(np.int64).max
CACHE = 16 * 2**20  # bytes of rows that stay near the processor from one query to the next
FAR = 2.2  # how much longer a row takes that does not
FILTERED = 0.85  # distances of a filtered walk: this, times those of an unfiltered one, by the share that is allowed


def plan(allowed: int, count: int, usual: float, dim: int, *, codes: bool) -> int:
    """Return how many distances a walk may take before comparing the allowed rows is cheaper; 0 where it is from the start.

    ``usual``: what an unfiltered walk takes. A filter whose rows lie far from the query makes the walk longer than
    foreseen: at the price of the scan it is cut off, so that no query costs more than about twice the better way.
    """
    each_walked, each_scanned, size = (
        (70 + 0.16 * dim, 5 + 0.035 * dim, dim) if codes else (110 + 0.2 * dim, 12 + 0.08 * dim, 4 * dim)
    )
    each_scanned *= FAR if allowed * size > CACHE else 1
    walk = min(count, FILTERED * usual * count / max(1, allowed)) * each_walked
    scan = allowed * each_scanned
    return int(scan / each_walked) if walk < scan else 0
