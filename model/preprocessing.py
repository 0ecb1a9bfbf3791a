"""RGB picture to the pixels a network takes: timm's evaluation transform, on Pillow and numpy alone.

It gives what ``timm.data.create_transform`` gives before its normalisation (a test holds that; only what the crop keeps is
scaled, which moves one value in some hundreds by rounding), and imports neither timm nor torch, so that the process
which takes requests can use it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# A strip of 60,000 × 3 pixels would grow to 5 million pixels a row when its short edge is scaled up; past this ratio
# only the middle is kept before scaling, since the crop to the network's square would drop the rest anyway.
MAX_ASPECT = 16
LEAST_ENOUGH = 320  # a thumbnail is made of the same decoding


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a model was taught to see: timm's data configuration. ``size`` is (height, width) in pixels."""

    size: tuple[int, int]
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
    crop_pct: float
    crop_mode: Literal["center", "squash", "border"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def enough(self) -> int:
        """Pixels on the shorter edge beyond which a picture gains nothing: twice what it is scaled down to.

        Scaling by the DCT keeps less of the finest detail than the resize that follows; at twice the size that costs a
        cosine of 0.0005 in the mean, at the size itself 0.005 (docs/decisions/0011).
        """
        return max(2 * math.floor(max(self.size) / self.crop_pct), LEAST_ENOUGH)

    def view(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return the box that the network sees of a picture: x, y, width and height in shares of it.

        It is inside the picture where that is cropped, and stands out of it where it is padded.
        """
        keep_width, keep_height = width, height
        tall, wide = (math.floor(edge / self.crop_pct) for edge in self.size)
        if self.crop_mode == "squash":
            new_width, new_height = wide, tall
        else:
            if self.crop_mode == "center":
                keep_width, keep_height = _near_ends(width, height)
            new_width, new_height = self._keep_ratio(keep_width, keep_height, wide, tall)
        share_x, share_y = (
            self.size[1] / new_width * keep_width / width,
            self.size[0] / new_height * keep_height / height,
        )
        return (1 - share_x) / 2, (1 - share_y) / 2, share_x, share_y

    def padded(self) -> Preprocessing:
        """Return the one that shows a whole picture, padded to the network's square, where this one may crop it."""
        return replace(self, crop_pct=1.0, crop_mode="border")

    def scaled(self, scale: int) -> Preprocessing:
        """Return the one for a network that is given pictures of ``scale`` times the edge."""
        return replace(self, size=(scale * self.size[0], scale * self.size[1]))

    def to_pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize and crop an RGB picture to uint8 [height, width, 3]; normalisation is the engine's part."""
        height, width = (math.floor(edge / self.crop_pct) for edge in self.size)
        if self.crop_mode == "squash":
            new_width, new_height = width, height
        else:
            image = image if self.crop_mode == "border" else _without_far_ends(image)
            new_width, new_height = self._keep_ratio(image.width, image.height, width, height)
        if (new_width, new_height) != image.size:
            filter_ = Image.Resampling[self.interpolation.upper()]
            if new_height >= self.size[0] and new_width >= self.size[1]:
                return np.asarray(
                    image.resize(self.size[::-1], filter_, box=self._seen_of(image, new_width, new_height))
                )
            image = image.resize((new_width, new_height), filter_)
        return _centre_crop(np.asarray(image), *self.size, fill=self._border_colour())

    def _seen_of(self, image: Image.Image, width: int, height: int) -> tuple[float, float, float, float]:
        """Return the part of a picture that the crop keeps of it at width × height: scaling the rest is work for nothing."""
        left, top = round((width - self.size[1]) / 2), round((height - self.size[0]) / 2)
        x, y = image.width / width, image.height / height
        return (
            left * x,
            top * y,
            min((left + self.size[1]) * x, image.width),
            min((top + self.size[0]) * y, image.height),
        )

    def _keep_ratio(self, image_width: int, image_height: int, width: int, height: int) -> tuple[int, int]:
        if self.crop_mode == "center" and width == height:
            # torchvision's Resize to one number: the short edge becomes it, the long one is truncated.
            if image_width <= image_height:
                return width, int(width * image_height / image_width)
            return int(height * image_width / image_height), height
        ratios = (image_height / height, image_width / width)
        ratio = max(ratios) if self.crop_mode == "border" else min(ratios)
        return max(1, round(image_width / ratio)), max(1, round(image_height / ratio))

    def _border_colour(self) -> NDArray[np.uint8]:
        # timm pads with the training mean in border mode; torchvision's centre crop pads with black.
        if self.crop_mode == "border":
            return np.array([round(255 * value) for value in self.mean], np.uint8)
        return np.zeros(3, np.uint8)


def _near_ends(width: int, height: int) -> tuple[int, int]:
    return min(width, MAX_ASPECT * height), min(height, MAX_ASPECT * width)


def _without_far_ends(image: Image.Image) -> Image.Image:
    width, height = image.size
    keep_width, keep_height = _near_ends(width, height)
    if (keep_width, keep_height) == (width, height):
        return image
    left, top = (width - keep_width) // 2, (height - keep_height) // 2
    return image.crop((left, top, left + keep_width, top + keep_height))


def _centre_crop(pixels: NDArray[np.uint8], height: int, width: int, fill: NDArray[np.uint8]) -> NDArray[np.uint8]:
    have_height, have_width, _ = pixels.shape
    if have_height < height or have_width < width:
        padded = np.empty((max(height, have_height), max(width, have_width), 3), np.uint8)
        padded[:] = fill
        top, left = (padded.shape[0] - have_height) // 2, (padded.shape[1] - have_width) // 2
        padded[top : top + have_height, left : left + have_width] = pixels
        pixels, (have_height, have_width) = padded, padded.shape[:2]
    top, left = round((have_height - height) / 2), round((have_width - width) / 2)
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])
