"""Mend a graph that does not lead to all of its elements: HNSW promises links from each element, and none to it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.backend import DEFAULT_EF
from index.hnsw.file import HEADER, Layout, open_hnsw_file
from index.hnsw.kernel.types import MEMBER
from index.hnsw.mapped_index import MappedIndex
from index.metrics import Metric

ROUNDS = 4  # a link that is replaced may have been another element's only one
CHUNK = 4096
SAME = 1e-5  # of a vector's squared length: a distance at which another is as good as itself
QUICK_EF = 16  # finds nearly all, several times as fast; the others are looked for again
PLACES = 16  # of the nearest elements that are looked at for a free place


def link_lost_elements(path: Path, dim: int, metric: Metric) -> None:
    """Link each element that a search with its own vector does not find from one that the search does find, in place.

    By inner product an element need not be its own nearest, so there the walk goes by distance.
    """
    for _ in range(ROUNDS):
        file = open_hnsw_file(path, dim)
        index = MappedIndex(file, "l2" if metric == "ip" else metric)
        lost = lost_elements(index)
        if not len(lost):
            return
        row_of = {int(label): row for row, label in enumerate(file.labels())}
        records = np.memmap(path, np.uint32, "r+", HEADER.size, (file.layout.count, file.layout.record_words))
        for at in range(0, len(lost), CHUNK):
            part = lost[at : at + CHUNK]
            found = index.search(index.vectors()[part], PLACES, DEFAULT_EF, threads=os.cpu_count() or 1)
            for row, neighbours in zip(part.tolist(), found, strict=True):
                nearest = [row_of[int(label)] for label in neighbours.labels]
                _link(records, file.layout, [one for one in nearest if not records[one, 0] & MEMBER], row)
        records.flush()


def lost_elements(index: MappedIndex, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Return which of ``rows``, or of all that stand in the graph, a search with their own vectors does not find."""
    words, labels = index.file.links[:, 0], index.labels()
    rows = np.flatnonzero(words & MEMBER == 0) if rows is None else rows
    for ef in (QUICK_EF, DEFAULT_EF):
        rows = _not_found(index, labels, rows, ef)
    return rows


def _not_found(index: MappedIndex, labels: NDArray[np.int64], rows: NDArray[np.int64], ef: int) -> NDArray[np.int64]:
    lost = list[int]()
    for at in range(0, len(rows), CHUNK):
        part = rows[at : at + CHUNK]
        found = index.search(index.vectors()[part], 1, ef, threads=os.cpu_count() or 1)
        squares = np.square(index.vectors()[part]).sum(axis=1)
        for row, square, (others, distances) in zip(part.tolist(), squares.tolist(), found, strict=True):
            if not len(others) or (others[0] != labels[row] and distances[0] > SAME * square):
                lost.append(row)
    return np.array(lost, np.int64)


def _link(records: NDArray[np.uint32], layout: Layout, nearest: list[int], row: int) -> None:
    """Link ``row`` from the first of the ``nearest`` rows that has a free place; else in place of the first one's last link.

    The last slot of all is left alone: a leader has the row of its group there.
    """
    usable = layout.max_links0 - 1
    for one in nearest:
        degree = int(records[one, 0]) & 0xFFFF
        if degree < usable:
            records[one, 1 + degree] = row
            records[one, 0] += 1
            return
    if nearest:
        records[nearest[0], usable] = row
