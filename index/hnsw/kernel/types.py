"""What the search kernel is given and gives back, known without importing numba."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

INNER_PRODUCT = 0  # distance 1 - q·v; cosine is this on unit vectors, as in hnswlib
SQUARED_L2 = 1
LANES = 16  # coordinates that stand next to each other in a rotation: a register of AVX-512
PLANES = 4  # bits of a query's coordinate that are compared with the signs of rows
ROW = np.int64(0xFFFFFFFF)  # the row of a packed key and row
TOGETHER = 2  # rows that a walk by codes compares together where they may be expanded
AT_ONCE = 8  # and where they may only be hits
DAMAGED = -1
OVER_BUDGET = -2
TAG, SPENT = 0, 1  # places in Scratch.state
# Flags of an element's word 0, hnswlib's own and those of groups (index/hnsw/groups.py); slots of a group's first member.
DELETED, LEADS, MEMBER = 1 << 16, 1 << 24, 1 << 25
GROUP_SIZE, GROUP_RADIUS = 1, 2


# Columns of a companion's terms, float32, behind the words of signs (index/hnsw/codes.py).
OFFSET, SCALE, LENGTH, SIGN_SCALE, SIGN_ERROR, POSITIVE = range(6)
MIDDLE, LARGEST = 128, np.float32(127)  # a code is MIDDLE and a whole number up to LARGEST either way


class CodedQuery(NamedTuple):
    """A query as codes are compared with it: int8 [n], times ``scale``; ``middle`` is what MIDDLE adds to any product."""

    codes: NDArray[np.int8]
    scale: np.float32
    middle: np.int32


class Rotation(NamedTuple):
    """A rotation about a centre (index/hnsw/rotation.py): in each round coordinates get signs and are mixed.

    ``centre``: float32 [dim]; ``signs``: float32 [rounds, padded], scaled; ``order``: uint32 [rounds - 1, padded], the order
    in which the coordinates go into the next round. Without rounds nothing is moved or mixed.
    """

    centre: NDArray[np.float32]
    order: NDArray[np.uint32]
    signs: NDArray[np.float32]


class Graph(NamedTuple):
    """What is walked. ``rows`` are what the query is compared with on the way: vectors, or codes, with ``terms`` and signs.

    ``links``: uint32 [count, >= 1 + max_links0], hnswlib's level-0 word and ids; ``upper``: uint32, the words above level
    0; ``upper_at``: uint32 [count], the word in ``upper`` where a row's links begin, or 0; ``rows``: float32 or uint8
    [count, >= end], compared from column ``at`` to ``end``; ``signs``: uint64 [count, words], of codes only; ``terms``:
    float32 [count, columns], see ``Codes``. ``deletions`` and ``groups`` say whether any element is marked as deleted, or
    leads a group.
    """

    links: NDArray[np.uint32]
    upper: NDArray[np.uint32]
    upper_at: NDArray[np.uint32]
    rows: NDArray[np.float32] | NDArray[np.uint8]
    signs: NDArray[np.uint64]
    terms: NDArray[np.float32]
    terms_at: int
    at: int
    end: int
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
    of them that lead others; ``exact``: float64 distances of the last ones; ``rotated``, ``other``, ``query_codes``,
    ``planes``, ``factors``: the query as codes and signs are compared with it; ``state``: the last query's tag, and how
    many distances it took on level 0."""

    visited: NDArray[np.uint16]
    near: NDArray[np.float32]
    near_ids: NDArray[np.int64]
    leaders: NDArray[np.int64]
    exact: NDArray[np.float64]
    found: NDArray[np.float32]
    found_ids: NDArray[np.int64]
    fresh: NDArray[np.int64]
    taken: NDArray[np.int64]
    best: NDArray[np.int64]
    narrow: NDArray[np.int64]
    close: NDArray[np.int64]
    query: NDArray[np.float32]
    rotated: NDArray[np.float32]
    other: NDArray[np.float32]
    query_codes: NDArray[np.int8]
    planes: NDArray[np.uint64]
    factors: NDArray[np.float32]
    state: NDArray[np.int64]


Part = Graph | Rotation | Vectors | Scratch


def handle_of(*parts: Part) -> NDArray[np.int64]:
    """Return the handle of parts, whose arrays are C-contiguous: an array's address and lengths, and each number itself.

    Handed over one by one, numba takes 150 ns for each array. Keep the parts alive for as long as the handle.
    """
    words: list[int] = []
    for field in (field for part in parts for field in part):
        words += [field.ctypes.data, *field.shape] if isinstance(field, np.ndarray) else [int(field)]
    return np.array(words, np.int64)
