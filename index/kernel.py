"""The search kernel: hnswlib's own algorithm (Malkov and Yashunin, arXiv:1603.09320), over the mapped file.

It follows ``searchKnn`` and ``searchBaseLayerST`` of hnswlib 0.8.0 step by step, so that its answers on a file are
hnswlib's answers. What differs is where the bytes are (in the map, nothing is loaded) and that every id, count and
level read from the file is checked before it is used: a damaged file gives the return value DAMAGED, never a crash.
It runs without the GIL. Heaps are arrays that the caller owns, so a query allocates nothing.
"""

from __future__ import annotations

import numpy as np
from numba import njit

DAMAGED = -1
INNER_PRODUCT = 0  # distance 1 - q·v; cosine is this on unit vectors, as in hnswlib
SQUARED_L2 = 1

# "reassoc" lets LLVM sum in vector lanes; NaN and infinity keep their meaning, since a damaged file may hold them.
_SUM = {"reassoc", "contract"}


@njit(nogil=True, fastmath=_SUM)
def _distance(query, vector, space):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    if space == SQUARED_L2:
        for i in range(query.shape[0]):
            gap = query[i] - vector[i]
            total += gap * gap
        return total
    for i in range(query.shape[0]):
        total += query[i] * vector[i]
    return np.float32(1) - total


@njit(nogil=True)
def _push(keys, ids, size, key, node):  # type: ignore[no-untyped-def]
    """Put (key, node) into a heap with the smallest key on top."""
    at = size
    while at > 0:
        parent = (at - 1) >> 1
        if keys[parent] <= key:
            break
        keys[at] = keys[parent]
        ids[at] = ids[parent]
        at = parent
    keys[at] = key
    ids[at] = node


@njit(nogil=True)
def _pop(keys, ids, size):  # type: ignore[no-untyped-def]
    """Take the smallest key off a heap of ``size`` entries."""
    last = size - 1
    key = keys[last]
    node = ids[last]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= last:
            break
        if child + 1 < last and keys[child + 1] < keys[child]:
            child += 1
        if keys[child] >= key:
            break
        keys[at] = keys[child]
        ids[at] = ids[child]
        at = child
    keys[at] = key
    ids[at] = node


@njit(nogil=True)
def _descend(query, links, vectors, upper, upper_at, upper_levels, dims, space):  # type: ignore[no-untyped-def]
    """Walk greedily from the entry point down to level 0; the row to start from there, or DAMAGED."""
    count, _, vector_word, _, max_links, _, max_level, entry = dims
    current = np.int64(entry)
    best = _distance(query, vectors[current][vector_word : vector_word + query.shape[0]], space)
    for level in range(max_level, 0, -1):
        moved = True
        while moved:
            moved = False
            if upper_levels[current] < level:
                return DAMAGED
            block = upper_at[current] + (level - 1) * (1 + max_links)
            degree = upper[block] & 0xFFFF
            if degree > max_links:
                return DAMAGED
            for slot in range(block + 1, block + 1 + degree):
                node = np.int64(upper[slot])
                if node >= count:
                    return DAMAGED
                distance = _distance(query, vectors[node][vector_word : vector_word + query.shape[0]], space)
                if distance < best:
                    best = distance
                    current = node
                    moved = True
    return current


@njit(nogil=True, cache=True)
def search_graph(  # type: ignore[no-untyped-def]
    query,
    links,
    vectors,
    upper,
    upper_at,
    upper_levels,
    dims,
    space,
    ef,
    visited,
    tag,
    near,
    near_ids,
    found,
    found_ids,
):
    """Search the graph for the ``ef`` nearest rows of one query; the number found, or DAMAGED.

    ``query``: float32 [dim]. ``visited``: uint16 [count], a row counts as seen where it equals ``tag``. ``near``: the
    rows still to expand (heap, float32 [count]); ``found``: the best rows so far as a heap of *negated* distances
    (float32 [ef + 1]), worst on top. Both heaps have their ids beside them.
    """
    count, _, vector_word, _, _, max_links0, _, _ = dims
    dim = query.shape[0]
    start = _descend(query, links, vectors, upper, upper_at, upper_levels, dims, space)
    if start == DAMAGED:
        return DAMAGED
    n_near, n_found = 0, 0
    bound = np.float32(np.finfo(np.float32).max)
    visited[start] = tag
    if (links[start, 0] >> 16) & 1:  # deleted elements are walked through but never returned
        _push(near, near_ids, n_near, bound, start)
    else:
        bound = _distance(query, vectors[start][vector_word : vector_word + dim], space)
        _push(near, near_ids, n_near, bound, start)
        _push(found, found_ids, n_found, -bound, start)
        n_found = 1
    n_near = 1
    while n_near > 0:
        if near[0] > bound and n_found == ef:
            break
        current = near_ids[0]
        _pop(near, near_ids, n_near)
        n_near -= 1
        degree = links[current, 0] & 0xFFFF
        if degree > max_links0:
            return DAMAGED
        for slot in range(1, 1 + degree):
            node = np.int64(links[current, slot])
            if node >= count:
                return DAMAGED
            if visited[node] == tag:
                continue
            visited[node] = tag
            distance = _distance(query, vectors[node][vector_word : vector_word + dim], space)
            if n_found < ef or bound > distance:
                _push(near, near_ids, n_near, distance, node)
                n_near += 1
                if not (links[node, 0] >> 16) & 1:
                    _push(found, found_ids, n_found, -distance, node)
                    n_found += 1
                    if n_found > ef:
                        _pop(found, found_ids, n_found)
                        n_found -= 1
                if n_found > 0:
                    bound = -found[0]
    return n_found


@njit(nogil=True, cache=True)
def nearest_first(found, found_ids, size, k, links, label_word):  # type: ignore[no-untyped-def]
    """Empty the heap of ``search_graph`` into the labels (int64) and distances (float32) of its best ``k``."""
    while size > k:
        _pop(found, found_ids, size)
        size -= 1
    labels = np.empty(size, np.int64)
    distances = np.empty(size, np.float32)
    for place in range(size - 1, -1, -1):
        row = found_ids[0]
        distances[place] = -found[0]
        labels[place] = np.int64(links[row, label_word]) | (np.int64(links[row, label_word + 1]) << 32)
        _pop(found, found_ids, place + 1)
    return labels, distances
