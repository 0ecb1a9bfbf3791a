"""Where in a picture its similarity to another comes from.

Where embeddings are means of a feature map, the cosine of a picture with features f (P positions, mean f̄) and another with
the embedding s is exactly the sum of the parts ``s · f_p / (P |s| |f̄|)``. What all pictures of a collection have in common is
in each part; with the collection's mean μ taken out of s, the parts say what these two have in common and others have not.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model import FeatureMap, Preprocessing

SIDE = 320  # pixels on each edge of an overlay
DARKEST = 0.25  # share of its light that what adds nothing keeps

Source = Literal["query", "original", "thumbnail"]


@dataclass(frozen=True, slots=True)
class Shares:
    """What each position of a picture adds to a score.

    ``parts``: float64 [rows, columns], which sum to the cosine where the map is exact; ``contrast``: the same beyond what the
    whole collection has. ``view``: the box that the network sees of the picture, ``strongest``: that of the position with the
    largest contrast: x, y, width and height in shares of the picture. ``overlay``: a JPEG of what the network sees, the
    brighter the more it adds. ``source``: which file was looked at.
    """

    parts: NDArray[np.float64]
    contrast: NDArray[np.float64]
    view: tuple[float, float, float, float]
    strongest: tuple[float, float, float, float]
    overlay: bytes
    source: Source


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an item is a hit: its score, and the shares of the query's picture, if it has one, and of the item's.

    ``exact``: the parts sum to the cosine, but for a hit whose thumbnail was looked at.
    """

    score: float
    exact: bool
    query: Shares | None
    hit: Shares


def parts_of(found: FeatureMap, other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what each position adds to the cosine with another embedding, float32 [dim]: float64 [rows, columns].

    They sum to the cosine; for a map that is not exact, to that of the mean of its tokens.
    """
    features, vector = found.features.astype(np.float64), other.astype(np.float64)
    rows, columns, _ = features.shape
    length = np.linalg.norm(features.mean(axis=(0, 1))) * np.linalg.norm(vector) * rows * columns
    return np.asarray(features @ vector / max(float(length), 1e-12))


def contrast_of(found: FeatureMap, other: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what each position adds beyond what all of a collection have, whose ``mean`` is float32 [dim]."""
    return parts_of(found, np.asarray(other - mean, np.float32))


def shares_of(
    image: Image.Image,
    look: Preprocessing,
    found: FeatureMap,
    other: NDArray[np.float32],
    mean: NDArray[np.float32],
    source: Source,
) -> Shares:
    """Return what each position of a picture adds to its score with another embedding; ``look`` made the map's pixels."""
    contrast = contrast_of(found, other, mean)
    left, top, width, height = view = look.view(*image.size)
    rows, columns = contrast.shape
    row, column = divmod(int(contrast.argmax()), columns)
    strongest = (left + column / columns * width, top + row / rows * height, width / columns, height / rows)
    return Shares(parts_of(found, other), contrast, view, strongest, _overlay(image, look, contrast), source)


def _overlay(image: Image.Image, look: Preprocessing, contrast: NDArray[np.float64]) -> bytes:
    """Return a JPEG of what the network sees, the darker the less a position adds."""
    seen = Image.fromarray(look.to_pixels(image)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    light = np.clip(contrast / max(float(contrast.max()), 1e-12), 0, 1) * (1 - DARKEST) + DARKEST
    mask = Image.fromarray(np.asarray(255 * light, np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    stored = BytesIO()
    Image.composite(seen, Image.new("RGB", seen.size), mask).save(stored, "JPEG", quality=85)
    return stored.getvalue()
