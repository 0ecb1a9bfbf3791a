"""The arithmetic of the search kernel: distances, compact codes, heaps and prefetching, compiled by numba.

What is compiled together must be known to numba's cache together: ``index/hnsw/kernel/jit.py`` sees to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from index.hnsw.kernel.jit import inner
from index.hnsw.kernel.types import SQUARED_L2

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
def _code_product(query, code):  # type: ignore[no-untyped-def]
    total = np.int32(0)  # the query's codes are small enough that no sum leaves 32 bits
    for i in range(query.shape[0]):
        total = np.int32(total + np.int32(query[i]) * np.int32(code[i]))
    return total


def far(query: Any, scale: Any, rows: Any, at: Any, terms: Any, node: Any, space: Any) -> Any:
    """Return the distance from the query to a row: of float32 vectors, or from codes as terms[0] + terms[1]·(q·code)."""


@overload(far)
def _choose_far(query, scale, rows, at, terms, node, space):  # type: ignore[no-untyped-def]
    def of_vectors(query, scale, rows, at, terms, node, space):  # type: ignore[no-untyped-def]
        return distance_to(query, rows[node][at : at + query.shape[0]], space)

    def of_codes(query, scale, rows, at, terms, node, space):  # type: ignore[no-untyped-def]
        product = _code_product(query, rows[node][at : at + query.shape[0]])
        return terms[node, 0] + terms[node, 1] * (scale * np.float32(product))

    return of_codes if isinstance(query.dtype, types.Integer) else of_vectors


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
def encode_query(query, codes):  # type: ignore[no-untyped-def]
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
