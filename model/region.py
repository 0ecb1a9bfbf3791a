"""A box in a picture, in shares of its width and height, so that it means the same at any size."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image

LEAST = 1e-3  # share of an edge: what is smaller shows nothing


@dataclass(frozen=True, slots=True)
class Region:
    """A box in the upright picture: its left and top edge, its width and its height, each a share from 0 to 1.

    What stands out over the right or the lower edge is cut off. Raises ValueError for a box that is none.
    """

    x: float
    y: float
    width: float
    height: float

    def __post_init__(self) -> None:
        if not (0 <= self.x < 1 and 0 <= self.y < 1 and 0 < self.width <= 1 and 0 < self.height <= 1):
            raise ValueError("a region is [x, y, width, height], shares of the picture: from 0 to 1, and not empty")

    def values(self) -> tuple[float, float, float, float]:
        """Return x, y, width and height."""
        return self.x, self.y, self.width, self.height

    def enough(self, pixels: int) -> int:
        """Return how many pixels the shorter edge of the whole picture needs so that the box's has ``pixels``."""
        return math.ceil(pixels / max(min(self.width, self.height), LEAST))

    def crop(self, image: Image.Image) -> Image.Image:
        """Cut the box out of a picture; it has a pixel at least."""
        left, top = min(int(self.x * image.width), image.width - 1), min(int(self.y * image.height), image.height - 1)
        right = max(left + 1, min(image.width, round((self.x + self.width) * image.width)))
        bottom = max(top + 1, min(image.height, round((self.y + self.height) * image.height)))
        return image.crop((left, top, right, bottom))
