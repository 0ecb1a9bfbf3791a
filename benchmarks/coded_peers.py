"""Libraries that search by compressed vectors, as ours does: scalar, RaBitQ, LVQ and reduced-rank codes.

Their packages take PyPI's newest CPUs as they find them, but for pyglass, whose portable wheel has AVX2 only. SVS's LVQ runs
on Intel's CPUs only.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.data import EF_CONSTRUCTION, Case, M
from benchmarks.peers import EFS, Labels, Searcher

THREADS = os.cpu_count() or 1
REFINED = (1.2, 1.6, 2.6, 4.0)  # times k rows that are compared by their vectors
KEPT = (0, 20, 50, 100, 200, 400)  # rows that LoRANN compares by their vectors
SEED = 7


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send what C++ prints to nowhere."""
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(nowhere)
        os.close(kept)


class FaissSQ8:
    """faiss HNSW over 8-bit scalar codes; with ``refine``, its best by the vectors again."""

    def __init__(self, case: Case, *, refine: bool) -> None:
        path = case.path("faiss-sq8")
        if not path.is_file():
            index = faiss.IndexHNSWSQ(case.dim, faiss.ScalarQuantizer.QT_8bit, M, faiss.METRIC_INNER_PRODUCT)  # type: ignore[arg-type]
            index.hnsw.efConstruction = EF_CONSTRUCTION
            vectors = case.vectors()
            index.train(vectors)
            index.add(vectors)
            faiss.write_index(index, str(path))
        self._base = faiss.read_index(str(path))
        self.efforts: Sequence[Sequence[Any]] = (EFS,)
        self._index = self._base
        if refine:
            flat = faiss.IndexFlatIP(case.dim)
            flat.add(case.vectors())
            self._index = faiss.IndexRefine(self._base, flat)
            self._kept = flat
            self.efforts = tuple([(ef, factor) for ef in EFS] for factor in REFINED)

    def search(self, queries: NDArray[np.float32], k: int, effort: Any) -> Labels:
        faiss.omp_set_num_threads(1)
        if self._index is self._base:
            params = faiss.SearchParametersHNSW(efSearch=effort)  # type: ignore[attr-defined]
        else:
            base = faiss.SearchParametersHNSW(efSearch=effort[0])  # type: ignore[attr-defined]
            params = faiss.IndexRefineSearchParameters(k_factor=effort[1], base_index_params=base)  # type: ignore[call-arg]
        return self._index.search(queries, k, params=params)[1]


class Rabitq:
    """RaBitQ's own library: HNSW over 1 + 7 bits a dimension, around 16 centres."""

    efforts: Sequence[Sequence[Any]] = (EFS,)
    centres = 16

    def __init__(self, case: Case) -> None:
        import rabitqlib

        path = case.path("rabitq")
        if not path.is_file():
            vectors = case.vectors()
            index = rabitqlib.HnswIndex(case.dim, case.count, M, EF_CONSTRUCTION, 8, "ip", SEED)
            means = faiss.Kmeans(case.dim, self.centres, niter=10, seed=SEED)
            means.train(vectors)
            nearest = means.index.search(vectors, 1)[1][:, 0].astype(np.uint32)
            index.build(vectors, means.centroids, nearest, THREADS, False)
            index.save(str(path))
        self._index = rabitqlib.HnswIndex.load(str(path))

    def search(self, queries: NDArray[np.float32], k: int, effort: int) -> Labels:
        return self._index.search(queries, k, ef=max(k, effort), num_threads=1)[0].astype(np.int64)


class Lorann:
    """LoRANN: clusters, and in each a reduced-rank regression in 8 bits; its best by the vectors again, or not."""

    def __init__(self, case: Case) -> None:
        import lorann

        path = case.path("lorann")
        if not path.is_file():
            clusters = 2 ** round(np.log2(np.sqrt(case.count)))
            reduced = 256 if case.dim > 1000 else 128 if case.dim >= 200 else None
            index = lorann.LorannIndex(case.vectors(), int(clusters), reduced, 8, distance=lorann.IP)
            index.build(n_threads=THREADS)
            index.save(str(path))
        self._index = lorann.LorannIndex.load(str(path))
        probes = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
        self.efforts: Sequence[Sequence[Any]] = tuple(
            [(probe, kept) for probe in probes] for kept in (0, 20, 50, 100, 200, 400)
        )

    def search(self, queries: NDArray[np.float32], k: int, effort: Any) -> Labels:
        probes, kept = effort
        if 0 < kept < k:
            return np.full((len(queries), k), -1, np.int64)
        return self._index.search(queries, k, probes, kept, n_threads=1).astype(np.int64)


class Glass:
    """pyglass: HNSW over 8-bit codes, its best by the vectors again."""

    efforts: Sequence[Sequence[Any]] = (EFS,)

    def __init__(self, case: Case) -> None:
        import glass

        path = case.path("glass")
        with _quiet():
            if not path.is_file():
                glass.Index("HNSW", "IP", "FP32", 2 * M, EF_CONSTRUCTION).build(case.vectors()).save(str(path))
            self._index = glass.Searcher(glass.Graph(str(path)), case.vectors(), "IP", "SQ8U", "FP32")
            self._index.set_ef(EFS[0])

    def search(self, queries: NDArray[np.float32], k: int, effort: int) -> Labels:
        self._index.set_ef(max(k, effort))
        return self._index.batch_search(queries, k, 1)[0].astype(np.int64)


class Vsag:
    """VSAG's hgraph over 8-bit codes, its best by the vectors again; it takes one query a call."""

    efforts: Sequence[Sequence[Any]] = (EFS,)

    def __init__(self, case: Case) -> None:
        import pyvsag

        kind = {"dtype": "float32", "metric_type": "ip", "dim": case.dim, "index_param": self._parameters()}
        path = case.path("vsag")
        self._index = pyvsag.Index("hgraph", json.dumps(kind))
        if path.is_file():
            self._index.load(str(path))
        else:
            self._index.build(case.vectors().ravel(), np.arange(case.count), case.count, case.dim)
            self._index.save(str(path))

    @staticmethod
    def _parameters() -> dict[str, Any]:
        codes = {"base_quantization_type": "sq8_uniform", "use_reorder": True, "precise_quantization_type": "fp32"}
        return codes | {"max_degree": 2 * M, "ef_construction": EF_CONSTRUCTION, "build_thread_count": THREADS}

    def search(self, queries: NDArray[np.float32], k: int, effort: int) -> Labels:
        wanted = json.dumps({"hgraph": {"ef_search": max(k, effort)}})
        return np.stack([self._index.knn_search(one, k, wanted)[0] for one in queries])


class Svs:
    """Intel's Scalable Vector Search: a Vamana graph over LVQ codes of 4 + 8 bits."""

    efforts: Sequence[Sequence[Any]] = (EFS,)

    def __init__(self, case: Case) -> None:
        import svs

        folder = case.path("svs")
        if not folder.is_dir():
            made = Path(f"{folder}.new")
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir(parents=True)
            svs.write_vecs(case.vectors(), str(made / "vectors.fvecs"))
            wanted = svs.VamanaBuildParameters(alpha=0.95, graph_max_degree=2 * M, window_size=EF_CONSTRUCTION)
            index = svs.Vamana.build(
                wanted, self._loader(made / "vectors.fvecs"), svs.DistanceType.MIP, num_threads=THREADS
            )
            index.save(*(str(made / name) for name in ("config", "graph", "data")))
            made.rename(folder)
        graph = svs.GraphLoader(str(folder / "graph"))
        data = svs.LVQLoader(str(folder / "data"))
        self._index = svs.Vamana(str(folder / "config"), graph, data, svs.DistanceType.MIP, num_threads=1)

    @staticmethod
    def _loader(file: Path) -> Any:
        import svs

        return svs.LVQLoader(svs.VectorDataLoader(str(file), svs.DataType.float32), primary=4, residual=8)

    def search(self, queries: NDArray[np.float32], k: int, effort: int) -> Labels:
        self._index.search_window_size = max(k, effort)
        return self._index.search(queries, k)[0].astype(np.int64)


CODED: dict[str, Callable[[Case], Searcher]] = {
    "faiss HNSW SQ8": lambda case: FaissSQ8(case, refine=False),
    "faiss HNSW SQ8, refine": lambda case: FaissSQ8(case, refine=True),
    "rabitqlib HNSW, 8 bits": Rabitq,
    "LoRANN, 8 bits": Lorann,
    "pyglass SQ8U": Glass,
    "VSAG SQ8": Vsag,
}
if platform.system() == "Linux" and "GenuineIntel" in Path("/proc/cpuinfo").read_text():
    CODED["SVS LVQ4x8"] = Svs
