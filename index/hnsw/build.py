"""Build an index file with hnswlib and put it on disk so that it is either whole or not there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.errors import DamagedIndex
from index.exact import unit_rows
from index.hnsw.file import open_hnsw_file
from index.hnsw.groups import Member, append_groups, near_leaders
from index.hnsw.repair import link_lost_elements
from index.mapped_file import forget_pages
from index.metrics import METRICS, Metric

M = 16  # links for each element; 16 to 32 is what hnswlib's own guide gives for image features
EF_CONSTRUCTION = 200
EF_LEADER = 32  # how widely the leader of a new vector is looked for
BATCH = 1024  # vectors that are compared with each other before they go in
SEED = 7  # of the order in which a chunk's vectors go in


def build_hnsw(
    path: Path,
    chunks: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]],
    count: int,
    dim: int,
    metric: Metric,
    *,
    m: int = M,
    ef_construction: int = EF_CONSTRUCTION,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Index ``count`` vectors, given as chunks of labels int64 [n] and vectors float32 [n, dim].

    Of vectors that are nearly or quite the same one goes into the graph, and leads the others: see
    ``index/hnsw/groups.py``. Written next to ``path``, flushed and renamed. ``progress`` gets the size of each chunk once
    it is in. Raises OSError when the disk is full.
    """
    unfinished = path.with_name(path.name + ".new")
    append_groups(
        unfinished, dim, _write_graph(unfinished, chunks, _Graph(count, dim, metric, m, ef_construction), progress)
    )
    link_lost_elements(unfinished, dim, metric)
    with unfinished.open("rb+") as file:
        forget_pages(file)
    unfinished.replace(path)


def _write_graph(
    path: Path,
    chunks: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]],
    graph: _Graph,
    progress: Callable[[int], None],
) -> dict[int, list[Member]]:
    """Write the file of leaders, and return the members of their groups; the graph leaves memory with this call."""
    order = np.random.default_rng(SEED)
    for labels, vectors in chunks:
        # Shuffled: the elements of one group that go in one after the other cut the graph into pieces.
        shuffled = order.permutation(len(labels))
        for at in range(0, len(labels), BATCH):
            part = shuffled[at : at + BATCH]
            graph.add(labels[part], vectors[part])
        progress(len(labels))
    graph.index.save_index(str(path))
    try:
        open_hnsw_file(path, graph.dim)
    except DamagedIndex as error:  # hnswlib does not say when the disk takes less than it writes
        raise OSError(f"the index file was not written whole ({error}); is the disk full?") from None
    return graph.members


class _Graph:
    """An hnswlib index of leaders, and the members of their groups."""

    def __init__(self, count: int, dim: int, metric: Metric, m: int, ef_construction: int) -> None:
        self.dim = dim
        self._normalized = METRICS[metric].normalized
        # Cosine is the inner product of unit vectors. They are scaled here, so that equal ones stay equal to the last bit.
        self.index = self._make("l2" if METRICS[metric].euclidean else "ip", count, dim, m, ef_construction)
        # By inner product the nearest of a vector need not be its twin: leaders are looked for by distance.
        self._finder = self._make("l2", count, dim, m, ef_construction) if metric == "ip" else self.index
        self.members: dict[int, list[Member]] = {}  # by the leader's label

    @staticmethod
    def _make(space: str, count: int, dim: int, m: int, ef_construction: int) -> Any:
        import hnswlib  # needed to build and not to serve: a served image goes without it and without a compiler

        index = hnswlib.Index(space=space, dim=dim)
        index.init_index(max_elements=count, ef_construction=ef_construction, M=m)
        index.set_ef(EF_LEADER)
        return index

    def add(self, labels: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        rows = unit_rows(vectors) if self._normalized else np.ascontiguousarray(vectors, np.float32)
        there, known = np.empty(0, np.int64), np.empty((0, rows.shape[1]), np.float32)
        if self._finder.element_count:
            there = self._finder.knn_query(rows, k=1)[0][:, 0].astype(np.int64)
            known = np.asarray(self._finder.get_items(there), np.float32)
        leaders = near_leaders(labels, rows, there, known)
        leads = leaders == labels
        for index in {id(one): one for one in (self.index, self._finder)}.values():
            index.add_items(rows[leads], labels[leads])
        for place in np.flatnonzero(~leads):
            self.members.setdefault(int(leaders[place]), []).append(Member(int(labels[place]), rows[place].copy()))
