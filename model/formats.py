"""The image formats that are read, stated once: suffixes, decoders, signatures and what the documentation says follow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePath


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
        "HEIC", ("HEIF",), (), (".heic", ".heif", ".hif"), ("image/heic", "image/heif"), rb"....ftyp(he[iv]|mif1|msf1)"
    ),  # its decoder is pillow-heif's
    ImageFormat("GIF", ("GIF",), ("Gif",), (".gif",), ("image/gif",), rb"GIF8[79]a"),
    ImageFormat("TIFF", ("TIFF",), ("Tiff",), (".tif", ".tiff"), ("image/tiff",), rb"II[*+]\0|MM\0[*+]"),
    ImageFormat("BMP", ("BMP",), ("Bmp",), (".bmp", ".dib"), ("image/bmp",), rb"BM....\0\0\0\0"),
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
BEGINNING = 16  # bytes that any of the signatures needs
FORMAT_NAMES = ", ".join(one.name for one in FORMATS[:-1]) + f" and {FORMATS[-1].name}"


def import_decoders() -> None:
    """Import Pillow's decoders of these formats now, not in the middle of a request; Image.init() would import dozens."""
    for one in FORMATS:
        for plugin in one.plugins:
            import_module(f"PIL.{plugin}ImagePlugin")


def has_picture_suffix(name: str) -> bool:
    """Return whether a file's name ends as those of pictures do."""
    return PurePath(name).suffix.lower() in SUFFIXES


def looks_like_a_picture(path: Path) -> bool:
    """Return whether a file is to be read as a picture: by its suffix, or, where that says nothing, by its first bytes.

    Cameras' raw files begin as TIFF does, so TIFF is known by its suffix, or where there is none. What cannot be opened is
    taken for a picture, so that its reason is told when it is read.
    """
    if has_picture_suffix(path.name):
        return True
    suffix = path.suffix.lower()
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            found = SIGNATURES.match(file.read(BEGINNING))
    except OSError:
        return not suffix
    return found is not None and not (suffix and found[0].startswith((b"II", b"MM")))
