"""The last feature map of a network: what an embedding is made of, position by position.

A network with global average pooling gives the mean of its map, so that what a position adds to a similarity is exact. A
vision transformer gives a class token, or a mean that is changed afterwards: its patches' tokens stand for their places only
roughly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.card import ExtractorCard
from model.preprocessing import Preprocessing


@dataclass(frozen=True, slots=True)
class FeatureMap:
    """A picture's features by position, float32 [rows, columns, dim]; ``exact``: their mean is its embedding, not scaled."""

    features: NDArray[np.float32]
    exact: bool


class MapEngine(Protocol):
    """Computes feature maps of what ``preprocessing`` makes of pictures. Any thread may call it."""

    preprocessing: Preprocessing

    def compute(self, pixels: NDArray[np.uint8]) -> FeatureMap:
        """Return the map of one picture, uint8 [height, width, 3]."""
        ...


def open_map_engine(folder: Path, card: ExtractorCard, threads: int, scale: int = 1) -> MapEngine:
    """Open what computes maps by the extractor in ``folder``, of pictures of ``scale`` times the edge that it was made for.

    Raises DamagedExtractor, or MapUnavailable for a model that has no map, or takes pictures of one size only.
    """
    from model.engines.openvino_map import OpenVinoMapEngine

    return OpenVinoMapEngine(folder, card, threads, scale)
