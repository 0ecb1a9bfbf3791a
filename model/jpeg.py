"""What Pillow does not tell of a JPEG: what decoding it takes, and how much of one that is cut short is there."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

END = b"\xff\xd9"
LOST = 0.02  # share of the pixels that may be missing: the last two bytes are none, and a few more the last blocks
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the SOF markers
BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
SMALLEST_DRAFT = 8  # of a large JPEG this part of each edge is decoded at least
COMPARED = 2048  # pixels on an edge that are enough to see what is missing
CUT_SHORT = "truncated"  # in what Pillow says of data that ends too early


@dataclass(frozen=True, slots=True)
class JpegFrame:
    """What a JPEG's header says: bits of a sample, and whether all coefficients are held before any pixel comes out."""

    bits: int
    buffered: bool


def read_frame(data: bytes) -> JpegFrame | None:
    """Read a JPEG's header up to its first scan; None where there is none."""
    at, bits, components, progressive = 2, 0, 0, False
    while 0 <= (at := data.find(b"\xff", at)) < len(data) - 9:
        marker = data[at + 1]
        if marker in BARE or marker in (0x00, 0xFF):
            at += 1 if marker == 0xFF else 2
            continue
        if marker in FRAMES:
            bits, components, progressive = data[at + 4], data[at + 9], marker not in (0xC0, 0xC1)
        if marker == 0xDA:
            return JpegFrame(bits, progressive or data[at + 4] < components) if bits else None
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return JpegFrame(bits, progressive) if bits else None


def pixels_to_decode(data: bytes, full: int, drafted: int) -> int:
    """Return how many pixels' worth of memory and work a JPEG takes that has ``full`` pixels and is decoded at ``drafted``.

    The coefficients of a progressive one are all held at once, at up to half of a pixel's bytes; of any other each block
    is still read.
    """
    frame = read_frame(data)
    return max(drafted, full // 2 if frame and frame.buffered else full // SMALLEST_DRAFT)


def completed(data: bytes) -> bytes | None:
    """Return a JPEG that lacks its end with an end put to it; None where more than the very last of the picture is missing.

    libjpeg fills what is missing with grey, and says nothing. So the picture is decoded twice, once with noise for what
    may be missing: the pixels that differ are those that are not there.
    """
    data = data.rstrip(END[:1])  # half of the end mark
    whole = data + END
    noise = np.random.default_rng(0).integers(0, 128, len(data), np.uint8).tobytes()
    try:
        one, other = _small(whole), _small(data + noise + END)
    except Exception:  # hostile bytes: see read_picture
        return None
    return whole if (one != other).mean() <= LOST else None


def _small(data: bytes) -> np.ndarray:
    with Image.open(BytesIO(data), formats=("JPEG",)) as image:
        # Half of the size shows the coefficients that the last scans of a progressive one refine; an eighth does not.
        image.draft(None, (min(image.width // 2, COMPARED) or 1, min(image.height // 2, COMPARED) or 1))
        return np.asarray(image)
