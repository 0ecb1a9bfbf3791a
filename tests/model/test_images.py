"""Reading pictures: what people have is read right, and what cannot be read is refused by name."""

from __future__ import annotations

import contextlib
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from model import ImageError, ImageTooLarge, Limits, UnreadableImage, UnsupportedImage, read_picture, thumbnail

RED = (200, 30, 40)


def encoded(image: Image.Image, format_: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def colour(data: bytes) -> tuple[int, ...]:
    image = read_picture(data).image
    assert image.mode == "RGB"
    return tuple(int(value) for value in np.asarray(image).reshape(-1, 3).mean(axis=0).round())


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF", "BMP", "GIF", "JPEG2000", "PPM"])
def test_every_common_format_is_read_as_rgb(format_: str) -> None:
    assert colour(encoded(Image.new("RGB", (40, 30), RED), format_)) == pytest.approx(RED, abs=4)


def test_a_cmyk_jpeg_keeps_its_colour() -> None:
    assert colour(encoded(Image.new("RGB", (16, 16), RED).convert("CMYK"), "JPEG")) == pytest.approx(RED, abs=6)


def test_transparency_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert colour(encoded(clear, "PNG")) == (255, 255, 255)
    half = Image.new("LA", (8, 8), (0, 128))
    assert colour(encoded(half, "PNG")) == pytest.approx((127, 127, 127), abs=1)


def test_a_palette_with_a_transparent_entry_is_laid_on_white() -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30, *RED])
    assert colour(encoded(image, "PNG", transparency=0)) == (255, 255, 255)
    assert colour(encoded(image, "PNG")) == (10, 20, 30)


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    samples = np.full((8, 8), 32768, np.uint16)
    assert colour(encoded(Image.fromarray(samples), "PNG")) == pytest.approx((128, 128, 128), abs=1)
    assert colour(encoded(Image.fromarray(samples), "TIFF")) == pytest.approx((128, 128, 128), abs=1)


def test_a_dark_16_bit_picture_stays_dark() -> None:
    samples = np.full((8, 8), 200, np.uint16)
    assert colour(encoded(Image.fromarray(samples), "PNG")) == (1, 1, 1)


def test_float_and_bilevel_pictures_are_read() -> None:
    assert colour(encoded(Image.fromarray(np.full((8, 8), 0.5, np.float32)), "TIFF")) == pytest.approx(
        (128,) * 3, abs=1
    )
    assert colour(encoded(Image.new("1", (8, 8), 1), "PNG")) == (255, 255, 255)


@pytest.mark.parametrize("format_", ["GIF", "WEBP"])
def test_of_an_animation_the_first_frame_is_taken(format_: str) -> None:
    frames = [Image.new("RGB", (8, 8), RED), Image.new("RGB", (8, 8), (0, 0, 255))]
    data = encoded(frames[0], format_, save_all=True, append_images=frames[1:])
    assert colour(data) == pytest.approx(RED, abs=8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_turned_upright(orientation: int) -> None:
    upright = Image.new("RGB", (30, 20), (0, 0, 0))
    upright.paste((255, 255, 255), (0, 0, 15, 10))  # white in the top left corner
    turn = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = upright
    for step in turn.get(orientation, []):
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    picture = read_picture(encoded(stored, "PNG", exif=exif))
    assert (picture.width, picture.height) == (30, 20)
    assert picture.image.getpixel((2, 2)) == (255, 255, 255)
    assert picture.image.getpixel((28, 18)) == (0, 0, 0)


def test_capture_time_and_place_become_metadata() -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2021:05:06 07:08:09"
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    gps[ExifTags.GPS.GPSLatitudeRef], gps[ExifTags.GPS.GPSLatitude] = "S", (33.0, 51.0, 30.0)
    gps[ExifTags.GPS.GPSLongitudeRef], gps[ExifTags.GPS.GPSLongitude] = "E", (151.0, 12.0, 0.0)
    metadata = read_picture(encoded(Image.new("RGB", (12, 9)), "JPEG", exif=exif)).metadata()
    assert metadata == {
        "width": 12,
        "height": 9,
        "captured_at": "2021-05-06T07:08:09",
        "latitude": pytest.approx(-33.8583333),
        "longitude": pytest.approx(151.2),
    }


def test_nonsense_in_exif_is_left_out() -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "0000:00:00 00:00:00"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (999.0, 0.0, 0.0)
    metadata = read_picture(encoded(Image.new("RGB", (4, 4)), "JPEG", exif=exif)).metadata()
    assert metadata == {"width": 4, "height": 4}


def test_bytes_that_are_no_picture_are_unsupported() -> None:
    for data in (b"hello, this is text", b"%PDF-1.7 and so on", b"%!PS-Adobe-3.0 EPSF-3.0\n", bytes(1000), b"\xff\xd8"):
        with pytest.raises((UnsupportedImage, UnreadableImage)):
            read_picture(data)
    with pytest.raises(UnsupportedImage):
        read_picture(b"hello, this is text")


def test_an_empty_file_says_so() -> None:
    with pytest.raises(UnreadableImage, match="0 bytes"):
        read_picture(b"")


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF", "BMP", "JPEG2000"])
def test_a_truncated_file_is_refused_by_name(format_: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, format_)
    with pytest.raises(ImageError):
        read_picture(data[: len(data) // 2])


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 1000) + b"IDAT"


@pytest.mark.parametrize(("width", "height"), [(20_000, 10_000), (12_000, 9_000), (60_000, 60_000), (2**31 - 1, 1)])
def test_too_many_pixels_are_refused_from_the_header_alone(width: int, height: int) -> None:
    with pytest.raises(ImageTooLarge, match="100,000,000 allowed"):
        read_picture(png_header(width, height))


def test_a_header_with_nothing_behind_it_is_cut_off() -> None:
    with pytest.raises(UnreadableImage, match="cut off or damaged"):
        read_picture(png_header(20_000, 10_000)[:33])


def test_too_many_bytes_are_refused_before_they_are_looked_at() -> None:
    with pytest.raises(ImageTooLarge, match="1,001 bytes, more than the 1,000 allowed"):
        read_picture(bytes(1001), Limits(bytes=1000))


def test_mutated_files_raise_nothing_but_image_faults(photos: list[Path]) -> None:
    rng = np.random.default_rng(7)
    small = Image.open(photos[0]).resize((64, 64))
    for format_ in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "HEIF"):
        original = np.frombuffer(encoded(small, format_), np.uint8)
        for _ in range(60):
            data = original.copy()
            data[rng.integers(0, len(data), 12)] = rng.integers(0, 256, 12, dtype=np.uint8)
            with contextlib.suppress(ImageError):
                read_picture(data.tobytes())


def test_a_thumbnail_is_a_small_jpeg(photos: list[Path]) -> None:
    image = Image.open(BytesIO(thumbnail(read_picture(photos[-1].read_bytes()).image)))
    assert image.format == "JPEG"
    assert max(image.size) == 320
