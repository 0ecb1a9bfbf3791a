"""What cameras and editors write into EXIF: dates and places are read right, or left out."""

from __future__ import annotations

import pytest
from PIL import ExifTags, Image

from model import read_picture
from tests.model.test_images import encoded

Base, Gps = ExifTags.Base, ExifTags.GPS


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (("2021:05:06 07:08:09", "2001:01:01 01:01:01", "2000:01:01 01:01:01"), "2021-05-06T07:08:09"),
        (("0000:00:00 00:00:00", "2021:05:06 07:08:09", "2000:01:01 01:01:01"), "2021-05-06T07:08:09"),
        (("0000:00:00 00:00:00", "    :  :     :  :  ", "2021:05:06 07:08:09"), "2021-05-06T07:08:09"),
        ((None, None, "2021:05:06 07:08:09"), "2021-05-06T07:08:09"),
        (("2021-05-06T07:08:09", None, None), "2021-05-06T07:08:09"),
        (("2021:05:06 07:08:09.123", None, None), "2021-05-06T07:08:09"),
        (("2021:05:06 07:08:09+02:00", None, None), "2021-05-06T07:08:09"),
        (("2021-05-06T07:08:09.5Z", None, None), "2021-05-06T07:08:09"),
        (("2021:05:06 07:08", None, None), "2021-05-06T07:08:00"),
        (("2021:05:06 07:08:09\0", None, None), "2021-05-06T07:08:09"),
        (("2021:13:06 07:08:09", "yesterday", None), None),
    ],
)
def test_the_first_exif_date_that_parses_is_taken(written: tuple[str | None, ...], expected: str | None) -> None:
    exif = Image.Exif()
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    for tag, value in zip((Base.DateTimeOriginal, Base.DateTimeDigitized), written, strict=False):
        if value is not None:
            inner[tag] = value
    if written[2] is not None:
        exif[Base.DateTime] = written[2]
    assert read_picture(encoded(Image.new("RGB", (8, 8)), "JPEG", exif=exif)).captured_at == expected


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("S", -36.8),
        ("South", -36.8),
        ("s", -36.8),
        ("S\0", -36.8),
        (b"S", -36.8),
        ("N", 36.8),
        ("North", 36.8),
        ("", None),
        ("?", None),
        (None, None),
        (7, None),
    ],
)
def test_a_position_has_the_right_sign_or_is_left_out(reference: object, expected: float | None) -> None:
    exif = Image.Exif()
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    gps[Gps.GPSLatitude], gps[Gps.GPSLongitude] = (36.0, 48.0, 0.0), (174.0, 45.0, 0.0)
    gps[Gps.GPSLongitudeRef] = "E"
    if reference is not None:
        gps[Gps.GPSLatitudeRef] = reference
    picture = read_picture(encoded(Image.new("RGB", (8, 8)), "JPEG", exif=exif))
    assert picture.latitude == (None if expected is None else pytest.approx(expected))
    assert picture.longitude == (None if expected is None else pytest.approx(174.75))
