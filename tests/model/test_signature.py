"""Signatures: hashes that turning and mirroring do not change, correlations that find crops and borders, and digests."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from index import correlations, hash_distances
from model import perceptual_hash, pixel_digest, read_picture, sign, turned_hashes

TURNS = [
    lambda image: image,
    ImageOps.mirror,
    ImageOps.flip,
    *(lambda image, turn=turn: image.transpose(turn) for turn in Image.Transpose),
]


@pytest.fixture
def images(photos: list[Path]) -> list[Image.Image]:
    return [read_picture(photo.read_bytes()).image for photo in photos[:12]]


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_a_turned_or_mirrored_picture_has_one_of_the_turned_hashes(images: list[Image.Image]) -> None:
    for image in images:
        turned = turned_hashes(sign(image))
        assert np.array_equal(turned[0], perceptual_hash(sign(image)))
        for turn in TURNS:
            (distance,) = hash_distances(perceptual_hash(sign(turn(image)))[None], turned)
            assert distance <= 12
    hashes = np.stack([perceptual_hash(sign(image)) for image in images])
    for at, image in enumerate(images):
        others = hash_distances(np.delete(hashes, at, axis=0), turned_hashes(sign(image)))
        assert others.min() > 70


def test_what_is_no_hash_is_as_far_as_unrelated_ones() -> None:
    zeros, some = np.zeros((1, 4), np.uint64), np.full((1, 4), 2**63, np.uint64)
    assert hash_distances(zeros, some).tolist() == [128]


def test_crops_borders_and_turned_pictures_correlate_and_others_do_not(images: list[Image.Image]) -> None:
    for image in images:
        width, height = image.size
        box = (width // 5, height // 5, width // 5 + 3 * width // 4, height // 5 + 3 * height // 4)
        kin = [image.crop(box), ImageOps.expand(image, width // 12, "black"), *(turn(image) for turn in TURNS)]
        signatures = np.stack([sign(one) for one in kin])
        found = correlations(sign(image), signatures)
        assert found.min() > 0.8
        assert found[2:].min() > 0.99
        back = [float(correlations(one, sign(image)[None])[0]) for one in signatures]
        assert back == pytest.approx(found.tolist(), abs=1e-5)  # either way round
    others = np.stack([sign(image) for image in images[1:]])
    assert correlations(sign(images[0]), others).max() < 0.75


def test_correlations_agree_with_numpy(images: list[Image.Image]) -> None:
    one, other = (sign(image).astype(np.float64) for image in images[:2])
    centred = [part - part.mean() for part in (one, other)]
    whole = float((centred[0] * centred[1]).sum() / np.linalg.norm(centred[0]) / np.linalg.norm(centred[1]))
    (found,) = correlations(sign(images[0]), sign(images[1])[None])
    assert found >= whole - 1e-6
    window = other[3 : 3 + 16, 5 : 5 + 16]  # what lies in it at half its edge, enlarged to be a picture of its own
    enlarged = np.asarray(Image.fromarray(window.astype(np.uint8)).resize((32, 32), Image.Resampling.NEAREST))
    assert correlations(enlarged, sign(images[1])[None])[0] == pytest.approx(1, abs=1e-3)


def test_blank_pictures_correlate_with_nothing() -> None:
    blank = sign(Image.new("RGB", (60, 40), "white"))
    assert correlations(blank, blank[None])[0] < 0.01


def test_digests_are_of_pixels_and_not_of_files(images: list[Image.Image]) -> None:
    small = images[0].resize((90, 60))
    files = [encoded(small, kind) for kind in ("PNG", "BMP", "TIFF")] + [encoded(small, "WEBP", lossless=True)]
    digests = {pixel_digest(read_picture(file)) for file in files}
    assert len(digests) == 1
    small.putpixel((3, 3), (1, 2, 3))
    assert pixel_digest(read_picture(encoded(small, "PNG"))) not in digests
    assert {read_picture(file).format for file in files} == {"PNG", "BMP", "TIFF", "WEBP"}
