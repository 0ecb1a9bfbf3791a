"""The boxes in a picture that it has vectors of, next to the one of the whole: so that a part of it can be found.

They are means over windows of one feature map, made at twice the edge that the network was made for: at that edge its
positions see too much of their neighbourhood. The whole picture is shown, padded, and what shows padding counts nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.card import ExtractorCard
from model.engines.base import open_map_engine
from model.errors import MapUnavailable
from model.feature_map import FeatureMap
from model.preprocessing import Preprocessing

SCALE = 2  # times the network's edge
EDGES = ((14, 1), (8, 2), (6, 3))  # a window's edge, in fourteenths of the picture's, and how many stand in a row
FOURTEENTHS = 14
Box = tuple[float, float, float, float]


def _boxes() -> tuple[Box, ...]:
    boxes = []
    for edge, count in EDGES:
        places = [round(place * (FOURTEENTHS - edge) / max(1, count - 1)) for place in range(count)]
        boxes += [(x, y, edge, edge) for y in places for x in places]
    return tuple(tuple(value / FOURTEENTHS for value in box) for box in boxes)  # type: ignore[misc]


WINDOWS = _boxes()  # x, y, width and height, in shares of a picture


def window_preprocessing(card: ExtractorCard) -> Preprocessing:
    """Return how a picture is shown to the network for the vectors of its windows."""
    return card.preprocessing.padded().scaled(SCALE)


def window_vectors(
    found: FeatureMap, view: Box, boxes: Sequence[Box] = WINDOWS, *, normalized: bool = True
) -> NDArray[np.float32]:
    """Return the vectors of boxes in a picture, float32 [boxes, dim]; ``view`` is the box of it that the map shows."""
    features = found.features
    rows, columns, dim = features.shape
    left, top, width, height = view
    vectors = np.empty((len(boxes), dim), np.float32)
    for number, (x, y, wide, tall) in enumerate(boxes):
        across = _span((x - left) / width * columns, (x + wide - left) / width * columns, columns)
        down = _span((y - top) / height * rows, (y + tall - top) / height * rows, rows)
        vectors[number] = features[down, across].mean(axis=(0, 1))
    if normalized:
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return vectors


def _span(start: float, end: float, count: int) -> slice:
    """Return the positions between two places on an edge of ``count``: one at least."""
    first = min(max(0, round(start)), count - 1)
    return slice(first, max(first + 1, min(count, round(end))))


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture as it is shown to the network for its windows: uint8 [height, width, 3], and the box of it that they show."""

    pixels: NDArray[np.uint8]
    view: Box


def show_windows(image: Image.Image, card: ExtractorCard) -> Shown:
    """Return an RGB picture as its windows' vectors are made of it."""
    look = window_preprocessing(card)
    return Shown(look.to_pixels(image), look.view(*image.size))


class WindowEncoder:
    """Makes the vectors of ``boxes`` in pictures by the extractor in ``folder``. Any thread may call it.

    Raises MapUnavailable for a model whose embeddings are no means of a feature map, or that takes pictures of one size only.
    """

    def __init__(
        self, folder: Path, card: ExtractorCard, threads: int | None = None, boxes: Sequence[Box] = WINDOWS
    ) -> None:
        self.boxes = tuple(boxes)
        try:
            self._engine = open_map_engine(folder, card, threads, SCALE)
        except MapUnavailable as error:
            raise MapUnavailable(
                f"boxes in pictures have no vectors with this model ({error}); build without --regions, or with a ResNet "
                "or an EfficientNet"
            ) from None
        self._normalized = card.normalized
        if not self._engine.exact:
            raise MapUnavailable(
                f"the embeddings of {card.model} are no means of a feature map, so that boxes have none"
            )

    def encode(self, shown: Shown) -> NDArray[np.float32]:
        """Return the vectors of the boxes in one picture, float32 [boxes, dim]."""
        found = self._engine.compute(shown.pixels)
        return window_vectors(found, shown.view, self.boxes, normalized=self._normalized)
