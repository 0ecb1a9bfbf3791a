"""The vectors that the index benchmarks search, and the index files made of them; both are kept in .cache/bench.

``clusters`` are synthetic; embeddings are EfficientNet-Lite0's of random crops of 1,317 pictures
(``benchmarks/pictures.py``), in full or reduced by a PCA.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.pictures import CACHE, varied_embeddings
from index import (
    MappedIndex,
    Neighbours,
    build_codes,
    build_hnsw,
    open_hnsw_file,
    open_index,
    search_exact,
)

M, EF_CONSTRUCTION = 16, 200
K = 10
FULL_DIM = 1280  # of the embeddings
QUERIES = 1000
PCA_SAMPLE = 50_000  # embeddings


def clusters(count: int, dim: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors around 200 centres: float32 [count, dim]."""
    centres = np.random.default_rng(0).normal(size=(200, dim)).astype(np.float32)
    rng = np.random.default_rng(seed)
    rows = np.empty((count, dim), np.float32)
    for at in range(0, count, 50_000):
        part = rows[at : at + 50_000]
        part[:] = centres[rng.integers(0, 200, len(part))] + 0.5 * rng.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return rows


def embeddings(count: int, dim: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors of real pictures, float32 [count, dim]; below 1280 dimensions, the leading ones of a PCA."""
    rows = varied_embeddings(count, seed)
    if dim == FULL_DIM:
        return rows
    sample = varied_embeddings(PCA_SAMPLE, 1)
    mean = sample.mean(axis=0)
    axes = np.linalg.eigh(np.cov(sample - mean, rowvar=False))[1][:, ::-1][:, :dim].astype(np.float32)
    reduced = (rows - mean) @ axes
    return reduced / np.linalg.norm(reduced, axis=1, keepdims=True)


@dataclass(frozen=True)
class Case:
    """Vectors to search: so many, so long, synthetic or real; for cosine."""

    count: int
    dim: int
    real: bool = False
    ef_construction: int = EF_CONSTRUCTION

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"{self.count:,} × {self.dim}, {'embeddings' if self.real else 'clusters'}"

    def vectors(self) -> NDArray[np.float32]:
        """The vectors, float32 [count, dim]."""
        return embeddings(self.count, self.dim, 1) if self.real else clusters(self.count, self.dim, 1)

    def queries(self, count: int) -> NDArray[np.float32]:
        """Other vectors of the same kind, float32 [count, dim]."""
        return embeddings(QUERIES, self.dim, 2)[:count] if self.real else clusters(count, self.dim, 2)

    def truth(self, queries: NDArray[np.float32], k: int = K) -> list[Neighbours]:
        """The exact search's answers."""
        return search_exact(self.vectors(), np.arange(self.count), queries, k, "cosine")

    def path(self, suffix: str) -> Path:
        """Where a file made of these vectors is kept."""
        stem = f"{self.count}x{self.dim}-{'real' if self.real else 'clusters'}-{M}-{self.ef_construction}"
        return CACHE / "bench" / f"{stem}.{suffix}"

    def hnsw(self) -> Path:
        """hnswlib's file, built if it is not there; its companion lies next to it."""
        path = self.path("hnsw")
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            chunks = [(np.arange(self.count), self.vectors())]
            build_hnsw(path, chunks, self.count, self.dim, "cosine", m=M, ef_construction=self.ef_construction)
        if not self.path("codes").is_file():
            build_codes(self.path("codes"), open_hnsw_file(path, self.dim), "cosine")
        return path

    def open(self, *, codes: bool) -> MappedIndex:
        """Our index over that file, with its companion or without."""
        return open_index(self.hnsw(), self.dim, "cosine", self.path("codes") if codes else None)
