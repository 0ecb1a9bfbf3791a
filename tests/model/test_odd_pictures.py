"""Pictures as phones, scanners and editors write them: huge, in other colours, deep, cut short."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from model import ImageTooLarge, Limits, UnreadableImage, UnsupportedImage, read_picture
from model.formats import looks_like_a_picture
from tests.model.test_images import encoded

ENOUGH = 448  # what the models here ask for at most
PRIMARIES = {  # the colorants as ICC profiles hold them (relative to D50), and the gamma
    "AdobeRGB": (((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)), 2.2),
    "Display P3": (((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)), 2.2),
    "ProPhoto": (((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82491)), 1.8),
}


def profile(name: str) -> bytes:
    """Return a minimal ICC profile (version 2, matrix and gamma)."""
    colorants, gamma = PRIMARIES[name]

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    text = name.encode("ascii")
    described = b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + b"\0" * 79
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    parts = {b"desc": described, b"cprt": b"text\0\0\0\0none\0", b"wtpt": xyz((0.9642, 1.0, 0.8249))}
    parts |= {b"rXYZ": xyz(colorants[0]), b"gXYZ": xyz(colorants[1]), b"bXYZ": xyz(colorants[2])}
    parts |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    table, body, at = struct.pack(">I", len(parts)), b"", 128 + 4 + 12 * len(parts)
    for tag, part in parts.items():
        part += b"\0" * (-len(part) % 4)
        table += tag + struct.pack(">II", at + len(body), len(part))
        body += part
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"lcms", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += b"\0" * 12 + b"acsp" + b"\0" * 28 + struct.pack(">iii", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + body


@pytest.fixture(scope="module")
def colourful() -> Image.Image:
    """Saturated colours that all three profiles hold."""
    steps = np.linspace(40, 215, 6).astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(12, 18, 3)
    return Image.fromarray(np.repeat(np.repeat(cube, 32, axis=0), 32, axis=1))


def in_profile(image: Image.Image, icc: bytes) -> Image.Image:
    other = ImageCms.ImageCmsProfile(BytesIO(icc))
    changed = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), other)
    assert changed is not None
    return changed


def difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, np.float32) - np.asarray(other, np.float32)).mean())


@pytest.mark.parametrize("name", PRIMARIES)
@pytest.mark.parametrize("format_", ["PNG", "JPEG", "TIFF", "WEBP", "HEIF", "AVIF"])
def test_a_colour_profile_is_brought_to_srgb(name: str, format_: str, colourful: Image.Image) -> None:
    icc = profile(name)
    stored = in_profile(colourful, icc)
    assert difference(stored, colourful) > 5  # what ignoring the profile costs
    options: dict[str, object] = {} if format_ in ("PNG", "TIFF") else {"quality": 95}
    options |= {"subsampling": 0} if format_ == "JPEG" else {}
    data = encoded(stored, format_, icc_profile=icc, **options)
    assert difference(read_picture(data).image, colourful) < (1.5 if format_ in ("PNG", "TIFF") else 4)


def test_a_profile_holds_beside_transparency_and_in_strips(colourful: Image.Image) -> None:
    icc = profile("AdobeRGB")
    clear = in_profile(colourful, icc).convert("RGBA")
    clear.putalpha(255)
    clear.paste((0, 0, 0, 0), (0, 0, 32, 32))
    image = read_picture(encoded(clear, "PNG", icc_profile=icc)).image
    assert image.getpixel((3, 3)) == (255, 255, 255)
    assert difference(image.crop((0, 64, 576, 384)), colourful.crop((0, 64, 576, 384))) < 1.5
    large = in_profile(colourful, icc).resize((1152, 768), Image.Resampling.NEAREST)
    expected = colourful.resize((1152, 768), Image.Resampling.NEAREST)
    assert difference(read_picture(encoded(large, "PNG", icc_profile=icc)).image, expected) < 1.5


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("icc", [b"not a profile", profile("AdobeRGB")[:200], b"\0" * 4000])
def test_a_broken_profile_is_ignored(mode: str, icc: bytes, colourful: Image.Image) -> None:
    stored = colourful.convert(mode)
    plain, broken = encoded(stored, "JPEG", quality=95), encoded(stored, "JPEG", quality=95, icc_profile=icc)
    assert difference(read_picture(plain).image, read_picture(broken).image) == 0


def test_a_profile_of_another_kind_of_samples_is_ignored(colourful: Image.Image) -> None:
    grey = colourful.convert("L")
    assert (
        difference(read_picture(encoded(grey, "PNG", icc_profile=profile("ProPhoto"))).image, grey.convert("RGB")) == 0
    )


def test_a_lab_tiff_has_its_colours(colourful: Image.Image) -> None:
    lab = ImageCms.profileToProfile(
        colourful, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    assert difference(read_picture(encoded(lab, "TIFF")).image, colourful) < 3


def grey_tiff(samples: np.ndarray, **tags: int) -> bytes:
    return encoded(
        Image.fromarray(samples), "TIFF", tiffinfo={getattr(Tag, name): value for name, value in tags.items()}
    )


class Tag:
    photometric, largest = 262, 281


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_grey_in_16_bits_is_scaled_by_its_real_depth(bits: int) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint16), (32, 1))
    deep = (ramp.astype(np.float32) * ((2**bits - 1) / 255)).round().astype(np.uint16)
    read = np.asarray(read_picture(grey_tiff(deep)).image)[..., 0].astype(int)
    assert np.abs(read - ramp).max() <= 1
    dark = (deep // 8).astype(np.uint16)  # its largest sample says little: the tag does
    read = np.asarray(read_picture(grey_tiff(dark, largest=2**bits - 1)).image)[..., 0].astype(int)
    assert np.abs(read - ramp // 8).max() <= 1


def test_grey_of_which_zero_is_white_is_inverted() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint16), (32, 1))
    data = bytearray(grey_tiff((ramp * 257).astype(np.uint16)))
    at = data.index(struct.pack("<HHI", Tag.photometric, 3, 1))
    data[at + 8 : at + 10] = struct.pack("<H", 0)
    read = np.asarray(read_picture(bytes(data)).image)[..., 0].astype(int)
    assert np.abs(read - (255 - ramp)).max() <= 1


def tiff(bits: int, bands: int, kind: int, order: str = "<") -> bytes:
    """Return a 4 by 4 TIFF of samples that Pillow has no mode for."""
    strip = b"\0" * (16 * bands * bits // 8)
    entries = [(256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, 2 if bands == 3 else 1)]
    head = 8 + 2 + 12 * 11 + 4
    entries += [(273, 4, 1, head), (277, 3, 1, bands), (278, 3, 1, 4), (279, 4, 1, len(strip)), (284, 3, 1, 1)]
    entries += [(339, 3, 1, kind)]
    table = b"".join(
        struct.pack(order + "HHI", tag, type_, count)
        + (struct.pack(order + "HH", value, 0) if type_ == 3 else struct.pack(order + "I", value))
        for tag, type_, count, value in sorted(entries)
    )
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "IH", 8, len(entries)) + table + b"\0" * 4 + strip


@pytest.mark.parametrize(
    ("bits", "bands", "kind", "said"),
    [
        (32, 3, 3, "3 bands of 32-bit float"),
        (64, 1, 3, "1 band of 64-bit float"),
        (8, 5, 1, "5 bands of 8-bit integer"),
        (16, 7, 1, "7 bands of 16-bit integer"),
        (32, 3, 1, "3 bands of 32-bit integer"),
    ],
)
@pytest.mark.parametrize("order", "<>")
def test_samples_that_cannot_be_read_are_named(bits: int, bands: int, kind: int, said: str, order: str) -> None:
    with pytest.raises(UnsupportedImage, match=said):
        read_picture(tiff(bits, bands, kind, order))


def test_a_jpeg_of_12_bits_is_named() -> None:
    data = bytearray(encoded(Image.new("RGB", (32, 32), (9, 8, 7)), "JPEG"))
    at = data.index(b"\xff\xc0") + 4
    data[at] = 12
    with pytest.raises(UnsupportedImage, match="12-bit"):
        read_picture(bytes(data))


@pytest.mark.parametrize("lost", [1, 2, 3, 12])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_its_end_is_read(lost: int, progressive: bool, photos: list[Path]) -> None:
    with Image.open(photos[0]) as image:
        whole = encoded(image.convert("RGB"), "JPEG", quality=90, progressive=progressive)
    for enough in (None, ENOUGH):
        read = read_picture(whole[:-lost], enough=enough)
        assert difference(read.image, read_picture(whole, enough=enough).image) < 1


@pytest.mark.parametrize("share", [0.3, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_more_stays_refused(share: float, progressive: bool, photos: list[Path]) -> None:
    with Image.open(photos[0]) as image:
        whole = encoded(image.convert("RGB"), "JPEG", quality=90, progressive=progressive)
    with pytest.raises(UnreadableImage, match="cut off or damaged"):
        read_picture(whole[: int(len(whole) * share)], enough=ENOUGH)


@pytest.fixture(scope="module")
def phone_jpegs() -> dict[tuple[int, bool], bytes]:
    """Return pictures as large as phones take them, by megapixels and whether they are progressive."""
    sizes = {108: (12000, 9000), 200: (16320, 12240)}
    tile = Image.effect_noise((256, 256), 40).resize((512, 512))
    made = {}
    for millions, size in sizes.items():
        whole = Image.new("L", size)
        whole.paste(tile.resize(size, Image.Resampling.NEAREST))
        for progressive in (False, True):
            made[millions, progressive] = encoded(whole, "JPEG", quality=30, progressive=progressive)
    return made


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("millions", [108, 200])
def test_a_phones_largest_jpegs_are_read(
    millions: int, progressive: bool, phone_jpegs: dict[tuple[int, bool], bytes]
) -> None:
    picture = read_picture(phone_jpegs[millions, progressive], enough=ENOUGH)
    assert picture.width * picture.height == {108: 108_000_000, 200: 199_756_800}[millions]
    assert ENOUGH <= min(picture.image.size) <= picture.height // 8


def test_what_is_decoded_is_counted_and_the_setting_named(phone_jpegs: dict[tuple[int, bool], bytes]) -> None:
    limits = Limits(pixels=20_000_000)
    read_picture(phone_jpegs[108, False], limits, enough=ENOUGH)  # an eighth of it is decoded
    with pytest.raises(ImageTooLarge, match=r"12000 × 9000 pixels, 54,000,000 of them .*LENS_MAX_PIXELS"):
        read_picture(phone_jpegs[108, True], limits, enough=ENOUGH)  # half of it is held
    with pytest.raises(ImageTooLarge, match=r"12000 × 9000 pixels, more than the 20,000,000 .*LENS_MAX_PIXELS"):
        read_picture(phone_jpegs[108, False], limits)
    with pytest.raises(ImageTooLarge, match="LENS_MAX_BYTES"):
        read_picture(phone_jpegs[108, False], Limits(bytes=1000))


@pytest.mark.parametrize(
    ("name", "format_", "taken"),
    [
        ("photo.HIF", "HEIF", True),
        ("photo.jpg_large", "JPEG", True),
        ("photo.jpg_original", "PNG", True),
        ("photo", "WEBP", True),
        ("photo", "TIFF", True),
        ("raw.cr2", "TIFF", False),  # a camera's raw file begins as TIFF does
        ("notes.txt", None, False),
        ("empty", "", False),
    ],
)
def test_what_its_suffix_does_not_tell_is_judged_by_first_bytes(
    name: str, format_: str | None, taken: bool, tmp_path: Path
) -> None:
    image = Image.new("RGB", (8, 8))
    content = encoded(image, format_) if format_ else b"" if format_ == "" else b"BM is how a letter may begin"
    (tmp_path / name).write_bytes(content)
    assert looks_like_a_picture(tmp_path / name) is taken
