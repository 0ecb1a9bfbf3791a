"""The libraries that the index is compared with, each behind the same three methods."""

from __future__ import annotations

from typing import Protocol

import faiss
import hnswlib
import numpy as np
import usearch.index
import voyager
from numpy.typing import NDArray

from benchmarks.data import EF_CONSTRUCTION, Case, K, M
from index import Neighbours, search_exact


class Searcher(Protocol):
    """An index of a case: searched with one thread at an ef for the labels of K neighbours, int64 [n, K]."""

    def search(self, queries: NDArray[np.float32], ef: int, /) -> NDArray[np.int64]: ...


class Ours:
    """The mapped reader, with codes or without."""

    def __init__(self, case: Case, *, codes: bool) -> None:
        self._index = case.open(codes=codes)

    def search(self, queries: NDArray[np.float32], ef: int) -> NDArray[np.int64]:
        return np.stack([one.labels for one in self._index.search(queries, K, ef)])


class Hnswlib:
    """hnswlib 0.8.0 on the very file that ours maps."""

    def __init__(self, case: Case) -> None:
        self._index = hnswlib.Index(space="cosine", dim=case.dim)
        self._index.load_index(str(case.hnsw()))

    def search(self, queries: NDArray[np.float32], ef: int) -> NDArray[np.int64]:
        self._index.set_ef(ef)
        return self._index.knn_query(queries, K, num_threads=1)[0].astype(np.int64)


class Faiss:
    """faiss IndexHNSWFlat, inner product on unit vectors."""

    def __init__(self, case: Case) -> None:
        path = case.path("faiss")
        if not path.is_file():
            index = faiss.IndexHNSWFlat(case.dim, M, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = EF_CONSTRUCTION
            index.add(case.vectors())
            faiss.write_index(index, str(path))
        self._index = faiss.read_index(str(path))

    def search(self, queries: NDArray[np.float32], ef: int) -> NDArray[np.int64]:
        faiss.omp_set_num_threads(1)
        return self._index.search(queries, K, params=faiss.SearchParametersHNSW(efSearch=ef))[1]  # type: ignore[attr-defined]


class Usearch:
    """usearch, its file viewed (mapped) and not loaded."""

    def __init__(self, case: Case, dtype: str) -> None:
        path = case.path(f"usearch-{dtype}")
        if not path.is_file():
            index = usearch.index.Index(
                ndim=case.dim, metric="cos", dtype=dtype, connectivity=M, expansion_add=EF_CONSTRUCTION
            )
            index.add(np.arange(case.count), case.vectors())
            index.save(str(path))
        self._index = usearch.index.Index.restore(str(path), view=True)

    def search(self, queries: NDArray[np.float32], ef: int) -> NDArray[np.int64]:
        self._index.expansion_search = ef
        return self._index.search(queries, K, threads=1).keys.astype(np.int64)


class Voyager:
    """Spotify's voyager, float32."""

    def __init__(self, case: Case) -> None:
        path = case.path("voyager")
        if not path.is_file():
            index = voyager.Index(voyager.Space.Cosine, case.dim, M=M, ef_construction=EF_CONSTRUCTION)
            index.add_items(case.vectors(), np.arange(case.count))
            index.save(str(path))
        self._index = voyager.Index.load(str(path))

    def search(self, queries: NDArray[np.float32], ef: int) -> NDArray[np.int64]:
        return self._index.query(queries, k=K, num_threads=1, query_ef=ef)[0].astype(np.int64)


class Exact:
    """numpy: every query with every vector, on all cores that its BLAS takes."""

    def __init__(self, case: Case) -> None:
        self._vectors, self._labels = case.vectors(), np.arange(case.count)

    def search(self, queries: NDArray[np.float32], ef: int) -> NDArray[np.int64]:
        found: list[Neighbours] = search_exact(self._vectors, self._labels, queries, K, "cosine")
        return np.stack([one.labels for one in found])


def peers(case: Case) -> dict[str, Searcher]:
    """Every index of the case, ours first; those whose files are not there yet are built, which takes minutes."""
    return {
        "BentoLens, codes": Ours(case, codes=True),
        "BentoLens, plain": Ours(case, codes=False),
        "hnswlib": Hnswlib(case),
        "faiss HNSW": Faiss(case),
        "usearch f32 (view)": Usearch(case, "f32"),
        "usearch bf16 (view)": Usearch(case, "bf16"),
        "voyager": Voyager(case),
        "exact, numpy": Exact(case),
    }
