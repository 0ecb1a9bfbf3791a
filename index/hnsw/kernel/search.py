"""The search kernel: HNSW's search (Malkov and Yashunin, arXiv:1603.09320) over mapped files, and an exact scan.

The graph is searched as ``searchKnn`` and ``searchBaseLayerST`` of hnswlib 0.8.0 do it, step by step, so that on float32
vectors the answers are hnswlib's. On compact codes (``index/hnsw/codes.py``) the same steps are taken with approximate
distances, and the last few dozen candidates are compared again by their vectors. Every id, count, level and offset
read from a file is checked before it is used: a damaged file gives DAMAGED, never a crash. Nothing here holds the GIL,
and a query allocates nothing.
"""

from __future__ import annotations

import numpy as np

from index.hnsw.kernel.jit import compiled, inner
from index.hnsw.kernel.primitives import distance_to, encode_query, far, pop, prefetch_row, push, take_query
from index.hnsw.kernel.types import DAMAGED, OVER_BUDGET, SPENT, TAG

AHEAD = 8192  # bytes of rows that are prefetched before their turn: measured, more crowd each other out


@inner()
def _descend(query, scale, graph, space):  # type: ignore[no-untyped-def]
    """Walk greedily from the entry point down to level 0; the row to start from there, or DAMAGED."""
    count = graph.links.shape[0]
    block = 1 + graph.max_links
    row_bytes = (graph.at + query.shape[0]) * graph.rows.itemsize
    at_bytes = 0 if graph.deletions else graph.at * graph.rows.itemsize
    ahead = max(1, min(16, AHEAD // row_bytes))
    current = np.int64(graph.entry)
    best = far(query, scale, graph.rows, graph.at, graph.terms, current, space)
    for level in range(graph.max_level, 0, -1):
        moved = True
        while moved:
            moved = False
            start = np.int64(graph.upper_at[current]) + (level - 1) * block
            if start < 1 + (level - 1) * block or start + block > graph.upper.shape[0]:
                return DAMAGED
            if np.int64(graph.upper[np.int64(graph.upper_at[current]) - 1]) < 4 * level * block:
                return DAMAGED
            degree = np.int64(graph.upper[start] & 0xFFFF)
            if degree > graph.max_links:
                return DAMAGED
            for slot in range(start + 1, start + 1 + min(degree, ahead)):
                prefetch_row(graph.rows, graph.upper[slot], at_bytes, row_bytes)
            for slot in range(start + 1, start + 1 + degree):
                node = np.int64(graph.upper[slot])
                if node >= count:
                    return DAMAGED
                if slot + ahead < start + 1 + degree:
                    prefetch_row(graph.rows, graph.upper[slot + ahead], at_bytes, row_bytes)
                distance = far(query, scale, graph.rows, graph.at, graph.terms, node, space)
                if distance < best:
                    best = distance
                    current = node
                    moved = True
    return current


@inner()
def _counts(graph, allow, node):  # type: ignore[no-untyped-def]
    """Return whether a row may be a hit: it is not deleted (hnswlib's flag), and its bit is set where there is a filter."""
    if graph.deletions and (graph.links[node, 0] >> 16) & 1:
        return False
    return allow.shape[0] == 0 or (allow[node >> 3] >> (node & 7)) & 1 == 1


@inner()
def _walk(query, scale, graph, space, ef, allow, budget, tag, scratch):  # type: ignore[no-untyped-def]
    """Collect the ``ef`` nearest rows that count in ``scratch.found``; how many, or DAMAGED, or OVER_BUDGET.

    Rows that do not count are walked through. ``budget`` is how many distances may be computed.
    """
    visited, near, near_ids, found, found_ids, fresh, _, _, state = scratch
    count = graph.links.shape[0]
    row_bytes = (graph.at + query.shape[0]) * graph.rows.itemsize
    at_bytes = 0 if graph.deletions else graph.at * graph.rows.itemsize
    ahead = max(1, min(16, AHEAD // row_bytes))
    start = _descend(query, scale, graph, space)
    if start == DAMAGED:
        return DAMAGED
    bound = np.float32(np.inf)
    n_near, n_found = 1, 0
    state[SPENT] = 0
    visited[start] = tag
    distance = far(query, scale, graph.rows, graph.at, graph.terms, start, space)
    push(near, near_ids, 0, distance, start)
    if _counts(graph, allow, start):
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
            distance = far(query, scale, graph.rows, graph.at, graph.terms, node, space)
            if n_found < ef or bound > distance:
                push(near, near_ids, n_near, distance, node)
                n_near += 1
                prefetch_row(graph.links, node, 0, 4 + 4 * graph.max_links0)
                if _counts(graph, allow, node):
                    push(found, found_ids, n_found, -distance, node)
                    n_found += 1
                    if n_found > ef:
                        pop(found, found_ids, n_found)
                        n_found -= 1
                    bound = -found[0]
    return n_found


@inner()
def _compare(query, vectors, rows, size, k, scratch):  # type: ignore[no-untyped-def]
    """Collect the ``k`` nearest of ``rows[:size]`` in ``scratch.found`` by their vectors; how many, or DAMAGED."""
    found, found_ids = scratch.found, scratch.found_ids
    first, last = 4 * vectors.at, 4 * (vectors.at + vectors.dim)
    n_found = 0
    for place in range(size):
        node = np.int64(rows[place])
        if node < 0 or node >= vectors.rows.shape[0]:
            return DAMAGED
        if place + 1 < size:
            prefetch_row(vectors.rows, rows[place + 1], first, last)
        if (vectors.words[node, 0] >> 16) & 1:
            continue
        distance = distance_to(query, vectors.rows[node][vectors.at : vectors.at + vectors.dim], vectors.space)
        if n_found < k or -found[0] > distance:
            push(found, found_ids, n_found, -distance, node)
            n_found += 1
            if n_found > k:
                pop(found, found_ids, n_found)
                n_found -= 1
    return n_found


@inner()
def _nearest_first(vectors, size, k, scratch, labels, distances):  # type: ignore[no-untyped-def]
    """Empty ``scratch.found`` into the labels and distances of its best ``k``; how many."""
    found, found_ids = scratch.found, scratch.found_ids
    while size > k:
        pop(found, found_ids, size)
        size -= 1
    for place in range(size - 1, -1, -1):
        words = vectors.words[found_ids[0]]
        distances[place] = -found[0]
        labels[place] = np.int64(words[vectors.label_at]) | (np.int64(words[vectors.label_at + 1]) << 32)
        pop(found, found_ids, place + 1)
    return size


@inner()
def _next_tag(scratch):  # type: ignore[no-untyped-def]
    tag = scratch.state[TAG] + 1
    if tag > 65535:  # a new tag for each query saves clearing ``visited``, but for once in 65,535
        scratch.visited[:] = 0
        tag = 1
    scratch.state[TAG] = tag
    return np.uint16(tag)


@compiled
def search_vectors(queries, k, ef, graph, vectors, allow, budget, scratch, labels, distances, sizes):  # type: ignore[no-untyped-def]
    """Walk the graph by its vectors for each query, float32 [n, dim].

    Fills ``labels`` int64 and ``distances`` float32, both [n, k], nearest first, and ``sizes`` int64 [n]: how many, or
    DAMAGED, or OVER_BUDGET. ``allow``: uint8, a bit for each row, or empty.
    """
    for n in range(queries.shape[0]):
        take_query(queries[n], vectors.unit, scratch.query)
        tag = _next_tag(scratch)
        size = _walk(scratch.query, np.float32(1), graph, vectors.space, ef, allow, budget, tag, scratch)
        if size > 0:
            size = _nearest_first(vectors, size, k, scratch, labels[n], distances[n])
        sizes[n] = size


@compiled
def search_codes(queries, k, ef, rerank, graph, vectors, allow, budget, scratch, labels, distances, sizes):  # type: ignore[no-untyped-def]
    """Walk the graph by codes, and compare the best ``rerank`` rows again by their vectors; else as search_vectors."""
    for n in range(queries.shape[0]):
        take_query(queries[n], vectors.unit, scratch.query)
        scale = encode_query(scratch.query, scratch.query_codes)
        tag = _next_tag(scratch)
        size = _walk(scratch.query_codes, scale, graph, vectors.space, ef, allow, budget, tag, scratch)
        if size > 0:
            while size > rerank:
                pop(scratch.found, scratch.found_ids, size)
                size -= 1
            for place in range(size):
                scratch.fresh[place] = scratch.found_ids[place]
            size = _compare(scratch.query, vectors, scratch.fresh, size, k, scratch)
        if size > 0:
            size = _nearest_first(vectors, size, k, scratch, labels[n], distances[n])
        sizes[n] = size


@compiled
def scan_rows(queries, k, rows, vectors, scratch, labels, distances, sizes):  # type: ignore[no-untyped-def]
    """Compare each query with the vectors of ``rows``, int64 [m]: exact; else as search_vectors."""
    for n in range(queries.shape[0]):
        take_query(queries[n], vectors.unit, scratch.query)
        size = _compare(scratch.query, vectors, rows, rows.shape[0], k, scratch)
        if size > 0:
            size = _nearest_first(vectors, size, k, scratch, labels[n], distances[n])
        sizes[n] = size


@compiled
def walk_upper(words, block_words, upper_at):  # type: ignore[no-untyped-def]
    """Find where each element's upper links begin; the row at which the file stops making sense, or -1."""
    at = np.int64(0)
    for row in range(upper_at.shape[0]):
        if at >= words.shape[0]:
            return row
        size = np.int64(words[at])
        at += 1
        if size % (4 * block_words) != 0 or at + size // 4 > words.shape[0]:
            return row
        upper_at[row] = at if size else 0
        at += size // 4
    return -1 if at == words.shape[0] else upper_at.shape[0]
