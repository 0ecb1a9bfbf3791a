"""The search kernel: HNSW's search (Malkov and Yashunin, arXiv:1603.09320) over mapped files, and an exact scan.

The graph is searched as ``searchKnn`` and ``searchBaseLayerST`` of hnswlib 0.8.0 do it, step by step, so that on float32
vectors the answers are hnswlib's. On compact codes (``index/codes.py``) the same steps are taken with approximate
distances, and the last few dozen candidates are compared again with their vectors. Every id, count, level and offset
read from a file is checked before it is used: a damaged file gives DAMAGED, never a crash. Nothing here holds the GIL,
and a query allocates nothing.

numba's cache knows a function by the text of its own file, so everything compiled together is in this one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

DAMAGED = -1
OVER_BUDGET = -2
INNER_PRODUCT = 0  # distance 1 - q·v; cosine is this on unit vectors, as in hnswlib
SQUARED_L2 = 1
AHEAD = 8192  # bytes of rows that are prefetched before their turn: measured, more crowd each other out

# "reassoc" lets LLVM sum in vector lanes; NaN and infinity keep their meaning, since a damaged file may hold them.
_SUM = {"reassoc", "contract"}


class Graph(NamedTuple):
    """What is walked. ``rows`` are what the query is compared with on the way: vectors, or codes with ``terms``.

    ``links``: uint32 [count, >= 1 + max_links0], hnswlib's level-0 word and ids; ``upper``: uint32, the words above level
    0; ``upper_at``: uint32 [count], the word in ``upper`` where a row's links begin, or 0; ``rows``: float32 or int8
    [count, >= at + dim]; ``terms``: float32 [count, 2], see ``_far``.
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
    ``near`` is a heap of the rows still to expand, ``found`` one of the best rows, by negated distance."""

    visited: NDArray[np.uint16]
    near: NDArray[np.float32]
    near_ids: NDArray[np.int64]
    found: NDArray[np.float32]
    found_ids: NDArray[np.int64]
    fresh: NDArray[np.int64]
    query: NDArray[np.float32]
    query_codes: NDArray[np.int16]
    tag: NDArray[np.int64]


@intrinsic
def _prefetch_bytes(_, array, offset):  # type: ignore[no-untyped-def]
    """Ask for the cache line at ``offset`` bytes into ``array``; a wrong offset is harmless."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte = ir.IntType(8).as_pointer()
        number = ir.IntType(32)
        where = builder.gep(builder.bitcast(data, byte), [arguments[1]])
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(prefetch, [where, number(0), number(3), number(1)])  # to read, into every cache, data
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


@njit(nogil=True)
def _prefetch_row(rows, node, first, last):  # type: ignore[no-untyped-def]
    """Ask for the bytes [first, last) of a row."""
    start = np.int64(node) * np.int64(rows.strides[0])
    for offset in range(start + first, start + last, 64):
        _prefetch_bytes(rows, offset)


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
def _code_product(query, code):  # type: ignore[no-untyped-def]
    total = np.int32(0)  # the query's codes are small enough that no sum leaves 32 bits
    for i in range(query.shape[0]):
        total = np.int32(total + np.int32(query[i]) * np.int32(code[i]))
    return total


def _far(query: Any, scale: Any, rows: Any, at: Any, terms: Any, node: Any, space: Any) -> Any:
    """The distance from the query to a row: of float32 vectors, or from codes as terms[0] + terms[1]·(q·code)."""


@overload(_far)
def _choose_far(query, scale, rows, at, terms, node, space):  # type: ignore[no-untyped-def]
    def of_vectors(query, scale, rows, at, terms, node, space):  # type: ignore[no-untyped-def]
        return _distance(query, rows[node][at : at + query.shape[0]], space)

    def of_codes(query, scale, rows, at, terms, node, space):  # type: ignore[no-untyped-def]
        product = _code_product(query, rows[node][at : at + query.shape[0]])
        return terms[node, 0] + terms[node, 1] * (scale * np.float32(product))

    return of_codes if isinstance(query.dtype, types.Integer) else of_vectors


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
def _descend(query, scale, graph, space):  # type: ignore[no-untyped-def]
    """Walk greedily from the entry point down to level 0; the row to start from there, or DAMAGED."""
    count = graph.links.shape[0]
    block = 1 + graph.max_links
    row_bytes = (graph.at + query.shape[0]) * graph.rows.itemsize
    at_bytes = 0 if graph.deletions else graph.at * graph.rows.itemsize
    ahead = max(1, min(16, AHEAD // row_bytes))
    current = np.int64(graph.entry)
    best = _far(query, scale, graph.rows, graph.at, graph.terms, current, space)
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
                _prefetch_row(graph.rows, graph.upper[slot], at_bytes, row_bytes)
            for slot in range(start + 1, start + 1 + degree):
                node = np.int64(graph.upper[slot])
                if node >= count:
                    return DAMAGED
                if slot + ahead < start + 1 + degree:
                    _prefetch_row(graph.rows, graph.upper[slot + ahead], at_bytes, row_bytes)
                distance = _far(query, scale, graph.rows, graph.at, graph.terms, node, space)
                if distance < best:
                    best = distance
                    current = node
                    moved = True
    return current


@njit(nogil=True)
def _counts(graph, allow, node):  # type: ignore[no-untyped-def]
    """Whether a row may be an answer: it is not deleted (hnswlib's flag), and its bit is set where there is a filter."""
    if graph.deletions and (graph.links[node, 0] >> 16) & 1:
        return False
    return allow.shape[0] == 0 or (allow[node >> 3] >> (node & 7)) & 1 == 1


@njit(nogil=True)
def _walk(query, scale, graph, space, ef, allow, budget, tag, scratch):  # type: ignore[no-untyped-def]
    """Collect the ``ef`` nearest rows that count in ``scratch.found``; how many, or DAMAGED, or OVER_BUDGET.

    Rows that do not count are walked through. ``budget`` is how many distances may be computed.
    """
    visited, near, near_ids, found, found_ids, fresh, _, _, _ = scratch
    count = graph.links.shape[0]
    row_bytes = (graph.at + query.shape[0]) * graph.rows.itemsize
    at_bytes = 0 if graph.deletions else graph.at * graph.rows.itemsize
    ahead = max(1, min(16, AHEAD // row_bytes))
    start = _descend(query, scale, graph, space)
    if start == DAMAGED:
        return DAMAGED
    bound = np.float32(np.inf)
    n_near, n_found = 1, 0
    visited[start] = tag
    distance = _far(query, scale, graph.rows, graph.at, graph.terms, start, space)
    _push(near, near_ids, 0, distance, start)
    if _counts(graph, allow, start):
        bound = distance
        _push(found, found_ids, 0, -distance, start)
        n_found = 1
    while n_near > 0:
        if near[0] > bound and n_found == ef:
            break
        current = near_ids[0]
        _pop(near, near_ids, n_near)
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
                    _prefetch_row(graph.rows, node, at_bytes, row_bytes)
                n_fresh += 1
        budget -= n_fresh
        if budget < 0:
            return OVER_BUDGET
        for place in range(n_fresh):
            if place + ahead < n_fresh:
                _prefetch_row(graph.rows, fresh[place + ahead], at_bytes, row_bytes)
            node = fresh[place]
            distance = _far(query, scale, graph.rows, graph.at, graph.terms, node, space)
            if n_found < ef or bound > distance:
                _push(near, near_ids, n_near, distance, node)
                n_near += 1
                _prefetch_row(graph.links, node, 0, 4 + 4 * graph.max_links0)
                if _counts(graph, allow, node):
                    _push(found, found_ids, n_found, -distance, node)
                    n_found += 1
                    if n_found > ef:
                        _pop(found, found_ids, n_found)
                        n_found -= 1
                    bound = -found[0]
    return n_found


@njit(nogil=True)
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
            _prefetch_row(vectors.rows, rows[place + 1], first, last)
        if (vectors.words[node, 0] >> 16) & 1:
            continue
        distance = _distance(query, vectors.rows[node][vectors.at : vectors.at + vectors.dim], vectors.space)
        if n_found < k or -found[0] > distance:
            _push(found, found_ids, n_found, -distance, node)
            n_found += 1
            if n_found > k:
                _pop(found, found_ids, n_found)
                n_found -= 1
    return n_found


@njit(nogil=True)
def _nearest_first(vectors, size, k, scratch, labels, distances):  # type: ignore[no-untyped-def]
    """Empty ``scratch.found`` into the labels and distances of its best ``k``; how many."""
    found, found_ids = scratch.found, scratch.found_ids
    while size > k:
        _pop(found, found_ids, size)
        size -= 1
    for place in range(size - 1, -1, -1):
        words = vectors.words[found_ids[0]]
        distances[place] = -found[0]
        labels[place] = np.int64(words[vectors.label_at]) | (np.int64(words[vectors.label_at + 1]) << 32)
        _pop(found, found_ids, place + 1)
    return size


@njit(nogil=True, fastmath=_SUM)
def _take_query(row, unit, query):  # type: ignore[no-untyped-def]
    """Copy a query, scaled to unit length where the metric is cosine."""
    factor = np.float32(1)
    if unit:
        total = np.float32(0)
        for i in range(row.shape[0]):
            total += row[i] * row[i]
        factor = np.float32(1) / max(np.sqrt(total), np.float32(1e-30))
    for i in range(row.shape[0]):
        query[i] = row[i] * factor


@njit(nogil=True)
def _encode_query(query, codes):  # type: ignore[no-untyped-def]
    """Round a query to whole numbers, as large as leave the sum of products with codes in 32 bits; their scale."""
    largest = min(32767, (2**31 - 1) // (127 * query.shape[0]))
    peak = np.float32(0)
    for i in range(query.shape[0]):
        peak = max(peak, abs(query[i]))
    if not (peak > 0 and np.isfinite(peak)):
        codes[:] = 0
        return np.float32(0)
    factor = np.float32(largest) / peak
    for i in range(query.shape[0]):
        codes[i] = np.int16(np.rint(query[i] * factor))
    return peak / np.float32(largest)


@njit(nogil=True)
def _next_tag(scratch):  # type: ignore[no-untyped-def]
    tag = scratch.tag[0] + 1
    if tag > 65535:  # a new tag for each query saves clearing ``visited``, but for once in 65,535
        scratch.visited[:] = 0
        tag = 1
    scratch.tag[0] = tag
    return np.uint16(tag)


@njit(nogil=True, cache=True)
def search_vectors(queries, k, ef, graph, vectors, allow, budget, scratch, labels, distances, sizes):  # type: ignore[no-untyped-def]
    """Walk the graph by its vectors for each query, float32 [n, dim].

    Fills ``labels`` int64 and ``distances`` float32, both [n, k], nearest first, and ``sizes`` int64 [n]: how many, or
    DAMAGED, or OVER_BUDGET. ``allow``: uint8, a bit for each row, or empty.
    """
    for n in range(queries.shape[0]):
        _take_query(queries[n], vectors.unit, scratch.query)
        tag = _next_tag(scratch)
        size = _walk(scratch.query, np.float32(1), graph, vectors.space, ef, allow, budget, tag, scratch)
        if size > 0:
            size = _nearest_first(vectors, size, k, scratch, labels[n], distances[n])
        sizes[n] = size


@njit(nogil=True, cache=True)
def search_codes(queries, k, ef, rerank, graph, vectors, allow, budget, scratch, labels, distances, sizes):  # type: ignore[no-untyped-def]
    """Walk the graph by codes, and compare the best ``rerank`` rows again by their vectors; else as search_vectors."""
    for n in range(queries.shape[0]):
        _take_query(queries[n], vectors.unit, scratch.query)
        scale = _encode_query(scratch.query, scratch.query_codes)
        tag = _next_tag(scratch)
        size = _walk(scratch.query_codes, scale, graph, vectors.space, ef, allow, budget, tag, scratch)
        if size > 0:
            while size > rerank:
                _pop(scratch.found, scratch.found_ids, size)
                size -= 1
            for place in range(size):
                scratch.fresh[place] = scratch.found_ids[place]
            size = _compare(scratch.query, vectors, scratch.fresh, size, k, scratch)
        if size > 0:
            size = _nearest_first(vectors, size, k, scratch, labels[n], distances[n])
        sizes[n] = size


@njit(nogil=True, cache=True)
def scan_rows(queries, k, rows, vectors, scratch, labels, distances, sizes):  # type: ignore[no-untyped-def]
    """Compare each query with the vectors of ``rows``, int64 [m]: exact; else as search_vectors."""
    for n in range(queries.shape[0]):
        _take_query(queries[n], vectors.unit, scratch.query)
        size = _compare(scratch.query, vectors, rows, rows.shape[0], k, scratch)
        if size > 0:
            size = _nearest_first(vectors, size, k, scratch, labels[n], distances[n])
        sizes[n] = size
