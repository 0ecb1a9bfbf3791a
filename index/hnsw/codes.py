"""The compact companion of an index file: what a walk through the graph reads, close together.

Next to ``base-000001.hnsw`` lies ``base-000001.codes``, made from it once, mapped like it. Each vector is rotated about the
mean of all (``index/hnsw/rotation.py``); of the result it holds the signs, a bit a dimension, which tell what is too far off
to be looked at, and int8 codes with a scale of their own, a quarter of the vector's bytes. It holds the level-0 links
without the vectors between them too, and where each row's upper links begin, so that opening walks through nothing. Answers
never come from codes alone: the last candidates are compared by their vectors.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.errors import DamagedIndex
from index.hnsw.file import HnswFile, upper_offsets
from index.hnsw.kernel.types import LARGEST, MIDDLE, OFFSET, POSITIVE, SIGN_ERROR, SIGN_SCALE, Rotation
from index.hnsw.rotation import padded_dim, random_rotation, rotate, round_count
from index.mapped_file import forget_pages, map_file
from index.metrics import METRICS, Metric

MAGIC = b"LENSCODE"
VERSION = 2
HEADER = struct.Struct("<8sIIQQQQQQ")  # magic, version, space, count, dim, stride, links, base's bytes, deleted
CHUNK = 4096
# A code is off by a part of its scale that is uniform, so a product with a query q by ‖q‖·scale/√12, about normally. Five
# times that for each of two rows is seven deviations of their difference: one comparison in a million millions goes wrong.
OFF = np.float32(5 / math.sqrt(12))
SURE = 2.0  # deviations that an estimate by signs is taken to be wrong by at most: measured, docs/decisions/0027
TERMS = 6  # float32 for each row, behind its words of signs


@dataclass(frozen=True, slots=True)
class Codes:
    """A mapped companion file.

    ``rows``: uint8 [count, padded]; ``signs``: uint64 [count, words], a bit for each rotated dimension, then zeros, in which
    ``terms``, the same bytes as float32 [count, 2·words], have their columns from ``terms_at`` on (``OFFSET`` to
    ``POSITIVE``); ``links``: uint32 [count, 1 + max_links0]; ``upper_at``: uint32 [count]; ``deletions``: whether any
    element is marked deleted.

    With p the query less the centre, rotated, its distance to a row is ``OFFSET + SCALE·⟨p, code⟩``, less what is the same
    for all rows.
    """

    rows: NDArray[np.uint8]
    signs: NDArray[np.uint64]
    links: NDArray[np.uint32]
    upper_at: NDArray[np.uint32]
    rotation: Rotation
    deletions: bool

    @property
    def terms(self) -> NDArray[np.float32]:
        """The bytes of ``signs`` as float32."""
        return self.signs.view(np.float32)

    @property
    def terms_at(self) -> int:
        """The first column of the terms."""
        return self.rows.shape[1] // 32


def _shapes(count: int, dim: int, max_links0: int) -> tuple[tuple[str, type, tuple[int, ...]], ...]:
    size = padded_dim(dim)
    return (
        ("rows", np.uint8, (count, size)),
        ("signs", np.uint64, (count, sign_words(size))),
        ("links", np.uint32, (count, 1 + max_links0)),
        ("upper_at", np.uint32, (count,)),
        ("order", np.uint32, (round_count(dim) - 1, size)),
        ("factors", np.float32, (round_count(dim), size)),
        ("centre", np.float32, (dim,)),
    )


def sign_words(size: int) -> int:
    """Return the words of a row's signs and terms: whole cache lines."""
    return -(-(size // 64 + -(-TERMS // 2)) // 8) * 8


def encode(vectors: NDArray[np.float32], metric: Metric) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Round vectors, float32 [n, dim], to codes uint8 [n, padded]; and float32 [n, 3], their OFFSET, SCALE and LENGTH."""
    scale = np.abs(vectors).max(axis=1, keepdims=True, initial=0) / LARGEST
    codes = np.full((len(vectors), padded_dim(vectors.shape[1])), MIDDLE, np.uint8)
    codes[:, : vectors.shape[1]] = np.rint(vectors / np.where(scale > 0, scale, 1)) + MIDDLE
    squares = np.square(vectors).sum(axis=1, keepdims=True)
    if METRICS[metric].euclidean:
        return codes, np.hstack([squares, -2 * scale, 2 * np.sqrt(squares)])
    return codes, np.hstack([np.ones_like(scale), -scale, np.sqrt(squares)])


def encode_rotated(
    vectors: NDArray[np.float32], metric: Metric, rotation: Rotation
) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
    """Encode vectors, float32 [n, dim], about the centre: their ``rows`` and ``signs``, with terms, as in Codes."""
    rotated = rotate(vectors, rotation)
    codes, terms = encode(rotated, metric)
    squares, sums = np.square(rotated).sum(axis=1), np.abs(rotated).sum(axis=1)
    size = rotated.shape[1]
    twice = np.float32(2 if METRICS[metric].euclidean else 1)
    with np.errstate(all="ignore"):
        scale = np.where(sums > 0, squares / sums, 0)
        # How well the signs point where the row does is sums / √(size · squares).
        error = np.sqrt(np.maximum(0, size * scale**2 - squares) * (SURE**2 / max(1, size - 1)))
    if not METRICS[metric].euclidean:
        terms[:, OFFSET] = (rotation.centre - vectors) @ rotation.centre
    packed = np.zeros((len(vectors), sign_words(size)), np.uint64)
    bits = np.packbits(rotated > 0, axis=1, bitorder="little").view(np.uint64)
    packed[:, : size // 64] = bits
    columns = packed.view(np.float32)[:, size // 32 : size // 32 + TERMS]
    columns[:, : terms.shape[1]] = terms
    columns[:, SIGN_SCALE], columns[:, SIGN_ERROR] = -twice * scale, twice * error
    columns[:, POSITIVE] = np.bitwise_count(bits).sum(axis=1)
    return codes, packed


def _centre(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of vectors, float32 [n, dim]."""
    total = np.zeros(vectors.shape[1], np.float64)
    for at in range(0, len(vectors), CHUNK):
        total += vectors[at : at + CHUNK].sum(axis=0, dtype=np.float64)
    return (total / max(1, len(vectors))).astype(np.float32)


def build_codes(path: Path, file: HnswFile, metric: Metric) -> None:
    """Write the companion of ``file`` to ``path``: next to it, flushed, renamed. Raises OSError when the disk is full."""
    layout = file.layout
    header = HEADER.pack(
        MAGIC,
        VERSION,
        METRICS[metric].code,
        layout.count,
        layout.dim,
        padded_dim(layout.dim),
        layout.max_links0,
        file.size,
        int(((file.links[:, 0] >> 16) & 1).sum()),
    )
    unfinished = path.with_name(path.name + ".new")
    vectors = file.row_vectors()
    rotation = random_rotation(layout.dim, _centre(vectors))
    signs = np.empty((layout.count, sign_words(padded_dim(layout.dim))), np.uint64)
    with unfinished.open("wb") as out:
        out.write(header)
        for at in range(0, layout.count, CHUNK):
            codes, signs[at : at + CHUNK] = encode_rotated(vectors[at : at + CHUNK], metric, rotation)
            out.write(codes.tobytes())
        out.write(signs.tobytes())
        for at in range(0, layout.count, CHUNK):
            out.write(np.ascontiguousarray(file.links[at : at + CHUNK, : 1 + layout.max_links0]).tobytes())
        out.write(upper_offsets(file).tobytes())
        for part in (rotation.order, rotation.signs, rotation.centre):
            out.write(part.tobytes())
        forget_pages(out)
    unfinished.replace(path)


def open_codes(path: Path, file: HnswFile, metric: Metric) -> Codes:
    """Map the companion of ``file``, of which only header, length and rotation are read.

    Raises DamagedIndex when it is not a whole one, or not this file's, and OSError when it cannot be read.
    """
    layout = file.layout
    shapes = _shapes(layout.count, layout.dim, layout.max_links0)
    expected = (
        *(MAGIC, VERSION, METRICS[metric].code, layout.count, layout.dim),
        *(padded_dim(layout.dim), layout.max_links0, file.size),
    )
    with path.open("rb") as opened:
        header = opened.read(HEADER.size)
        size = os.fstat(opened.fileno()).st_size
        whole = HEADER.size + sum(np.dtype(kind).itemsize * int(np.prod(shape)) for _, kind, shape in shapes)
        if len(header) < HEADER.size or HEADER.unpack(header)[:-1] != expected or size != whole:
            raise DamagedIndex(
                f"{path.name} is not a whole companion of its index file; restore or rebuild the catalogue"
            )
        mapped = map_file(opened)
    arrays: dict[str, Any] = {}
    at = HEADER.size
    for name, kind, shape in shapes:
        arrays[name] = np.frombuffer(mapped, kind, count=int(np.prod(shape)), offset=at).reshape(shape)
        at += arrays[name].nbytes
    rotation = Rotation(arrays.pop("centre"), arrays.pop("order"), arrays.pop("factors"))
    if rotation.order.max() >= padded_dim(layout.dim):
        raise DamagedIndex(f"the rotation of {path.name} is damaged; restore or rebuild the catalogue")
    return Codes(**arrays, rotation=rotation, deletions=HEADER.unpack(header)[-1] > 0)
