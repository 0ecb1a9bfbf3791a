"""What the samples of a TIFF are that Pillow does not read."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO

from PIL.TiffImagePlugin import ImageFileDirectory_v2

BITS, BANDS, KIND = 258, 277, 339
KINDS = {1: "integer", 2: "signed integer", 3: "float", 5: "complex", 6: "complex"}
HEADER = 8


def describe_tiff(data: bytes) -> str:
    """Return the number of bands, bits and kind of a TIFF's samples in words; empty where its header cannot be read."""
    with suppress(Exception):  # hostile bytes
        big = data[2] == 43 or data[3] == 43
        stream = BytesIO(data)
        tags = ImageFileDirectory_v2(stream.read(2 * HEADER if big else HEADER))
        stream.seek(tags.next)
        tags.load(stream)
        bits, kind = tags.get(BITS, (1,)), tags.get(KIND, (1,))
        bands = int(tags.get(BANDS, len(bits)))
        depth = bits[0] if isinstance(bits, tuple) else bits
        name = KINDS.get(kind[0] if isinstance(kind, tuple) else kind, "unknown")
        return f"{bands} band{'s' * (bands > 1)} of {depth}-bit {name} samples"
    return ""
