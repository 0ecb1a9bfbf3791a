"""What a picture's EXIF block says: when it was taken, and where."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime
from typing import Any

from PIL import ExifTags, Image

# "2024:05:01 12:30:45" by the standard; others write "2024-05-01T12:30:45.123+02:00", or leave the seconds out.
_TIME = re.compile(
    r"(\d{4})[:/.-](\d\d?)[:/.-](\d\d?)[ T]+(\d\d?):(\d\d)(?::(\d\d))?(?:[.,]\d+)?\s*(?:Z|UTC|[+-]\d\d:?\d\d)?"
)


def read_captured_at(exif: Image.Exif) -> str | None:
    """Return when the picture was taken, ISO 8601 in the camera's local time, or None.

    It is the first that is a time of EXIF's DateTimeOriginal, DateTimeDigitized and DateTime.
    """
    with suppress(Exception):  # EXIF is written by anyone and checked by no one
        inner = exif.get_ifd(ExifTags.IFD.Exif)
        for value in (
            inner.get(ExifTags.Base.DateTimeOriginal),
            inner.get(ExifTags.Base.DateTimeDigitized),
            exif.get(ExifTags.Base.DateTime),
        ):
            if (time := _parse_time(value)) is not None:
                return time.isoformat()
    return None


def _parse_time(value: Any) -> datetime | None:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
    if (parts := _TIME.fullmatch(text.strip("\0 \r\n\t"))) is None:
        return None
    try:
        return datetime(*(int(part or 0) for part in parts.groups()))  # type: ignore[arg-type]
    except ValueError:  # zeros, as a camera writes whose clock was never set
        return None


def read_position(exif: Image.Exif) -> tuple[float | None, float | None]:
    """Return latitude and longitude in degrees from EXIF GPS tags, or (None, None): also where a hemisphere is not clear."""
    with suppress(Exception):
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
        latitude = _angle(gps[ExifTags.GPS.GPSLatitude], gps.get(ExifTags.GPS.GPSLatitudeRef), "NS", 90)
        longitude = _angle(gps[ExifTags.GPS.GPSLongitude], gps.get(ExifTags.GPS.GPSLongitudeRef), "EW", 180)
        if latitude is not None and longitude is not None:
            return latitude, longitude
    return None, None


def _angle(value: Any, reference: Any, signs: str, limit: int) -> float | None:
    """Return degrees from one to three numbers (degrees, minutes, seconds) and their hemisphere, or None."""
    parts = [float(part) for part in value] if isinstance(value, (tuple, list)) else [float(value)]
    angle = sum(part / 60**place for place, part in enumerate(parts))
    if isinstance(reference, (tuple, list)):
        reference = bytes(reference) if all(isinstance(one, int) for one in reference) else "".join(map(str, reference))
    text = reference.decode("ascii", "replace") if isinstance(reference, bytes) else str(reference or "")
    letter = text.strip("\0 ").upper()[:1]
    if not 0 <= angle <= limit or letter not in signs or not letter:  # a sign that is guessed puts it on the wrong side
        return None
    return round(-angle if letter == signs[1] else angle, 7)
