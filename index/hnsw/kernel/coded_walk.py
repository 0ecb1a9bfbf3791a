"""The walk through the graph by signs and codes: no code is read before the signs say that it may be worth it.

It is HNSW's best-first search, but a row that is met is only given the least distance that it may have by its signs. It is
compared by its code when it is its turn to be expanded, and several are taken together, so that the processor waits for
the memory of all of them at once.
"""

from __future__ import annotations

import numpy as np

from index.hnsw.kernel.jit import inner
from index.hnsw.kernel.members import counts
from index.hnsw.kernel.primitives import (
    code_error,
    distance_of,
    farthest,
    keep_packed,
    key_of,
    nearer_half,
    packed,
    pop_packed,
    prefetch_row,
    push_packed,
)
from index.hnsw.kernel.signs import QUERY_LENGTH, estimate, least_distance
from index.hnsw.kernel.types import AT_ONCE, DAMAGED, OVER_BUDGET, ROW, SPENT, TOGETHER
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
    first, degree, row_bytes = n_fresh, np.int64(graph.links[node, 0] & 0xFFFF), graph.signs.shape[1] * 8
    if degree > graph.max_links0:
        return DAMAGED
    for slot in range(1, 1 + degree):
        other = np.int64(graph.links[node, slot])
        if other >= graph.links.shape[0]:
            return DAMAGED
        fresh[n_fresh] = other
        n_fresh += np.int64(visited[other] != tag)  # no branch: it would be mispredicted as often as not
        visited[other] = tag
    for place in range(first, n_fresh):
        prefetch_row(graph.signs, fresh[place], 0, row_bytes)
    return n_fresh


@inner()
def _take(graph, limit, bound, n_near, scratch):  # type: ignore[no-untyped-def]
    """Move the next rows from the queue to ``taken``, and ask for what they are compared by; how many.

    They are TOGETHER where they may be expanded, by ``limit``, and AT_ONCE where they may only be hits, by ``bound``.
    """
    near, n_taken = scratch.near_ids, 0
    while n_near > 0:
        key = key_of(near[0])
        if key >= bound or n_taken == (TOGETHER if key < limit else AT_ONCE):
            break
        node = near[0] & ROW
        scratch.taken[n_taken] = node
        prefetch_row(graph.rows, node, 0, graph.end)
        if key < limit:
            prefetch_row(graph.links, node, 0, 4 + 4 * graph.max_links0)
        pop_packed(near, n_near)
        n_near -= 1
        n_taken += 1
    return n_taken


@inner()
def walk_codes(query, graph, k, ef, allow, budget, tag, scratch):  # type: ignore[no-untyped-def]
    """Walk until the ``ef`` nearest rows that count are expanded, and the ``k`` nearest of those that were met are found.

    Returns how many are in ``scratch.best``, the larger of both at most, or DAMAGED, or OVER_BUDGET; and how many in
    ``scratch.close``: all that may be among them, inverted, with the least distance that their codes leave them, the
    nearest where it has no room for all. Rows that do not count are walked through. ``budget`` is how many rows may be met.
    """
    near, best, narrow, taken, close = scratch.near_ids, scratch.best, scratch.narrow, scratch.taken, scratch.close
    start, most = _descend(graph, scratch), max(k, ef)
    if start == DAMAGED:
        return DAMAGED, 0
    # A row is expanded where it is within the limit, and may be a hit within the bound; they differ where ef is less than k.
    limit, bound, n_near, n_best, n_narrow, n_close = INFINITE, INFINITE, 1, 0, 0, 0
    scratch.state[SPENT] = 0
    scratch.visited[start] = tag
    near[0] = packed(-INFINITE, start)
    while n_near > 0:
        n_taken = _take(graph, limit, bound, n_near, scratch)
        if n_taken == 0:
            break
        n_near -= n_taken
        n_fresh = 0
        for place in range(n_taken):
            node = taken[place]
            distance = distance_of(query, graph, node, 0)
            least = distance - code_error(query, graph, node, scratch.factors[QUERY_LENGTH])
            if least >= bound:
                continue
            if counts(graph, allow, node):
                close[n_close] = ~packed(least, node)
                n_close += 1
                if n_close == close.shape[0]:
                    n_close = nearer_half(close, n_close)
                n_best = keep_packed(best, n_best, most, packed(distance, node))
                bound = farthest(best, n_best, most)
                if ef < k:
                    n_narrow = keep_packed(narrow, n_narrow, ef, packed(distance, node))
                    limit = farthest(narrow, n_narrow, ef)
                else:
                    limit = bound
            if distance <= limit:
                n_fresh = _meet(graph, node, tag, n_fresh, scratch)
                if n_fresh == DAMAGED:
                    return DAMAGED, 0
        scratch.state[SPENT] += n_fresh
        if scratch.state[SPENT] > budget:
            return OVER_BUDGET, 0
        for place in range(n_fresh):
            node = scratch.fresh[place]
            least = least_distance(scratch, graph, node)
            if least < bound:
                push_packed(near, n_near, packed(least, node))
                n_near += 1
    return n_best, n_close
