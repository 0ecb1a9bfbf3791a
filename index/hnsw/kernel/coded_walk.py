"""The walk through the graph by signs and codes: no code is read before the signs say that it may be worth it.

It is HNSW's best-first search, but a row that is met is only given the least distance that it may have by its signs. It is
compared by its code when it is its turn to be expanded, and several are taken together, so that the processor waits for
the memory of all of them at once.
"""

from __future__ import annotations

import numpy as np

from index.hnsw.kernel.hits import keep
from index.hnsw.kernel.jit import inner
from index.hnsw.kernel.members import counts
from index.hnsw.kernel.primitives import code_error, distance_of, key_of, packed, pop_packed, prefetch_row, push_packed
from index.hnsw.kernel.signs import QUERY_LENGTH, estimate, least_distance
from index.hnsw.kernel.types import DAMAGED, OVER_BUDGET, ROW, SPENT, TOGETHER
from index.hnsw.kernel.walk import upper_block

INFINITE = np.float32(np.inf)


@inner()
def _descend(graph, scratch):  # type: ignore[no-untyped-def]
    """Walk greedily by estimates from the entry point down to level 0; the row to start from there, or DAMAGED."""
    row_bytes = graph.signs.shape[1] * 8
    current = np.int64(graph.entry)
    best = estimate(scratch, graph, current)
    for level in range(graph.max_level, 0, -1):
        moved = True
        while moved:
            moved = False
            start = upper_block(graph, current, level)
            if start == DAMAGED:
                return DAMAGED
            end = start + 1 + np.int64(graph.upper[start] & 0xFFFF)
            for slot in range(start + 1, end):
                if np.int64(graph.upper[slot]) >= graph.links.shape[0]:
                    return DAMAGED
                prefetch_row(graph.signs, graph.upper[slot], 0, row_bytes)
            for slot in range(start + 1, end):
                node = np.int64(graph.upper[slot])
                distance = estimate(scratch, graph, node)
                if distance < best:
                    best, current, moved = distance, node, True
    return current


@inner()
def _meet(graph, node, tag, n_fresh, scratch):  # type: ignore[no-untyped-def]
    """Add the neighbours of a row that were not met yet to ``fresh``, and prefetch their signs; how many, or DAMAGED."""
    visited, fresh = scratch.visited, scratch.fresh
    degree, row_bytes = np.int64(graph.links[node, 0] & 0xFFFF), graph.signs.shape[1] * 8
    if degree > graph.max_links0:
        return DAMAGED
    for slot in range(1, 1 + degree):
        other = np.int64(graph.links[node, slot])
        if other >= graph.links.shape[0]:
            return DAMAGED
        if visited[other] != tag:
            visited[other] = tag
            fresh[n_fresh] = other
            prefetch_row(graph.signs, other, 0, row_bytes)
            n_fresh += 1
    return n_fresh


@inner()
def walk_codes(query, graph, ef, allow, budget, tag, scratch):  # type: ignore[no-untyped-def]
    """Walk until the ``ef`` nearest rows that count are found; how many, or DAMAGED, or OVER_BUDGET, and how many are close.

    ``scratch.close`` gets all that may be among them, inverted, with the least distance that their codes leave them, the
    nearest where it has no room for all; ``scratch.found`` the distances of the ``ef``. Rows that do not count are walked
    through. ``budget`` is how many rows may be met.
    """
    near, found, taken, close = scratch.near_ids, scratch.found, scratch.taken, scratch.close
    row_bytes, link_bytes = graph.end, 4 + 4 * graph.max_links0
    start = _descend(graph, scratch)
    if start == DAMAGED:
        return DAMAGED, 0
    bound, n_near, n_found, n_close = INFINITE, 1, 0, 0
    scratch.state[SPENT] = 0
    scratch.visited[start] = tag
    near[0] = packed(-INFINITE, start)
    while n_near > 0:
        n_taken = 0
        while n_near > 0 and n_taken < TOGETHER and key_of(near[0]) < bound:
            node = near[0] & ROW
            taken[n_taken] = node
            prefetch_row(graph.rows, node, 0, row_bytes)
            prefetch_row(graph.links, node, 0, link_bytes)
            pop_packed(near, n_near)
            n_near -= 1
            n_taken += 1
        if n_taken == 0:
            break
        n_fresh = 0
        for place in range(n_taken):
            node = taken[place]
            distance = distance_of(query, graph, node, 0)
            least = distance - code_error(query, graph, node, scratch.factors[QUERY_LENGTH])
            if least >= bound:
                continue
            if counts(graph, allow, node):
                push_packed(close, n_close, ~packed(least, node))  # inverted: the farthest is on top
                n_close += 1
                if n_close == close.shape[0]:
                    pop_packed(close, n_close)
                    n_close -= 1
                n_found = keep(node, distance, n_found, ef, found, scratch.found_ids)
            if distance <= bound:
                n_fresh = _meet(graph, node, tag, n_fresh, scratch)
                if n_fresh == DAMAGED:
                    return DAMAGED, 0
            bound = -found[0] if n_found == ef else INFINITE
        scratch.state[SPENT] += n_fresh
        if scratch.state[SPENT] > budget:
            return OVER_BUDGET, 0
        for place in range(n_fresh):
            node = scratch.fresh[place]
            least = least_distance(scratch, graph, node)
            if least < bound:
                push_packed(near, n_near, packed(least, node))
                n_near += 1
    return n_found, n_close
