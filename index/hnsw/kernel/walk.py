"""The walk through the graph, as ``searchKnn`` and ``searchBaseLayerST`` of hnswlib 0.8.0 take it, step by step."""

from __future__ import annotations

import numpy as np

from index.hnsw.kernel.jit import inner
from index.hnsw.kernel.members import counts
from index.hnsw.kernel.primitives import distance_of, pop, prefetch_row, push
from index.hnsw.kernel.types import DAMAGED, OVER_BUDGET, SPENT

AHEAD = 8192  # bytes of rows that are prefetched before their turn: measured, more crowd each other out


@inner()
def upper_block(graph, node, level):  # type: ignore[no-untyped-def]
    """Return the word in ``upper`` where a row's links on a level begin, with how many they are; or DAMAGED."""
    block, first = 1 + graph.max_links, np.int64(graph.upper_at[node])
    start = first + (level - 1) * block
    if first < 1 or start + block > graph.upper.shape[0] or np.int64(graph.upper[first - 1]) < 4 * level * block:
        return np.int64(DAMAGED)
    return np.int64(DAMAGED) if np.int64(graph.upper[start] & 0xFFFF) > graph.max_links else start


@inner()
def _descend(query, graph, space):  # type: ignore[no-untyped-def]
    """Walk greedily from the entry point down to level 0; the row to start from there, or DAMAGED."""
    count = graph.links.shape[0]
    row_bytes = graph.end * graph.rows.itemsize
    at_bytes = 0 if graph.deletions else graph.at * graph.rows.itemsize
    ahead = max(1, min(16, AHEAD // row_bytes))
    current = np.int64(graph.entry)
    best = distance_of(query, graph, current, space)
    for level in range(graph.max_level, 0, -1):
        moved = True
        while moved:
            moved = False
            start = upper_block(graph, current, level)
            if start == DAMAGED:
                return DAMAGED
            degree = np.int64(graph.upper[start] & 0xFFFF)
            for slot in range(start + 1, start + 1 + min(degree, ahead)):
                prefetch_row(graph.rows, graph.upper[slot], at_bytes, row_bytes)
            for slot in range(start + 1, start + 1 + degree):
                node = np.int64(graph.upper[slot])
                if node >= count:
                    return DAMAGED
                if slot + ahead < start + 1 + degree:
                    prefetch_row(graph.rows, graph.upper[slot + ahead], at_bytes, row_bytes)
                distance = distance_of(query, graph, node, space)
                if distance < best:
                    best = distance
                    current = node
                    moved = True
    return current


@inner()
def walk(query, graph, space, ef, allow, budget, tag, scratch):  # type: ignore[no-untyped-def]
    """Collect the ``ef`` nearest rows that count in ``scratch.found``; how many, or DAMAGED, or OVER_BUDGET.

    Rows that do not count are walked through. ``budget`` is how many distances may be computed.
    """
    visited, near, near_ids, found, found_ids = (
        scratch.visited,
        scratch.near,
        scratch.near_ids,
        scratch.found,
        scratch.found_ids,
    )
    fresh, state = scratch.fresh, scratch.state
    count = graph.links.shape[0]
    row_bytes = graph.end * graph.rows.itemsize
    at_bytes = 0 if graph.deletions else graph.at * graph.rows.itemsize
    ahead = max(1, min(16, AHEAD // row_bytes))
    start = _descend(query, graph, space)
    if start == DAMAGED:
        return DAMAGED
    bound = np.float32(np.inf)
    n_near, n_found = 1, 0
    state[SPENT] = 0
    visited[start] = tag
    distance = distance_of(query, graph, start, space)
    push(near, near_ids, 0, distance, start)
    if counts(graph, allow, start):
        bound = distance
        push(found, found_ids, 0, -distance, start)
        n_found = 1
    while n_near > 0:
        if near[0] > bound and n_found == ef:
            break
        current = near_ids[0]
        pop(near, near_ids, n_near)
        n_near -= 1
        degree = np.int64(graph.links[current, 0] & 0xFFFF)
        if degree > graph.max_links0:
            return DAMAGED
        n_fresh = 0
        for slot in range(1, 1 + degree):
            node = np.int64(graph.links[current, slot])
            if node >= count:
                return DAMAGED
            if visited[node] != tag:
                visited[node] = tag
                fresh[n_fresh] = node
                if n_fresh < ahead:
                    prefetch_row(graph.rows, node, at_bytes, row_bytes)
                n_fresh += 1
        state[SPENT] += n_fresh
        if state[SPENT] > budget:
            return OVER_BUDGET
        for place in range(n_fresh):
            if place + ahead < n_fresh:
                prefetch_row(graph.rows, fresh[place + ahead], at_bytes, row_bytes)
            node = fresh[place]
            distance = distance_of(query, graph, node, space)
            if n_found < ef or bound > distance:
                push(near, near_ids, n_near, distance, node)
                n_near += 1
                prefetch_row(graph.links, node, 0, 4 + 4 * graph.max_links0)
                if counts(graph, allow, node):
                    push(found, found_ids, n_found, -distance, node)
                    n_found += 1
                    if n_found > ef:
                        pop(found, found_ids, n_found)
                        n_found -= 1
                    bound = -found[0]
    return n_found
