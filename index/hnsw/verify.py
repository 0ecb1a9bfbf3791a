"""Check an index file and its companion: every count, id, level, label, vector and code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.errors import VectorIndexError
from index.hnsw.codes import encode_rotated, open_codes
from index.hnsw.file import HnswFile, upper_offsets
from index.hnsw.groups import check_groups
from index.hnsw.kernel.types import DELETED, MEMBER
from index.hnsw.mapped_index import MappedIndex
from index.hnsw.repair import lost_elements
from index.metrics import METRICS, Metric

CHUNK = 4096  # rows looked at together
SOUGHT = 2000  # elements that are looked for
LOST = 0.01  # share of them that an index may not find
UNIT = 1e-3  # how far from 1 the length of a unit vector may be
Progress = Callable[[str, int, int], None]  # stage, done, total


def check_index(file: HnswFile, metric: Metric, progress: Progress = lambda *_: None) -> Iterator[str]:
    """Yield the faults of an index file: counts, ids, levels, labels, groups, vectors, and what its graph leaves out."""
    sound = True
    for fault in _check_parts(file, metric, progress):
        sound = False
        yield fault
    if sound:
        yield from _check_reach(file, metric)


def _check_reach(file: HnswFile, metric: Metric) -> Iterator[str]:
    """Check that a search finds each element by its own vector, which a stock hnswlib file need not hold to."""
    rows = np.flatnonzero(file.links[:, 0] & (MEMBER | DELETED) == 0)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), SOUGHT)).astype(np.int64)]
    # By inner product another vector may be nearer to one than itself.
    lost = lost_elements(MappedIndex(file, "l2" if metric == "ip" else metric), rows)
    if len(lost) > LOST * len(rows):
        yield f"of {len(rows)} elements that were looked for by their own vectors, {len(lost)} are not found; build it again"


def _check_parts(file: HnswFile, metric: Metric, progress: Progress) -> Iterator[str]:
    layout = file.layout
    rows = np.arange(layout.count)
    yield from _check_links(file.links[:, : 1 + layout.max_links0], rows, np.zeros(layout.count, np.int64), 0)
    try:
        upper_at = upper_offsets(file).astype(np.int64)
    except VectorIndexError as error:
        yield str(error)
    else:
        yield from _check_upper(file, upper_at)
    labels = file.labels()
    if len(np.unique(labels)) < len(labels):
        yield "two elements have the same label"
    yield from check_groups(file)
    vectors = file.row_vectors()
    for at in range(0, layout.count, CHUNK):
        part = vectors[at : at + CHUNK]
        with np.errstate(all="ignore"):
            lengths = np.linalg.norm(part, axis=1)
        if len(bad := np.flatnonzero(~np.isfinite(lengths))):
            yield f"the vector of element {at + bad[0]} is not of finite numbers"
        elif METRICS[metric].normalized and len(bad := np.flatnonzero(np.abs(lengths - 1) > UNIT)):
            yield f"the vector of element {at + bad[0]} has length {lengths[bad[0]]:.4f}, not 1"
        progress("vectors", at + len(part), layout.count)


def check_codes(path: Path, file: HnswFile, metric: Metric) -> Iterator[str]:
    """Yield the faults of an index file's companion: where it is not what would be made of the file again."""
    layout = file.layout
    try:
        codes = open_codes(path, file, metric)
        upper_at = upper_offsets(file)
    except (VectorIndexError, OSError) as error:
        yield str(error)
        return
    if codes.deletions != bool(((file.links[:, 0] >> 16) & 1).any()):
        yield "its count of deleted elements is not the index file's"
    vectors = file.row_vectors()
    for at in range(0, layout.count, CHUNK):
        part = slice(at, at + CHUNK)
        with np.errstate(all="ignore"):
            rows, signs = encode_rotated(vectors[part], metric, codes.rotation)
        if not np.array_equal(rows, codes.rows[part]):
            yield f"the codes of elements {at} to {at + len(rows) - 1} are not those of their vectors"
        words, terms = codes.terms_at // 2, slice(codes.terms_at, None)
        if not np.array_equal(signs[:, :words], codes.signs[part, :words]):
            yield f"the signs of elements {at} to {at + len(rows) - 1} are not those of their vectors"
        made, there = signs.view(np.float32)[:, terms], codes.terms[part, terms]
        if not np.allclose(made, there, rtol=1e-4, atol=1e-6, equal_nan=True):
            yield f"the scales of elements {at} to {at + len(rows) - 1} are not those of their vectors"
    if not np.array_equal(file.links[:, : 1 + layout.max_links0], codes.links):
        yield "its links are not those of the index file"
    if not np.array_equal(upper_at, codes.upper_at):
        yield "its offsets are not those of the index file"


def _check_links(
    blocks: NDArray[np.uint32], rows: NDArray[np.int64], levels: NDArray[np.int64], level: int
) -> Iterator[str]:
    """Blocks [n, 1 + places] of links that ``rows`` have on one level: how many, and to whom."""
    for at in range(0, len(blocks), CHUNK):
        part = blocks[at : at + CHUNK].astype(np.int64)
        degrees = part[:, 0] & 0xFFFF
        used = np.arange(part.shape[1] - 1) < degrees[:, None]
        ids = np.where(used, part[:, 1:], rows[at : at + CHUNK, None] - 1)
        lost = (ids >= len(levels)) | (ids == rows[at : at + CHUNK, None])
        low = levels[np.where(lost, 0, ids)] < level
        bad = np.flatnonzero((degrees >= part.shape[1]) | (used & (lost | low)).any(axis=1))
        if len(bad):
            row = rows[at + bad[0]]
            yield f"the links of element {row} on level {level} are too many, or lead to itself or to none on that level"
            return


def _check_upper(file: HnswFile, upper_at: NDArray[np.int64]) -> Iterator[str]:
    layout = file.layout
    if not layout.count:
        return
    block = 1 + layout.max_links
    levels = np.where(upper_at > 0, file.upper[np.maximum(upper_at - 1, 0)] // (4 * block), 0).astype(np.int64)
    if not levels[layout.entry_point] == levels.max() == layout.max_level:
        yield (
            f"the header names element {layout.entry_point} on level {layout.max_level} as the way in; "
            f"it reaches level {levels[layout.entry_point]}, and the highest is {levels.max()}"
        )
    for level in range(1, int(levels.max()) + 1):
        rows = np.flatnonzero(levels >= level)
        starts = upper_at[rows] + (level - 1) * block
        yield from _check_links(file.upper[starts[:, None] + np.arange(block)], rows, levels, level)
