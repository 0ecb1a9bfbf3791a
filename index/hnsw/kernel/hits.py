"""From what a walk has found to its hits: groups, distances by the vectors themselves, and their order."""

from __future__ import annotations

import numpy as np

from index.hnsw.kernel.jit import inner
from index.hnsw.kernel.members import allowed, any_allowed, members_of
from index.hnsw.kernel.primitives import (
    exact_distance_to,
    farthest,
    key_of,
    length_of,
    pop,
    pop_packed,
    prefetch_row,
    push,
)
from index.hnsw.kernel.types import DAMAGED, GROUP_RADIUS, LEADS, ROW, SQUARED_L2

AHEAD_ROWS = 2  # vectors that are prefetched before their turn


@inner()
def keep(node, distance, n_found, most, found, found_ids):  # type: ignore[no-untyped-def]
    """Take a row into the heap ``found`` where it is among the ``most`` nearest, equal ones by row; how many are in it."""
    if n_found < most or -found[0] > distance or (-found[0] == distance and found_ids[0] > node):
        push(found, found_ids, n_found, -distance, node)
        n_found += 1
        if n_found > most:
            pop(found, found_ids, n_found)
            n_found -= 1
    return n_found


@inner()
def _distance(query, vectors, node):  # type: ignore[no-untyped-def]
    return exact_distance_to(query, vectors.rows[node][vectors.at : vectors.at + vectors.dim], vectors.space)


@inner()
def compare(query, vectors, rows, size, k, scratch):  # type: ignore[no-untyped-def]
    """Collect the ``k`` nearest of ``rows[:size]`` in ``scratch.exact`` by their vectors; how many, or DAMAGED."""
    first, last = 4 * vectors.at, 4 * (vectors.at + vectors.dim)
    for place in range(size):
        if rows[place] < 0 or rows[place] >= vectors.rows.shape[0]:
            return DAMAGED
        if place < AHEAD_ROWS:
            prefetch_row(vectors.rows, rows[place], first, last)
    n_found = 0
    for place in range(size):
        if place + AHEAD_ROWS < size:
            prefetch_row(vectors.rows, rows[place + AHEAD_ROWS], first, last)
        node = np.int64(rows[place])
        if (vectors.words[node, 0] >> 16) & 1:
            continue
        distance = _distance(query, vectors, node)
        n_found = keep(node, distance, n_found, k, scratch.exact, scratch.near_ids)
    return n_found


@inner()
def _compare_members(query, length, graph, vectors, allow, leader, n_found, k, scratch):  # type: ignore[no-untyped-def]
    """Add the members of a leader's group to ``scratch.exact`` where they are among the ``k`` nearest; how many are in it.

    ``length`` is the query's. A group that lies too far off, by its radius, is passed over.
    """
    first, end = members_of(graph, leader)
    if first == DAMAGED:
        return DAMAGED
    radius = vectors.rows[first, GROUP_RADIUS]
    distance = np.float32(_distance(query, vectors, leader))
    if vectors.space == SQUARED_L2:
        gap = max(np.float32(0), np.sqrt(distance) - radius)
        nearest = gap * gap
    else:
        nearest = distance - length * radius
    if radius == 0 or (n_found == k and nearest > -scratch.exact[0]):
        return n_found  # copies are taken with their leader
    for node in range(first, end):
        if node + 1 < end:
            prefetch_row(vectors.rows, node + 1, 4 * vectors.at, 4 * (vectors.at + vectors.dim))
        if any_allowed(graph, allow, node):
            distance = _distance(query, vectors, node)
            n_found = keep(node, distance, n_found, k, scratch.exact, scratch.near_ids)
    return n_found


@inner()
def best_by_vectors(query, graph, vectors, allow, k, most, size, scratch):  # type: ignore[no-untyped-def]
    """Choose the best ``k`` of the ``most`` nearest that a walk by vectors has found, groups included; how many."""
    rows, leaders = scratch.found_ids, scratch.leaders
    n_leaders = 0
    if graph.groups:
        for place in range(size):
            if graph.links[rows[place], 0] & LEADS:
                leaders[n_leaders] = rows[place]
                n_leaders += 1
    while size > most:
        pop(scratch.found, rows, size)
        size -= 1
    for place in range(size):
        scratch.fresh[place] = rows[place]
    return _choose(query, graph, vectors, allow, k, size, n_leaders, scratch)


@inner()
def best_by_codes(query, graph, vectors, allow, k, size, n_close, scratch):  # type: ignore[no-untyped-def]
    """Choose the best ``k`` of all that may be among them, as far as codes tell it, groups included; how many.

    ``scratch.best`` are the best ``size`` by codes, and ``scratch.close`` all that may be.
    """
    best, close, leaders = scratch.best, scratch.close, scratch.leaders
    while size > k:
        pop_packed(best, size)
        size -= 1
    limit = farthest(best, size, k)
    n_rows, n_leaders = 0, 0
    for place in range(n_close):
        node = ~close[place] & ROW
        if graph.groups and graph.links[node, 0] & LEADS:
            leaders[n_leaders] = node
            n_leaders += 1
        if key_of(~close[place]) <= limit:
            scratch.fresh[n_rows] = node
            n_rows += 1
    return _choose(query, graph, vectors, allow, k, n_rows, n_leaders, scratch)


@inner()
def _choose(query, graph, vectors, allow, k, size, n_leaders, scratch):  # type: ignore[no-untyped-def]
    """Collect the best ``k`` of ``scratch.fresh[:size]`` that may be hits, and of leaders' members; how many, or DAMAGED."""
    fresh = scratch.fresh
    if graph.groups:
        n_rows = 0
        for place in range(size):
            # A leader that may not be a hit itself was found for those that it leads.
            if any_allowed(graph, allow, fresh[place]):
                fresh[n_rows] = fresh[place]
                n_rows += 1
        size = n_rows
    size = compare(query, vectors, fresh, size, k, scratch)
    length = length_of(query) if n_leaders else np.float32(0)
    for place in range(n_leaders):
        if size < 0:
            return DAMAGED
        size = _compare_members(query, length, graph, vectors, allow, scratch.leaders[place], size, k, scratch)
    return size


@inner()
def sort_heap(keys, ids, size):  # type: ignore[no-untyped-def]
    """Put a heap of negated distances in order, the nearest first."""
    while size > 0:  # the farthest first, each behind what is left of the heap
        size -= 1
        key, node = keys[0], ids[0]
        pop(keys, ids, size + 1)
        keys[size], ids[size] = key, node


@inner()
def label_of(vectors, node):  # type: ignore[no-untyped-def]
    words = vectors.words[node]
    return np.int64(words[vectors.label_at]) | (np.int64(words[vectors.label_at + 1]) << 32)


@inner()
def _add_hit(vectors, node, distance, n_hits, labels, distances):  # type: ignore[no-untyped-def]
    labels[n_hits] = label_of(vectors, node)
    distances[n_hits] = distance
    return n_hits + 1


@inner()
def nearest_first(graph, vectors, allow, size, k, scratch, labels, distances):  # type: ignore[no-untyped-def]
    """Fill the labels and distances of the best ``k`` out of ``scratch.exact``, copies next to each; how many."""
    exact, ids = scratch.exact, scratch.near_ids
    sort_heap(exact, ids, size)
    n_hits = 0
    for place in range(size):
        node, distance = ids[place], np.float32(-exact[place])
        first, end = members_of(graph, node)
        if first == DAMAGED:
            return DAMAGED
        if end > first and graph.links[first, GROUP_RADIUS] != 0:
            end = first  # members that are no copies have come by themselves
        if n_hits < k and allowed(graph, allow, node):
            n_hits = _add_hit(vectors, node, distance, n_hits, labels, distances)
        for copy in range(first, end):
            if n_hits < k and allowed(graph, allow, copy):
                n_hits = _add_hit(vectors, copy, distance, n_hits, labels, distances)
    return n_hits
