"""The compact companion of an index file: what a walk through the graph reads, close together.

Next to ``base-000001.hnsw`` lies ``base-000001.codes``, made from it once, mapped like it: each vector as int8 with a
scale of its own (a quarter of its bytes), the level-0 links without the vectors between them, and where each row's upper
links begin, so that opening walks through nothing. Answers never come from codes alone: the last candidates are
compared by their vectors.
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
from index.mapped_file import forget_pages, map_file
from index.metrics import METRICS, Metric

MAGIC = b"LENSCODE"
VERSION = 1
HEADER = struct.Struct("<8sIIQQQQQQ")  # magic, version, space, count, dim, stride, links, base's bytes, deleted
CHUNK = 4096
# A code is off by a part of its scale that is uniform, so a product with a query q by ‖q‖·scale/√12, about normally. Five
# times that for each of two rows is seven deviations of their difference: one comparison in a million millions goes wrong.
OFF = np.float32(5 / math.sqrt(12))


@dataclass(frozen=True, slots=True)
class Codes:
    """A mapped companion file.

    ``rows``: int8 [count, stride], of which the first dim are the code; ``terms``: float32 [count, 2], so that the
    distance to a query is ``terms[0] + terms[1]·(query·code)``, for L2 less the query's own squared length; ``links``:
    uint32 [count, 1 + max_links0]; ``upper_at``: uint32 [count]; ``deletions``: whether any element is marked deleted.
    """

    rows: NDArray[np.int8]
    terms: NDArray[np.float32]
    links: NDArray[np.uint32]
    upper_at: NDArray[np.uint32]
    deletions: bool


def _shapes(count: int, dim: int, max_links0: int) -> tuple[tuple[str, type, tuple[int, ...]], ...]:
    stride = -(-dim // 64) * 64  # whole cache lines
    return (
        ("rows", np.int8, (count, stride)),
        ("terms", np.float32, (count, 2)),
        ("links", np.uint32, (count, 1 + max_links0)),
        ("upper_at", np.uint32, (count,)),
    )


def encode(vectors: NDArray[np.float32], metric: Metric) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round vectors, float32 [n, dim], to codes int8 [n, dim] with a scale for each row; and their ``terms``."""
    scale = np.abs(vectors).max(axis=1, keepdims=True) / np.float32(127)
    codes = np.rint(vectors / np.where(scale > 0, scale, 1)).astype(np.int8)
    if METRICS[metric].euclidean:
        terms = np.hstack([(vectors**2).sum(axis=1, keepdims=True), -2 * scale])
    else:
        terms = np.hstack([np.ones_like(scale), -scale])
    return codes, terms.astype(np.float32)


def build_codes(path: Path, file: HnswFile, metric: Metric) -> None:
    """Write the companion of ``file`` to ``path``: next to it, flushed, renamed. Raises OSError when the disk is full."""
    layout = file.layout
    header = HEADER.pack(
        MAGIC,
        VERSION,
        METRICS[metric].code,
        layout.count,
        layout.dim,
        -(-layout.dim // 64) * 64,
        layout.max_links0,
        file.size,
        int(((file.links[:, 0] >> 16) & 1).sum()),
    )
    unfinished = path.with_name(path.name + ".new")
    vectors = file.row_vectors()
    terms = np.empty((layout.count, 2), np.float32)
    with unfinished.open("wb") as out:
        out.write(header)
        for at in range(0, layout.count, CHUNK):
            codes, terms[at : at + CHUNK] = encode(vectors[at : at + CHUNK], metric)
            out.write(np.pad(codes, ((0, 0), (0, -layout.dim % 64))).tobytes())
        out.write(terms.tobytes())
        for at in range(0, layout.count, CHUNK):
            out.write(np.ascontiguousarray(file.links[at : at + CHUNK, : 1 + layout.max_links0]).tobytes())
        out.write(upper_offsets(file).tobytes())
        forget_pages(out)
    unfinished.replace(path)


def open_codes(path: Path, file: HnswFile, metric: Metric) -> Codes:
    """Map the companion of ``file``, of which only header and length are read.

    Raises DamagedIndex when it is not a whole one, or not this file's, and OSError when it cannot be read.
    """
    layout = file.layout
    shapes = _shapes(layout.count, layout.dim, layout.max_links0)
    expected = (
        *(MAGIC, VERSION, METRICS[metric].code, layout.count, layout.dim),
        *(shapes[0][2][1], layout.max_links0, file.size),
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
    return Codes(**arrays, deletions=HEADER.unpack(header)[-1] > 0)
