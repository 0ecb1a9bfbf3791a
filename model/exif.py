"""What a picture's EXIF block says: when it was taken, and where."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from PIL import ExifTags, Image


def read_captured_at(exif: Image.Exif) -> str | None:
    """Return when the camera says the picture was taken (EXIF DateTimeOriginal), ISO 8601, or None."""
    with suppress(Exception):  # EXIF is written by anyone and checked by no one
        text = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal) or exif.get(ExifTags.Base.DateTime)
        return datetime.strptime(str(text).strip("\0 "), "%Y:%m:%d %H:%M:%S").isoformat() if text else None
    return None


def read_position(exif: Image.Exif) -> tuple[float | None, float | None]:
    """Return latitude and longitude in degrees from EXIF GPS tags, or (None, None)."""
    with suppress(Exception):
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
        degrees = []
        for value, reference, limit in (
            (ExifTags.GPS.GPSLatitude, ExifTags.GPS.GPSLatitudeRef, 90),
            (ExifTags.GPS.GPSLongitude, ExifTags.GPS.GPSLongitudeRef, 180),
        ):
            whole, minutes, seconds = (float(part) for part in gps[value])
            angle = whole + minutes / 60 + seconds / 3600
            sign = -1 if str(gps.get(reference, "")).strip("\0 ").upper() in ("S", "W") else 1
            if not 0 <= angle <= limit:
                return None, None
            degrees.append(round(sign * angle, 7))
        return degrees[0], degrees[1]
    return None, None
