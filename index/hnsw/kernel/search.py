"""The search kernel: HNSW's search (Malkov and Yashunin, arXiv:1603.09320) over mapped files, and an exact scan.

The graph is searched as ``searchKnn`` and ``searchBaseLayerST`` of hnswlib 0.8.0 do it, step by step, so that on float32
vectors the answers are hnswlib's. On compact codes (``index/hnsw/codes.py``) the same steps are taken with approximate
distances, and the last few dozen candidates are compared again by their vectors. Every id, count, level and offset
read from a file is checked before it is used: a damaged file gives DAMAGED, never a crash. Nothing here holds the GIL,
and a query allocates nothing.
"""

from __future__ import annotations

import numpy as np

from index.hnsw.kernel.coded_walk import walk_codes
from index.hnsw.kernel.correlation import FLOATS as FLOATS
from index.hnsw.kernel.correlation import SUMS as SUMS
from index.hnsw.kernel.correlation import correlate as correlate
from index.hnsw.kernel.hamming import nearest_hashes as nearest_hashes
from index.hnsw.kernel.handles import (
    AT_ROTATION,
    AT_VECTORS,
    coded_graph,
    plain_graph,
    rotation_of,
    scratch_of,
    vectors_of,
)
from index.hnsw.kernel.hits import best_by_codes, best_by_vectors, compare, keep, label_of, nearest_first, sort_heap
from index.hnsw.kernel.jit import compiled, inner
from index.hnsw.kernel.primitives import encode_query, exact_distance_to, far, length_of, prefetch_row, take_query
from index.hnsw.kernel.signs import rotate_query, split_query
from index.hnsw.kernel.types import DAMAGED, LENGTH, SCALE, TAG
from index.hnsw.kernel.walk import walk

SPARE = 16  # rows more than k that are kept by float32 distances and put in order by float64 ones
AHEAD = 8  # rows that are prefetched before their turn in a scan of codes: a third faster where they lie apart


@inner()
def _next_tag(scratch):  # type: ignore[no-untyped-def]
    tag = scratch.state[TAG] + 1
    if tag > 65535:  # a new tag for each query saves clearing ``visited``, but for once in 65,535
        scratch.visited[:] = 0
        tag = 1
    scratch.state[TAG] = tag
    return np.uint16(tag)


@compiled
def search_vectors(queries, k, ef, index, allow, budget, buffers, labels, distances, sizes):  # type: ignore[no-untyped-def]
    """Walk the graph by its vectors for each query, float32 [n, dim].

    ``index``: the handle of its graph, rotation and vectors; ``buffers``: that of the scratch; ``allow``: uint8, a bit for
    each row, or empty. Fills ``labels`` int64 and ``distances`` float32, both [n, k], nearest first, and ``sizes`` int64
    [n]: how many, or DAMAGED, or OVER_BUDGET.
    """
    graph, vectors, scratch = plain_graph(index, 0), vectors_of(index, AT_VECTORS), scratch_of(buffers, 0)
    for n in range(queries.shape[0]):
        take_query(queries[n], vectors.unit, scratch.query)
        tag = _next_tag(scratch)
        size = walk(scratch.query, graph, vectors.space, ef, allow, budget, tag, scratch)
        if size > 0:
            size = best_by_vectors(scratch.query, graph, vectors, allow, k, k + SPARE, size, scratch)
        if size > 0:
            size = nearest_first(graph, vectors, allow, size, k, scratch, labels[n], distances[n])
        sizes[n] = size


@compiled
def search_codes(queries, k, ef, index, allow, budget, buffers, labels, distances, sizes):  # type: ignore[no-untyped-def]
    """Walk the graph by codes, and compare by their vectors what may be among the best; else as search_vectors."""
    graph, rotation = coded_graph(index, 0), rotation_of(index, AT_ROTATION)
    vectors, scratch = vectors_of(index, AT_VECTORS), scratch_of(buffers, 0)
    for n in range(queries.shape[0]):
        take_query(queries[n], vectors.unit, scratch.query)
        rotate_query(scratch.query, rotation, scratch.rotated, scratch.other)
        query = encode_query(scratch.rotated, scratch.query_codes)
        split_query(scratch.rotated, graph.signs.shape[1], scratch.planes, scratch.factors)
        tag = _next_tag(scratch)
        size, n_close = walk_codes(query, graph, k, ef, allow, budget, tag, scratch)
        if size > 0:
            size = best_by_codes(scratch.query, graph, vectors, allow, k, size, n_close, scratch)
        if size > 0:
            size = nearest_first(graph, vectors, allow, size, k, scratch, labels[n], distances[n])
        sizes[n] = size


@compiled
def scan_rows(queries, k, rows, graph, vectors, allow, scratch, labels, distances, sizes):  # type: ignore[no-untyped-def]
    """Compare each query with the vectors of ``rows``, int64 [m]: exact; else as search_vectors, with no filter."""
    for n in range(queries.shape[0]):
        take_query(queries[n], vectors.unit, scratch.query)
        size = compare(scratch.query, vectors, rows, rows.shape[0], k, scratch)
        if size > 0:
            size = nearest_first(graph, vectors, allow, size, k, scratch, labels[n], distances[n])
        sizes[n] = size


@compiled
def scan_codes(queries, k, off, rows, codes, terms, terms_at, rotation, vectors, scratch, labels, distances, sizes):  # type: ignore[no-untyped-def]
    """Compare each query with ``rows``, int64 [m], by their codes, and with those that may be its nearest by their vectors.

    A distance by codes is taken to be wrong by ``off`` times the row's scale and the query's length, and as much the other
    way, at most. Else as search_vectors, with no filter; ``scratch.near`` has room for m distances.
    """
    least, found, found_ids, exact, ids = (
        scratch.near,
        scratch.found,
        scratch.found_ids,
        scratch.exact,
        scratch.near_ids,
    )
    row_bytes = codes.shape[1]
    for n in range(queries.shape[0]):
        take_query(queries[n], vectors.unit, scratch.query)
        rotate_query(scratch.query, rotation, scratch.rotated, scratch.other)
        query = encode_query(scratch.rotated, scratch.query_codes)
        wrong = off * length_of(scratch.rotated)
        size, limit = 0, np.float32(np.inf)
        for place in range(rows.shape[0]):
            node = rows[place]
            if node < 0 or node >= codes.shape[0]:
                size = DAMAGED
                break
            if place + AHEAD < rows.shape[0]:
                prefetch_row(codes, rows[place + AHEAD], 0, row_bytes)
                prefetch_row(terms, rows[place + AHEAD], 4 * terms_at, 4 * terms_at + 12)
            distance = far(query, codes, 0, terms, terms_at, node, vectors.space)
            margin = wrong * abs(terms[node, terms_at + SCALE]) + off * query.scale * terms[node, terms_at + LENGTH]
            least[place] = distance - margin
            if distance + margin < limit:
                size = keep(node, distance + margin, size, k, found, found_ids)
                limit = -found[0] if size == k else limit
        if size != DAMAGED:
            size = 0
            for place in range(rows.shape[0]):
                if least[place] <= limit:
                    vector = vectors.rows[rows[place]][vectors.at : vectors.at + vectors.dim]
                    distance = exact_distance_to(scratch.query, vector, vectors.space)
                    size = keep(label_of(vectors, rows[place]), distance, size, k, exact, ids)
            sort_heap(exact, ids, size)
            for place in range(size):
                labels[n, place], distances[n, place] = ids[place], -exact[place]
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
