"""The arithmetic of the search kernel: distances, compact codes, heaps and prefetching, compiled by numba.

What is compiled together must be known to numba's cache together: ``index/hnsw/kernel/jit.py`` sees to it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from index.hnsw.kernel.jit import HAS_VNNI, inner
from index.hnsw.kernel.simd import as_bits, as_float, dot_bytes
from index.hnsw.kernel.types import LARGEST, LENGTH, MIDDLE, OFFSET, SCALE, SQUARED_L2, CodedQuery

# Both codes are rounded, by a part of their scale that is uniform: these are 2.5 deviations of a difference of two distances.
CODE_ERROR = np.float32(2.5 * math.sqrt(2 / 12))
# "reassoc" lets LLVM sum in vector lanes; NaN and infinity keep their meaning, since a damaged file may hold them.
_SUM = {"reassoc", "contract"}


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


@inner()
def prefetch_row(rows, node, first, last):  # type: ignore[no-untyped-def]
    """Ask for the bytes [first, last) of a row."""
    start = np.int64(node) * np.int64(rows.strides[0])
    for offset in range(start + first, start + last, 64):
        _prefetch_bytes(rows, offset)


@inner(fastmath=_SUM)
def distance_to(query, vector, space):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    if space == SQUARED_L2:
        for i in range(query.shape[0]):
            gap = query[i] - vector[i]
            total += gap * gap
        return total
    for i in range(query.shape[0]):
        total += query[i] * vector[i]
    return np.float32(1) - total


@inner(fastmath=_SUM)
def exact_distance_to(query, vector, space):  # type: ignore[no-untyped-def]
    """Return the distance in float64, which tells apart what float32 rounds to one number."""
    total = np.float64(0)
    if space == SQUARED_L2:
        for i in range(query.shape[0]):
            gap = np.float64(query[i]) - np.float64(vector[i])
            total += gap * gap
        return total
    for i in range(query.shape[0]):
        total += np.float64(query[i]) * np.float64(vector[i])
    return np.float64(1) - total


@inner()
def _sum_products(query, code):  # type: ignore[no-untyped-def]
    total = np.int32(0)
    for i in range(query.shape[0]):
        total = np.int32(total + np.int32(query[i]) * np.int32(code[i]))
    return total


_code_product = dot_bytes if HAS_VNNI else _sum_products


def far(query: Any, rows: Any, at: Any, terms: Any, terms_at: Any, node: Any, space: Any) -> Any:
    """Return the distance from the query to a row: of float32 vectors, or from codes as OFFSET + SCALE·(q·code)."""


@overload(far)
def _choose_far(query, rows, at, terms, terms_at, node, space):  # type: ignore[no-untyped-def]
    def of_vectors(query, rows, at, terms, terms_at, node, space):  # type: ignore[no-untyped-def]
        return distance_to(query, rows[node][at : at + query.shape[0]], space)

    def of_codes(query, rows, at, terms, terms_at, node, space):  # type: ignore[no-untyped-def]
        product = _code_product(query.codes, rows[node]) - query.middle
        return terms[node, terms_at + OFFSET] + terms[node, terms_at + SCALE] * (query.scale * np.float32(product))

    return of_vectors if isinstance(query, types.Array) else of_codes


@inner()
def distance_of(query, graph, node, space):  # type: ignore[no-untyped-def]
    """Return the distance from the query to a row of the graph."""
    return far(query, graph.rows, graph.at, graph.terms, graph.terms_at, node, space)


@inner()
def code_error(query, graph, node, length):  # type: ignore[no-untyped-def]
    """Return how far off a distance by codes is at most, for a query of a length."""
    terms, at = graph.terms[node], graph.terms_at
    return CODE_ERROR * (query.scale * terms[at + LENGTH] - terms[at + SCALE] * length)


@inner()
def push(keys, ids, size, key, node):  # type: ignore[no-untyped-def]
    """Put (key, node) into a heap with the smallest key on top, and of equal keys the largest node."""
    at = size
    while at > 0:
        parent = (at - 1) >> 1
        if keys[parent] < key or (keys[parent] == key and ids[parent] >= node):
            break
        keys[at] = keys[parent]
        ids[at] = ids[parent]
        at = parent
    keys[at] = key
    ids[at] = node


@inner()
def pop(keys, ids, size):  # type: ignore[no-untyped-def]
    """Take the smallest key off a heap of ``size`` entries."""
    last = size - 1
    key = keys[last]
    node = ids[last]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= last:
            break
        if child + 1 < last and (
            keys[child + 1] < keys[child] or (keys[child + 1] == keys[child] and ids[child + 1] > ids[child])
        ):
            child += 1
        if keys[child] > key or (keys[child] == key and ids[child] <= node):
            break
        keys[at] = keys[child]
        ids[at] = ids[child]
        at = child
    keys[at] = key
    ids[at] = node


@inner()
def packed(key, node):  # type: ignore[no-untyped-def]
    """Return a float32 key and a row as one int64, which are in the order of the keys, and of equal ones of the rows."""
    bits = as_bits(np.float32(key))
    return np.int64(bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))) << 32 | np.int64(node)


@inner()
def key_of(value):  # type: ignore[no-untyped-def]
    """Return the key of a packed value."""
    bits = np.int32(value >> 32)
    return as_float(np.int32(bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))))


@inner()
def push_packed(heap, size, value):  # type: ignore[no-untyped-def]
    """Put a packed value into a heap of ``size`` with the smallest on top."""
    at = np.uint64(size)
    while at > 0:
        parent = (at - np.uint64(1)) >> np.uint64(1)
        if heap[parent] <= value:
            break
        heap[at] = heap[parent]
        at = parent
    heap[at] = value


@inner()
def pop_packed(heap, size):  # type: ignore[no-untyped-def]
    """Take the smallest value off a heap of ``size``.

    The place that it leaves is led down to a leaf, with no branch to mispredict, and the last value put there and up again.
    """
    last = np.uint64(size - 1)
    value, at, child = heap[last], np.uint64(0), np.uint64(1)
    while child < last:  # the last one stands behind, so there is always a second child
        child += np.uint64(heap[child + np.uint64(1)] < heap[child])
        heap[at] = heap[child]
        at, child = child, child + child + np.uint64(1)
    while at > 0:
        parent = (at - np.uint64(1)) >> np.uint64(1)
        if heap[parent] < value:  # and past itself, where the leaf was its own
            break
        heap[at] = heap[parent]
        at = parent
    heap[at] = value


@inner()
def keep_packed(heap, size, most, value):  # type: ignore[no-untyped-def]
    """Take a packed value into a heap of the ``most`` smallest, which are in it inverted; how many are in it.

    The heap has room for one more.
    """
    if size < most:
        push_packed(heap, size, ~value)
        return size + 1
    if ~value > heap[0]:
        heap[size] = ~value
        pop_packed(heap, size + 1)
    return size


@inner()
def nearer_half(kept, size):  # type: ignore[no-untyped-def]
    """Drop all but the smaller half of inverted packed values, which are in no order, before and after; how many are left."""
    for place in range(size):
        push_packed(kept, place, kept[place])
    left = size // 2
    while size > left:
        pop_packed(kept, size)
        size -= 1
    return left


@inner()
def farthest(heap, size, most):  # type: ignore[no-untyped-def]
    """Return the largest key of a heap of ``keep_packed``, or infinity where it is not full."""
    return key_of(~heap[0]) if size == most else np.float32(np.inf)


@inner(fastmath=_SUM)
def length_of(vector):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for i in range(vector.shape[0]):
        total += vector[i] * vector[i]
    return np.sqrt(total)


@inner(fastmath=_SUM)
def take_query(row, unit, query):  # type: ignore[no-untyped-def]
    """Copy a query, scaled to unit length where the metric is cosine."""
    factor = np.float32(1)
    if unit:
        factor = np.float32(1) / max(length_of(row), np.float32(1e-30))
    for i in range(row.shape[0]):
        query[i] = row[i] * factor


@inner()
def peak_of(row):  # type: ignore[no-untyped-def]
    """Return the largest magnitude in float32 [n]; NaN or infinity where one is there."""
    words = row.view(np.int32)
    largest = np.int32(0)  # without their signs floats are in the order of their bits
    for i in range(words.shape[0]):
        largest = max(largest, words[i] & np.int32(0x7FFFFFFF))
    return as_float(largest)


@inner()
def encode_query(query, codes):  # type: ignore[no-untyped-def]
    """Round a query, float32 [n], to int8; as what ``far`` takes."""
    peak, total = peak_of(query), np.int32(0)
    factor = LARGEST / peak if peak > 0 and np.isfinite(peak) else np.float32(0)
    for i in range(query.shape[0]):
        codes[i] = np.int8(np.rint(query[i] * factor))
        total += np.int32(codes[i])
    return CodedQuery(codes, peak / LARGEST if factor > 0 else np.float32(0), np.int32(MIDDLE * total))
