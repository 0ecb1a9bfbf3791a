"""Which way a filtered query goes: through the graph, or straight through the rows that the filter allows.

The costs are of one core, in nanoseconds; only their ratios matter here, and on processors of one time they are much the
same. Those with codes are of an Intel Xeon with AMX, those without of an AMD EPYC (Zen 5). ``python -m benchmarks.filters``
shows both ways next to what was chosen.
"""

from __future__ import annotations

import numpy as np

UNBOUNDED = np.iinfo(np.int64).max
CACHE = 16 * 2**20  # bytes of rows that stay near the processor from one query to the next
FAR = 1.5  # how much longer a row takes that does not: not at all on the Xeon, 2.2 times as long on the EPYC
FILTERED = 0.85  # distances of a filtered walk: this, times those of an unfiltered one, by the share that is allowed


def plan(allowed: int, count: int, usual: float, dim: int, *, codes: bool) -> int:
    """Return how many distances a walk may take before comparing the allowed rows is cheaper; 0 where it is from the start.

    ``usual``: what an unfiltered walk takes. A filter whose rows lie far from the query makes the walk longer than
    foreseen: at the price of the scan it is cut off, so that no query costs more than about twice the better way.
    """
    each_walked, each_scanned, size = (
        (90 + 0.02 * dim, 5 + 0.05 * dim, dim) if codes else (110 + 0.2 * dim, 12 + 0.08 * dim, 4 * dim)
    )
    each_scanned *= FAR if allowed * size > CACHE else 1
    walk = min(count, FILTERED * usual * count / max(1, allowed)) * each_walked
    scan = allowed * each_scanned
    return int(scan / each_walked) if walk < scan else 0
