"""The alterations that pictures meet: what a match model is fitted on, and what it is measured by."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

Alter = Callable[[Image.Image, np.random.Generator], Image.Image]
QUALITY = 90  # of the JPEG that an altered picture is, where its quality is not the alteration


def _crop(share: float) -> Alter:
    """Keep a share of a picture's area, anywhere in it."""

    def alter(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        width, height = (max(1, round(edge * share**0.5)) for edge in image.size)
        left, top = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
        return image.crop((left, top, left + width, top + height))

    return alter


def _jpeg(quality: int) -> Alter:
    def alter(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        with Image.open(BytesIO(encode(image, quality))) as decoded:
            return decoded.convert("RGB")

    return alter


def _text(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    written, size = image.copy(), max(8, image.height // 7)
    place = (0.05 * image.width, float(rng.uniform(0.1, 0.7)) * image.height)
    pen = ImageDraw.Draw(written)
    pen.text(place, "SAMPLE TEXT", "white", ImageFont.load_default(size), stroke_width=size // 12, stroke_fill="black")
    return written


def _small(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    small = image.copy()
    small.thumbnail((64, 64))
    return small


ALTERATIONS: dict[str, Alter] = {
    "mirrored": lambda image, rng: ImageOps.mirror(image),
    "crop 80 %": _crop(0.8),
    "crop 50 %": _crop(0.5),
    "crop 25 %": _crop(0.25),
    "JPEG 10": _jpeg(10),
    "JPEG 20": _jpeg(20),
    "rotated 15°": lambda image, rng: image.rotate(15, Image.Resampling.BICUBIC, expand=True, fillcolor="white"),
    "rotated 90°": lambda image, rng: image.transpose(Image.Transpose.ROTATE_90),
    "grey": lambda image, rng: ImageOps.grayscale(image).convert("RGB"),
    "blurred": lambda image, rng: image.filter(ImageFilter.GaussianBlur(max(image.size) / 100)),
    "text": _text,
    "border": lambda image, rng: ImageOps.expand(image, round(0.1 * max(image.size)), "black"),
    "brighter": lambda image, rng: ImageEnhance.Brightness(image).enhance(1.4),
    "64 pixels": _small,
}


def alter(image: Image.Image, name: str, seed: int) -> bytes:
    """Return an RGB picture altered in the way called ``name``, as a JPEG file; the same for the same ``seed``."""
    return encode(ALTERATIONS[name](image, np.random.default_rng(seed)), QUALITY)


def encode(image: Image.Image, quality: int) -> bytes:
    """Return an RGB picture as a JPEG file."""
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
