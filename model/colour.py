"""Any picture that Pillow has decoded as 8-bit sRGB: colour profiles, alpha, palettes, deep and odd samples."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

STRIP_PIXELS = 250_000
TIFF_PHOTOMETRIC, TIFF_MAX_SAMPLE, TIFF_BITS = 262, 281, 258
WHITE_IS_ZERO = 0
DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras and scanners put into samples of 16
MAX_PROFILE_BYTES = 4 * 1024**2


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as 8-bit sRGB: its ICC profile applied, alpha on white, 16-bit and float samples scaled.

    A profile that is broken, or is for another kind of samples, is ignored.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        full, inverted = _full_scale(image), _tag(image, TIFF_PHOTOMETRIC) == WHITE_IS_ZERO
        return _by_strips(
            image, lambda strip: Image.fromarray(_to_8_bits(_samples(strip), full, inverted)).convert("RGB")
        )
    if image.mode == "LAB":
        return _by_strips(image, lambda strip: ImageCms.applyTransform(strip, _from_lab()) or strip)
    profile = image.info.get("icc_profile")
    if image.has_transparency_data:
        change = _change(profile, "RGBA")
        return _by_strips(image, lambda strip: _on_white(_changed(strip.convert("RGBA"), change)))
    if image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    if (change := _change(profile, image.mode)) is not None:
        return _by_strips(image, lambda strip: _changed(strip, change))
    return image if image.mode == "RGB" else image.convert("RGB")


def _change(profile: object, mode: str) -> ImageCms.ImageCmsTransform | None:
    if not isinstance(profile, bytes) or not 0 < len(profile) <= MAX_PROFILE_BYTES:
        return None
    return _to_srgb(profile, mode)


@functools.lru_cache(32)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return what brings samples of ``mode`` from a profile to sRGB, or None where they are sRGB, or it is of no use."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if "srgb" in (source.profile.profile_description or "").lower():  # most pictures: nothing to do
            return None
        return ImageCms.buildTransform(source, _srgb(), mode, "RGBA" if mode == "RGBA" else "RGB")
    except Exception:  # a profile is bytes that anyone wrote, and of another mode quite often
        return None


@functools.cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@functools.cache
def _from_lab() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), _srgb(), "LAB", "RGB")


def _changed(image: Image.Image, change: ImageCms.ImageCmsTransform | None) -> Image.Image:
    return image if change is None else ImageCms.applyTransform(image, change) or image


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield the picture in strips, each with its first row: a copy of the whole would take its memory again."""
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(image.height, top + rows)))


def _by_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    whole = Image.new("RGB", image.size)
    for top, strip in _strips(image):
        whole.paste(convert(strip), (0, top))
    return whole


def _on_white(rgba: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba).convert("RGB")


def _samples(image: Image.Image) -> np.ndarray:
    return np.nan_to_num(np.asarray(image).astype(np.float64))


def _tag(image: Image.Image, tag: int) -> float | None:
    """Return a number from a TIFF's tags, or None."""
    value = getattr(image, "tag_v2", {}).get(tag)
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, (int, float)) else None


def _full_scale(image: Image.Image) -> float:
    """Return the sample that is white: 1 for floats up to there, else what the samples' depth gives.

    A TIFF's samples of 16 bits may hold 10 or 12: its tags say so, or its largest sample does.
    """
    peak = max((float(_samples(strip).max(initial=0)) for _, strip in _strips(image)), default=0.0)
    kind = np.asarray(image.crop((0, 0, 1, 1))).dtype
    if kind.kind == "f" and peak <= 1:
        return 1.0
    if kind.itemsize == 2 and image.format == "TIFF":
        bits, stated = _tag(image, TIFF_BITS) or 16, _tag(image, TIFF_MAX_SAMPLE) or 0
        largest = stated if peak <= stated < 65536 and stated >= 255 else peak
        return 2.0 ** (bits if 8 <= bits < 16 else next(depth for depth in DEPTHS if largest < 2**depth)) - 1
    return 255.0 if peak <= 255 and kind.itemsize != 2 else 65535.0 if peak <= 65535 else peak


def _to_8_bits(samples: np.ndarray, full: float, inverted: bool) -> np.ndarray:
    scaled = np.clip(samples * (255 / full) + 0.5, 0, 255).astype(np.uint8)
    return 255 - scaled if inverted else scaled
