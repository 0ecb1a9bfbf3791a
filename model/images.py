"""Bytes into checked RGB pixels: every picture format people have, with limits that hold before anything is decoded."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from model.errors import ImageError, ImageTooLarge, UnreadableImage, UnsupportedImage
from model.exif import read_captured_at, read_position
from model.formats import PILLOW_FORMATS, SIGNATURES, import_decoders
from model.limits import Limits

import_decoders()
pillow_heif.register_heif_opener()
# What Pillow warns of (a large picture, odd metadata) is checked here or does no harm; a log does not need it.
warnings.filterwarnings("ignore", module="PIL")

STRIP_PIXELS = 250_000
THUMBNAIL = 320  # pixels on the longer edge
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture: RGB pixels turned upright, and what its file says of it.

    ``width`` and ``height`` are those of the upright picture; ``captured_at`` is ISO 8601 local time as the camera
    wrote it; ``latitude`` and ``longitude`` are degrees, north and east positive.
    """

    image: Image.Image
    width: int
    height: int
    captured_at: str | None = None
    latitude: float | None = None
    longitude: float | None = None

    def metadata(self) -> dict[str, object]:
        """Return what is known of the picture, as JSON-ready metadata; what is not known is left out."""
        known = {
            "width": self.width,
            "height": self.height,
            "captured_at": self.captured_at,
            "latitude": self.latitude,
            "longitude": self.longitude,
        }
        return {name: value for name, value in known.items() if value is not None}


def read_picture(data: bytes, limits: Limits = Limits(), enough: int | None = None) -> Picture:
    """Decode one picture: its first frame, upright by its EXIF orientation, any transparency laid on white, in RGB.

    With ``enough``, a large JPEG is decoded at a half, a quarter or an eighth of its size, which its DCT gives at a
    fraction of the cost, as long as both edges keep that many pixels; width and height are those of the whole.

    Raises UnsupportedImage, UnreadableImage or ImageTooLarge; nothing else, whatever the bytes are.
    """
    if not data:
        raise UnreadableImage("the picture is empty (0 bytes)")
    if len(data) > limits.bytes:
        raise ImageTooLarge(_too_many_bytes(len(data), limits))
    try:
        with Image.open(BytesIO(data), formats=PILLOW_FORMATS) as image:
            if image.width * image.height > limits.pixels:
                raise ImageTooLarge(_too_many_pixels(f"{image.width} × {image.height}", limits))
            full = image.size
            if enough is not None:
                image.draft(None, (enough, enough))
            with limits.room.for_pixels(image.width * image.height) if limits.room else nullcontext():
                return _upright(image, full)
    except ImageError:
        raise
    except UnidentifiedImageError:
        if SIGNATURES.match(data):
            raise UnreadableImage("the picture is cut off or damaged near its beginning") from None
        raise UnsupportedImage("the bytes are not a picture in a format that can be read") from None
    except Image.DecompressionBombError:
        raise ImageTooLarge(_too_many_pixels("over 178 million", limits)) from None
    except Exception as error:  # decoders of hostile bytes raise nearly anything: OSError, SyntaxError, struct.error …
        raise UnreadableImage(f"the picture is cut off or damaged ({_first_line(error)})") from None


def read_file(path: Path, limits: Limits = Limits()) -> tuple[bytes, os.stat_result]:
    """Read a picture file's bytes, and what the system says of it; a pipe or a device is never read, nor a file too large.

    Raises UnreadableImage, ImageTooLarge or OSError.
    """
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise UnreadableImage("it is not a file (a folder, pipe or device)")
    if facts.st_size > limits.bytes:
        raise ImageTooLarge(_too_many_bytes(facts.st_size, limits))
    return path.read_bytes(), facts


def _too_many_bytes(found: int, limits: Limits) -> str:
    return f"the picture has {found:,} bytes, more than the {limits.bytes:,} allowed"


def _too_many_pixels(found: str, limits: Limits) -> str:
    return f"the picture has {found} pixels, more than the {limits.pixels:,} allowed"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120] or type(error).__name__


def _upright(image: Image.Image, full: tuple[int, int]) -> Picture:
    image.load()
    exif = image.getexif()
    captured_at, latitude, longitude = read_captured_at(exif), *read_position(exif)
    with suppress(Exception):  # a broken EXIF block is no reason to refuse the pixels
        if (orientation := exif.get(ExifTags.Base.Orientation, 1)) != 1:
            image = ImageOps.exif_transpose(image)
            full = (full[1], full[0]) if orientation in SIDEWAYS else full
    return Picture(to_rgb(image), *full, captured_at, latitude, longitude)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as 8-bit RGB: alpha on white, 16-bit and float samples scaled, CMYK and palettes converted."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        full = _full_scale(image)
        return _by_strips(image, lambda strip: Image.fromarray(_to_8_bits(_samples(strip), full)).convert("RGB"))
    if image.has_transparency_data:
        return _by_strips(image, _on_white)
    return image.convert("RGB")


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield the picture in strips, each with its first row: a copy of the whole would take its memory again."""
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(image.height, top + rows)))


def _by_strips(image: Image.Image, to_rgb: Callable[[Image.Image], Image.Image]) -> Image.Image:
    whole = Image.new("RGB", image.size)
    for top, strip in _strips(image):
        whole.paste(to_rgb(strip), (0, top))
    return whole


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba).convert("RGB")


def _samples(image: Image.Image) -> np.ndarray:
    return np.nan_to_num(np.asarray(image).astype(np.float64))


def _full_scale(image: Image.Image) -> float:
    """Return the range that the samples' own kind suggests: 0–1 for floats, 8, 16 or 32 bits for integers."""
    peak = max((float(_samples(strip).max(initial=0)) for _, strip in _strips(image)), default=0.0)
    kind = np.asarray(image.crop((0, 0, 1, 1))).dtype
    if kind.kind == "f" and peak <= 1:
        return 1.0
    return 255.0 if peak <= 255 and kind.itemsize != 2 else 65535.0 if peak <= 65535 else peak


def _to_8_bits(samples: np.ndarray, full: float) -> np.ndarray:
    return np.clip(samples * (255 / full) + 0.5, 0, 255).astype(np.uint8)


def thumbnail(image: Image.Image, side: int = THUMBNAIL) -> bytes:
    """Return a small JPEG of an RGB picture, at most ``side`` pixels on its longer edge."""
    scale = min(1, side / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # Bilinear is as good to the eye as bicubic here, at half its cost.
    small = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0) if scale < 1 else image
    buffer = BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
