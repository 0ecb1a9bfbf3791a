"""Estimates by one bit a coordinate: the rotation of a query, its bit planes, and the least that a row's distance may be.

RaBitQ (Gao and Long, SIGMOD 2024): with r the row and p the query, both rotated about the centre, and s the signs of r,
‖r‖²·⟨s, p⟩ / ‖r‖₁ estimates ⟨r, p⟩ without bias; how far off it is depends on how well s points where r does. Of the
query's coordinates PLANES bits are kept, so that ⟨s, p⟩ is a count of common bits.
"""

from __future__ import annotations

import numpy as np

from index.hnsw.kernel.jit import inner
from index.hnsw.kernel.primitives import length_of, peak_of
from index.hnsw.kernel.simd import common_bits, mix
from index.hnsw.kernel.types import LANES, OFFSET, PLANES, POSITIVE, SIGN_ERROR, SIGN_SCALE

STEPS = np.float32((1 << PLANES) - 1)
# Places in Scratch.factors: what a common bit is worth, what each bit of a row, the sum of the query's coordinates, and its
# length.
COMMON, EACH, SUM, QUERY_LENGTH = range(4)


@inner()
def rotate_query(query, rotation, rotated, other):  # type: ignore[no-untyped-def]
    """Rotate a query, float32 [dim], about the centre into ``rotated``, float32 [padded], as ``rotate`` does rows."""
    size, dim = rotated.shape[0], query.shape[0]
    for i in range(dim):
        rotated[i] = query[i] - rotation.centre[i]
    for i in range(dim, size):
        rotated[i] = np.float32(0)
    lanes = size // LANES
    span = lanes & -lanes
    for turn in range(rotation.signs.shape[0]):
        signs = rotation.signs[turn]
        if turn == 0:
            for i in range(size):
                other[i] = rotated[i] * signs[i]
        else:
            order = rotation.order[turn - 1]
            for i in range(size):
                other[i] = rotated[order[i]] * signs[i]
        half = 1
        while half < span:
            for first in range(0, lanes, 2 * half):
                for lane in range(first, first + half):
                    mix(other, lane * LANES, (lane + half) * LANES)
            half *= 2
        for i in range(size):
            rotated[i] = other[i]


@inner()
def split_query(rotated, words, planes, factors):  # type: ignore[no-untyped-def]
    """Round a rotated query to PLANES bits a coordinate, and put bit j of all into plane j of ``words`` words."""
    peak = peak_of(rotated)
    step = np.float32(2) * peak / STEPS
    factor = np.float32(1) / step if step > 0 and np.isfinite(step) else np.float32(0)
    total = np.int64(0)
    for word in range(rotated.shape[0] // 64):
        first, second, third, fourth = np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0)
        for i in range(64):
            rounded = np.int64((rotated[word * 64 + i] + peak) * factor + np.float32(0.5))
            total += rounded
            bits = np.uint64(rounded)
            place = np.uint64(i)
            first |= (bits & np.uint64(1)) << place
            second |= ((bits >> np.uint64(1)) & np.uint64(1)) << place
            third |= ((bits >> np.uint64(2)) & np.uint64(1)) << place
            fourth |= ((bits >> np.uint64(3)) & np.uint64(1)) << place
        planes[word], planes[words + word] = first, second
        planes[2 * words + word], planes[3 * words + word] = third, fourth
    factors[COMMON] = np.float32(2) * step
    factors[EACH] = np.float32(-2) * peak
    factors[SUM] = step * np.float32(total) - peak * np.float32(rotated.shape[0])
    factors[QUERY_LENGTH] = length_of(rotated)


@inner()
def estimate(scratch, graph, node):  # type: ignore[no-untyped-def]
    """Return the distance from the query to a row as its signs tell it."""
    factors, terms, at = scratch.factors, graph.terms[node], graph.terms_at
    common = np.float32(common_bits(scratch.planes, graph.signs[node]))
    product = factors[COMMON] * common + factors[EACH] * terms[at + POSITIVE] - factors[SUM]
    return terms[at + OFFSET] + terms[at + SIGN_SCALE] * product


@inner()
def least_distance(scratch, graph, node):  # type: ignore[no-untyped-def]
    """Return the least that the distance from the query to a row may be, as far as its signs tell it."""
    error = graph.terms[node, graph.terms_at + SIGN_ERROR]
    return estimate(scratch, graph, node) - error * scratch.factors[QUERY_LENGTH]
