"""The last feature map of a network: what an embedding is made of, position by position.

A network with global average pooling gives the mean of its map, so that what a position adds to a similarity is exact. A
vision transformer gives a class token, or a mean that is changed afterwards: its patches' tokens stand for their places only
roughly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.preprocessing import Preprocessing


@dataclass(frozen=True, slots=True)
class FeatureMap:
    """A picture's features by position, float32 [rows, columns, dim]; ``exact``: their mean is its embedding, not scaled."""

    features: NDArray[np.float32]
    exact: bool


class MapEngine(Protocol):
    """Computes feature maps of what ``preprocessing`` makes of pictures. Any thread may call it."""

    preprocessing: Preprocessing
    exact: bool

    def compute(self, pixels: NDArray[np.uint8]) -> FeatureMap:
        """Return the map of one picture, uint8 [height, width, 3]."""
        ...
