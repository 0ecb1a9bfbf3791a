"""The random rotation that vectors are encoded under, so that each of their coordinates holds as much as any other.

A rotated coordinate of any vector is about normally distributed, which makes one bit of it worth most, and its rounding to
int8 as exact as can be (Gao and Long, RaBitQ, SIGMOD 2024). A full random matrix would cost dim² for a query; rounds of a
permutation, signs and Walsh-Hadamard butterflies among every 16th coordinate cost a few microseconds, and mix as well.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from index.hnsw.kernel.types import LANES, Rotation

SEED = 11
MIXED = 128  # enough for a sum of them to be about normally distributed
CHUNK = 256  # rows that are rotated together: as many as stay in a processor's cache


def padded_dim(dim: int) -> int:
    """Return the length of a rotated vector: whole cache lines of int8."""
    return -(-dim // 64) * 64


def round_count(dim: int) -> int:
    """Return how many rounds it takes until each rotated coordinate depends on MIXED others, or all; two at least."""
    span, rounds = block_span(dim), 2
    while span**rounds < min(MIXED, padded_dim(dim)):
        rounds += 1
    return rounds


def block_span(dim: int) -> int:
    """Return how many coordinates a round mixes: the largest power of two in the number of LANES."""
    lanes = padded_dim(dim) // LANES
    return lanes & -lanes


def random_rotation(dim: int, centre: NDArray[np.float32]) -> Rotation:
    """Draw the rotation about ``centre``, float32 [dim]; the same one for each dim."""
    dice, size, rounds = np.random.default_rng(SEED), padded_dim(dim), round_count(dim)
    order = np.stack([dice.permutation(size) for _ in range(rounds - 1)]).astype(np.uint32)
    signs = dice.choice(np.array([-1, 1], np.float32), (rounds, size)) / np.sqrt(np.float32(block_span(dim)))
    return Rotation(centre, order, signs.astype(np.float32))


def rotate(rows: NDArray[np.float32], rotation: Rotation) -> NDArray[np.float32]:
    """Rotate rows, float32 [n, dim], about the centre: float32 [n, padded_dim]."""
    (n, dim), size, span = rows.shape, rotation.order.shape[1], block_span(rows.shape[1])
    rotated = np.zeros((n, size), np.float32)
    rotated[:, :dim] = rows - rotation.centre
    for at in range(0, n, CHUNK):
        part = rotated[at : at + CHUNK]
        for turn, signs in enumerate(rotation.signs):
            ordered = part[:, rotation.order[turn - 1]] if turn else part
            lanes = (ordered * signs).reshape(len(part), -1, span, LANES)
            half = 1
            while half < span:
                pairs = lanes.reshape(len(part), -1, 2, half, LANES)
                lanes = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2)
                half *= 2
            part[:] = lanes.reshape(part.shape)
    return rotated
