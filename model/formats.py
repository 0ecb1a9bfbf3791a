"""The image formats that are read, stated once: suffixes, decoders, signatures and what the documentation says follow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """A format: its name, Pillow's names of its decoders and the module they are in, its suffixes and media types.

    ``signature`` is a pattern of how its files begin, to tell a damaged picture from bytes that never were one.
    """

    name: str
    pillow: tuple[str, ...]
    plugins: tuple[str, ...]
    suffixes: tuple[str, ...]
    media_types: tuple[str, ...]
    signature: bytes


# Only formats that Pillow decodes itself: EPS, for one, would start Ghostscript on a stranger's bytes.
FORMATS = (
    ImageFormat(
        "JPEG",
        ("JPEG",),
        ("Jpeg", "Mpo"),
        (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
        ("image/jpeg",),
        rb"\xff\xd8\xff",
    ),
    ImageFormat("PNG", ("PNG",), ("Png",), (".png", ".apng"), ("image/png",), rb"\x89PNG\r\n"),
    ImageFormat("WebP", ("WEBP",), ("WebP",), (".webp",), ("image/webp",), rb"RIFF....WEBP"),
    ImageFormat("AVIF", ("AVIF",), ("Avif",), (".avif",), ("image/avif",), rb"....ftyp(avif|avis)"),
    ImageFormat(
        "HEIC", ("HEIF",), (), (".heic", ".heif"), ("image/heic", "image/heif"), rb"....ftyp(hei|mif1|msf1)"
    ),  # its decoder is pillow-heif's
    ImageFormat("GIF", ("GIF",), ("Gif",), (".gif",), ("image/gif",), rb"GIF8[79]a"),
    ImageFormat("TIFF", ("TIFF",), ("Tiff",), (".tif", ".tiff"), ("image/tiff",), rb"II\*\0|MM\0\*"),
    ImageFormat("BMP", ("BMP",), ("Bmp",), (".bmp", ".dib"), ("image/bmp",), rb"BM"),
    ImageFormat("JPEG 2000", ("JPEG2000",), ("Jpeg2K",), (".jp2", ".j2k"), ("image/jp2",), rb"\0\0\0\x0cjP  "),
    ImageFormat(
        "PPM",
        ("PPM",),
        ("Ppm",),
        (".ppm", ".pgm", ".pbm"),
        ("image/x-portable-anymap",),
        rb"P[1-6]\s",
    ),
)
PILLOW_FORMATS = tuple(name for one in FORMATS for name in one.pillow)
SUFFIXES = frozenset(suffix for one in FORMATS for suffix in one.suffixes)
SIGNATURES = re.compile(b"|".join(b"(?:" + one.signature + b")" for one in FORMATS), re.DOTALL)
FORMAT_NAMES = ", ".join(one.name for one in FORMATS[:-1]) + f" and {FORMATS[-1].name}"


def import_decoders() -> None:
    """Import Pillow's decoders of these formats now, not in the middle of a request; Image.init() would import dozens."""
    for one in FORMATS:
        for plugin in one.plugins:
            import_module(f"PIL.{plugin}ImagePlugin")


def looks_like_a_picture(path: Path) -> bool:
    """Return whether a file's name suggests a picture; one with no suffix may be one."""
    return path.suffix.lower() in SUFFIXES or not path.suffix
