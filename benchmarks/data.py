"""The vectors that the index benchmarks search: synthetic clusters, and real embeddings of crops of the sample photos."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from model import build_extractor

CACHE = Path(__file__).parents[1] / ".cache"
MODEL = "tf_efficientnet_lite0"
BATCH = 32


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
    """Unit vectors of random crops of the 59 sample photos by EfficientNet-Lite0: float32 [count, 1280]; kept in .cache."""
    path = CACHE / "bench" / f"embeddings-{count}-{seed}.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        extractor = build_extractor(MODEL)
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
