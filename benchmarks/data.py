"""The vectors that the index benchmarks search, and the index files made of them; both are kept in .cache/bench.

``clusters`` are synthetic; ``embeddings`` are EfficientNet-Lite0's of random crops of the 59 sample photos: real features
of real pixels, though of few photos.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from index import (
    MappedIndex,
    Neighbours,
    build_codes,
    build_hnsw,
    open_hnsw_file,
    open_index,
    search_exact,
)

CACHE = Path(__file__).parents[1] / ".cache"
MODEL = "tf_efficientnet_lite0"
BATCH = 32
M, EF_CONSTRUCTION = 16, 200
K = 10


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


def embeddings(count: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors of random crops of the sample photos: float32 [count, 1280]. Made once, some 40 a second."""
    path = CACHE / "bench" / f"embeddings-{count}-{seed}.npy"
    if not path.is_file():
        from model.engines.torch import build_reference  # torch takes seconds and memory, and few cases need it

        path.parent.mkdir(parents=True, exist_ok=True)
        extractor = build_reference(MODEL)
        height, width = extractor.card.preprocessing.size
        rows: list[NDArray[np.float32]] = []
        batch: list[NDArray[np.uint8]] = []
        for crop in _crops(count, seed):
            batch.append(np.asarray(crop.resize((width, height), Image.Resampling.BICUBIC)))
            if len(batch) == BATCH or len(rows) * BATCH + len(batch) == count:
                rows.append(extractor.embed(np.stack(batch)))
                batch = []
        np.save(path, np.vstack(rows))
    return np.load(path)


def _crops(count: int, seed: int) -> Iterator[Image.Image]:
    rng = np.random.default_rng(seed)
    photos = [Image.open(path).convert("RGB") for path in sorted((CACHE / "samples").glob("*/*.jpg"))]
    for photo in photos:
        photo.thumbnail((640, 640))
    for _ in range(count):
        photo = photos[rng.integers(len(photos))]
        side = rng.uniform(0.25, 1) * min(photo.size)
        left, top = rng.uniform(0, photo.width - side), rng.uniform(0, photo.height - side)
        crop = photo.crop((int(left), int(top), int(left + side), int(top + side)))
        yield ImageOps.mirror(crop) if rng.random() < 0.5 else crop


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
        return embeddings(self.count, 1) if self.real else clusters(self.count, self.dim, 1)

    def queries(self, count: int) -> NDArray[np.float32]:
        """Other vectors of the same kind, float32 [count, dim]."""
        return embeddings(1000, 2)[:count] if self.real else clusters(count, self.dim, 2)

    def truth(self, queries: NDArray[np.float32]) -> list[Neighbours]:
        """The exact search's answers."""
        return search_exact(self.vectors(), np.arange(self.count), queries, K, "cosine")

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
