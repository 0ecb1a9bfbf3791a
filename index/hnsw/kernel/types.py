"""What the search kernel is given and gives back, known without importing numba."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

INNER_PRODUCT = 0  # distance 1 - q·v; cosine is this on unit vectors, as in hnswlib
SQUARED_L2 = 1
DAMAGED = -1
OVER_BUDGET = -2
TAG, SPENT = 0, 1  # places in Scratch.state
# Flags of an element's word 0, hnswlib's own and those of groups (index/hnsw/groups.py); slots of a group's first member.
DELETED, LEADS, MEMBER = 1 << 16, 1 << 24, 1 << 25
GROUP_SIZE, GROUP_RADIUS = 1, 2


class Graph(NamedTuple):
    """What is walked. ``rows`` are what the query is compared with on the way: vectors, or codes with ``terms``.

    ``links``: uint32 [count, >= 1 + max_links0], hnswlib's level-0 word and ids; ``upper``: uint32, the words above level
    0; ``upper_at``: uint32 [count], the word in ``upper`` where a row's links begin, or 0; ``rows``: float32 or int8
    [count, >= at + dim]; ``terms``: float32 [count, 2], see ``far``. ``deletions`` and ``groups`` say whether any element
    is marked as deleted, or leads a group.
    """

    links: NDArray[np.uint32]
    upper: NDArray[np.uint32]
    upper_at: NDArray[np.uint32]
    rows: NDArray[np.float32] | NDArray[np.int8]
    terms: NDArray[np.float32]
    at: int
    max_links: int
    max_links0: int
    max_level: int
    entry: int
    deletions: bool
    groups: bool


class Vectors(NamedTuple):
    """What answers are made of: the base file's records as float32 and as uint32, [count, words]."""

    rows: NDArray[np.float32]
    words: NDArray[np.uint32]
    at: int
    label_at: int
    dim: int
    space: int
    unit: bool


class Scratch(NamedTuple):
    """What a thread's queries reuse. ``visited``: uint16 [count], a row is seen where it equals the query's tag;
    ``near`` is a heap of the rows still to expand, ``found`` one of the best rows, by negated distance; ``leaders``: those
    of them that lead others; ``exact``: float64 distances of the last ones; ``state``: the last query's tag, and how many
    distances it took on level 0."""

    visited: NDArray[np.uint16]
    near: NDArray[np.float32]
    near_ids: NDArray[np.int64]
    leaders: NDArray[np.int64]
    exact: NDArray[np.float64]
    found: NDArray[np.float32]
    found_ids: NDArray[np.int64]
    fresh: NDArray[np.int64]
    query: NDArray[np.float32]
    query_codes: NDArray[np.int16]
    state: NDArray[np.int64]
