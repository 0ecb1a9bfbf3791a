"""Large JPEGs are decoded small: as true to the picture as the network can tell, and told in their own size."""

from __future__ import annotations

import random
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from model import Extractor, Preprocessing, read_picture
from model.engines.torch import TorchEngine


def jpeg(image: Image.Image, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def large(photos: list[Path]) -> list[bytes]:
    """Pictures of 12 megapixels: some of a single photo, some a mosaic of photos at full detail."""
    dice = random.Random(0)
    images = [Image.open(photo).convert("RGB") for photo in photos]
    singles = [image.resize((4000, 3000), Image.Resampling.LANCZOS) for image in images[:4]]
    for _ in range(4):
        mosaic = Image.new("RGB", (4000, 3000))
        for place in range(16):
            tile = dice.choice(images).resize((1000, 750), Image.Resampling.LANCZOS)
            mosaic.paste(tile, (place % 4 * 1000, place // 4 * 750))
        singles.append(mosaic)
    return [jpeg(image) for image in singles]


@pytest.mark.soak
def test_a_draft_gives_the_embedding_of_the_whole(
    large: list[bytes], photos: list[Path], reference: TorchEngine
) -> None:
    look = reference.card.preprocessing
    for pictures in (large, [photo.read_bytes() for photo in photos]):
        full = reference.embed(np.stack([look.to_pixels(read_picture(one).image) for one in pictures]))
        draft = reference.embed(
            np.stack([look.to_pixels(read_picture(one, enough=look.enough).image) for one in pictures])
        )
        cosines = (full * draft).sum(axis=1)
        print(f"cosine of drafts to the whole: {cosines.mean():.5f} in the mean, {cosines.min():.5f} at least")
        assert cosines.mean() >= 0.999


def test_a_draft_is_as_small_as_is_enough_and_told_in_full(large: list[bytes]) -> None:
    picture = read_picture(large[0], enough=512)
    assert (picture.image.size, picture.width, picture.height) == ((1000, 750), 4000, 3000)
    assert read_picture(large[0], enough=751).image.size == (2000, 1500)
    assert read_picture(large[0], enough=3001).image.size == (4000, 3000)
    assert read_picture(large[0]).image.size == (4000, 3000)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_draft_is_turned_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    picture = read_picture(jpeg(Image.new("RGB", (1600, 1200)), exif=exif), enough=256)
    turned = orientation in (6, 8)
    assert (picture.width, picture.height) == ((1200, 1600) if turned else (1600, 1200))
    assert picture.image.size == ((300, 400) if turned else (400, 300))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_draft_keeps_its_colours(mode: str) -> None:
    whole = jpeg(Image.new("RGB", (1600, 1200), (200, 30, 40)).convert(mode))
    full, draft = (np.asarray(read_picture(whole, enough=enough).image) for enough in (None, 256))
    assert draft.shape == (300, 400, 3)
    assert draft.reshape(-1, 3).mean(axis=0) == pytest.approx(full.reshape(-1, 3).mean(axis=0), abs=1)


def test_enough_is_twice_what_the_network_scales_to(extractor: Extractor) -> None:
    assert extractor.card.preprocessing.enough == 512
    tiny = Preprocessing((64, 64), "bicubic", 0.9, "center", (0, 0, 0), (1, 1, 1))
    assert tiny.enough == 320  # of which thumbnails are made too
