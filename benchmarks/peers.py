"""The libraries that the index is compared with, each behind the same method; those with codes are in coded_peers.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import faiss
import hnswlib
import numpy as np
import usearch.index
import voyager
from numpy.typing import NDArray

from benchmarks.data import EF_CONSTRUCTION, Case, M
from index import Neighbours, search_exact

EFS = (*range(10, 34, 2), *range(36, 68, 4), 72, 80, 96, 112, 128, 160, 192, 256, 320, 384, 512, 768)
Labels = NDArray[np.int64]


class Searcher(Protocol):
    """An index of a case. ``efforts`` are lists of what a search may take, each from the cheapest to the dearest."""

    efforts: Sequence[Sequence[Any]]

    def search(self, queries: NDArray[np.float32], k: int, effort: Any, /) -> Labels:
        """Search on one thread for the labels of k neighbours, int64 [n, k]."""
        ...


class Ours:
    """The mapped reader, with codes or without."""

    efforts: Sequence[Sequence[Any]] = (EFS,)

    def __init__(self, case: Case, *, codes: bool) -> None:
        self._index = case.open(codes=codes)

    def search(self, queries: NDArray[np.float32], k: int, effort: int) -> Labels:
        return np.stack([one.labels for one in self._index.search(queries, k, effort)])


class Hnswlib:
    """hnswlib 0.8.0, with an element for each vector: ours has one for each group of those that are nearly the same."""

    efforts: Sequence[Sequence[Any]] = (EFS,)

    def __init__(self, case: Case) -> None:
        path = case.path("hnswlib")
        self._index = hnswlib.Index(space="cosine", dim=case.dim)
        if not path.is_file():
            self._index.init_index(case.count, M, EF_CONSTRUCTION)
            self._index.add_items(case.vectors())
            self._index.save_index(str(path))
        self._index.load_index(str(path))

    def search(self, queries: NDArray[np.float32], k: int, effort: int) -> Labels:
        self._index.set_ef(max(k, effort))
        return self._index.knn_query(queries, k, num_threads=1)[0].astype(np.int64)


class Faiss:
    """faiss IndexHNSWFlat, inner product on unit vectors."""

    efforts: Sequence[Sequence[Any]] = (EFS,)

    def __init__(self, case: Case) -> None:
        path = case.path("faiss")
        if not path.is_file():
            index = faiss.IndexHNSWFlat(case.dim, M, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = EF_CONSTRUCTION
            index.add(case.vectors())
            faiss.write_index(index, str(path))
        self._index = faiss.read_index(str(path))

    def search(self, queries: NDArray[np.float32], k: int, effort: int) -> Labels:
        faiss.omp_set_num_threads(1)
        return self._index.search(queries, k, params=faiss.SearchParametersHNSW(efSearch=effort))[1]  # type: ignore[attr-defined]


class Usearch:
    """usearch, its file viewed (mapped) and not loaded."""

    efforts: Sequence[Sequence[Any]] = (EFS,)

    def __init__(self, case: Case, dtype: str) -> None:
        path = case.path(f"usearch-{dtype}")
        if not path.is_file():
            index = usearch.index.Index(
                ndim=case.dim, metric="cos", dtype=dtype, connectivity=M, expansion_add=EF_CONSTRUCTION
            )
            index.add(np.arange(case.count), case.vectors())
            index.save(str(path))
        self._index = usearch.index.Index.restore(str(path), view=True)

    def search(self, queries: NDArray[np.float32], k: int, effort: int) -> Labels:
        self._index.expansion_search = effort
        return self._index.search(queries, k, threads=1).keys.astype(np.int64)


class Voyager:
    """Spotify's voyager, float32."""

    efforts: Sequence[Sequence[Any]] = (EFS,)

    def __init__(self, case: Case) -> None:
        path = case.path("voyager")
        if not path.is_file():
            index = voyager.Index(voyager.Space.Cosine, case.dim, M=M, ef_construction=EF_CONSTRUCTION)
            index.add_items(case.vectors(), np.arange(case.count))
            index.save(str(path))
        self._index = voyager.Index.load(str(path))

    def search(self, queries: NDArray[np.float32], k: int, effort: int) -> Labels:
        return self._index.query(queries, k=k, num_threads=1, query_ef=max(k, effort))[0].astype(np.int64)


class Exact:
    """numpy: every query with every vector, on all cores that its BLAS takes."""

    efforts: Sequence[Sequence[Any]] = ((0,),)

    def __init__(self, case: Case) -> None:
        self._vectors, self._labels = case.vectors(), np.arange(case.count)

    def search(self, queries: NDArray[np.float32], k: int, effort: int) -> Labels:
        found: list[Neighbours] = search_exact(self._vectors, self._labels, queries, k, "cosine")
        return np.stack([one.labels for one in found])


PLAIN: dict[str, Callable[[Case], Searcher]] = {
    "BentoLens, codes": lambda case: Ours(case, codes=True),
    "BentoLens, plain": lambda case: Ours(case, codes=False),
    "hnswlib": Hnswlib,
    "faiss HNSW": Faiss,
    "usearch f32 (view)": lambda case: Usearch(case, "f32"),
    "usearch bf16 (view)": lambda case: Usearch(case, "bf16"),
    "voyager": Voyager,
    "exact, numpy": Exact,
}
