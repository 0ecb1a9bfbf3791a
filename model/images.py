"""Bytes into checked RGB pixels: every picture format people have, with limits that hold before anything is decoded."""

from __future__ import annotations

import os
import stat
import warnings
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import ClassVar

import pillow_heif
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from model.colour import to_rgb
from model.errors import ImageError, ImageTooLarge, UnreadableImage, UnsupportedImage
from model.exif import read_captured_at, read_position
from model.formats import PILLOW_FORMATS, SIGNATURES, import_decoders
from model.jpeg import CUT_SHORT, completed, pixels_to_decode, read_frame
from model.limits import Limits
from model.tiff import describe_tiff

import_decoders()
pillow_heif.register_heif_opener()
Image.MAX_IMAGE_PIXELS = None  # the limit here is on what is decoded, and holds before it is
# What Pillow warns of (a large picture, odd metadata) is checked here or does no harm; a log does not need it.
warnings.filterwarnings("ignore", module="PIL")

THUMBNAIL = 320  # pixels on the longer edge
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture: RGB pixels turned upright, and what its file says of it.

    ``width`` and ``height`` are those of the upright picture; ``captured_at`` is ISO 8601 local time as the camera
    wrote it; ``latitude`` and ``longitude`` are degrees, north and east positive; ``format`` is the file's, by Pillow's name.
    """

    image: Image.Image
    width: int
    height: int
    captured_at: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    format: str = ""
    FIELDS: ClassVar = ("width", "height", "captured_at", "latitude", "longitude")

    def metadata(self) -> dict[str, object]:
        """Return what is known of the picture, as JSON-ready metadata; what is not known is left out."""
        known = {name: getattr(self, name) for name in self.FIELDS}
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
        return _decoded(data, limits, enough)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    except Exception as error:  # decoders of hostile bytes raise nearly anything: OSError, SyntaxError, struct.error …
        raise UnreadableImage(f"the picture is cut off or damaged ({_first_line(error)})") from None


def _decoded(data: bytes, limits: Limits, enough: int | None) -> Picture:
    with Image.open(BytesIO(data), formats=PILLOW_FORMATS) as image:
        full = image.size
        if enough is not None:
            image.draft(None, (enough, enough))
        pixels = image.width * image.height
        if image.size != full:
            pixels = pixels_to_decode(data, full[0] * full[1], pixels)
        if pixels > limits.pixels:
            raise ImageTooLarge(_too_many_pixels(full, pixels, limits))
        with limits.room.for_pixels(pixels) if limits.room else nullcontext():
            try:
                return _upright(image, full)
            except OSError as error:
                if image.format not in ("JPEG", "MPO") or CUT_SHORT not in str(error):
                    raise
                if (whole := completed(data)) is None:
                    raise
    return _decoded(whole, limits, enough)


def _unidentified(data: bytes) -> ImageError:
    """Return why no decoder took the bytes."""
    if not (found := SIGNATURES.match(data)):
        return UnsupportedImage("the bytes are not a picture in a format that can be read")
    if found[0].startswith((b"II", b"MM")) and (samples := describe_tiff(data)):
        return UnsupportedImage(f"a TIFF of {samples} cannot be read; save it with 1, 3 or 4 bands of 8 or 16 bits")
    if found[0].startswith(b"\xff\xd8") and (frame := read_frame(data)) and frame.bits != 8:
        return UnsupportedImage(f"a JPEG of {frame.bits}-bit samples cannot be read; save it with 8 bits")
    return UnreadableImage("the picture is cut off or damaged near its beginning")


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
    return f"the picture has {found:,} bytes, more than the {limits.bytes:,} allowed (LENS_MAX_BYTES)"


def _too_many_pixels(full: tuple[int, int], decoded: int, limits: Limits) -> str:
    part = "" if decoded == full[0] * full[1] else f", {decoded:,} of them to decode"
    return (
        f"the picture has {full[0]} × {full[1]} pixels{part}, more than the {limits.pixels:,} allowed (LENS_MAX_PIXELS)"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120] or type(error).__name__


def _upright(image: Image.Image, full: tuple[int, int]) -> Picture:
    image.load()
    name = image.format or ""
    exif = image.getexif()
    captured_at, latitude, longitude = read_captured_at(exif), *read_position(exif)
    with suppress(Exception):  # a broken EXIF block is no reason to refuse the pixels
        if (orientation := exif.get(ExifTags.Base.Orientation, 1)) != 1:
            image = ImageOps.exif_transpose(image)
            full = (full[1], full[0]) if orientation in SIDEWAYS else full
    return Picture(to_rgb(image), *full, captured_at, latitude, longitude, name)


def thumbnail(image: Image.Image, side: int = THUMBNAIL) -> bytes:
    """Return a small JPEG of an RGB picture, at most ``side`` pixels on its longer edge."""
    scale = min(1, side / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # Bilinear is as good to the eye as bicubic here, at half its cost.
    small = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0) if scale < 1 else image
    buffer = BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
