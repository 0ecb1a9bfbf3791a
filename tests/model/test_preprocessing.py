"""Our preprocessing gives the pixels that timm's own transform gives, but for rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from model import Preprocessing
from model.engines.torch import TorchEngine

HALF = (0.5, 0.5, 0.5)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def by_timm(look: Preprocessing, image: Image.Image, *, normalize: bool = False) -> torch.Tensor:
    transform = timm.data.create_transform(
        input_size=(3, *look.size),
        interpolation=look.interpolation,
        crop_pct=look.crop_pct,
        crop_mode=look.crop_mode,
        mean=look.mean,
        std=look.std,
        normalize=normalize,
    )
    return transform(image)


LOOKS = [
    Preprocessing((224, 224), "bilinear", 0.875, "center", *IMAGENET),  # resnet50.tv_in1k
    Preprocessing((224, 224), "bicubic", 0.875, "center", HALF, HALF),  # tf_efficientnet_lite0
    Preprocessing((299, 299), "bicubic", 0.875, "center", *IMAGENET),  # inception_v3
    Preprocessing((224, 224), "bicubic", 0.9, "center", HALF, HALF),  # vit_base_patch16_224
    Preprocessing((384, 384), "bicubic", 1.0, "squash", HALF, HALF),
    Preprocessing((256, 256), "bicubic", 0.94, "border", *IMAGENET),
    Preprocessing((192, 256), "bilinear", 0.9, "center", *IMAGENET),
]


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: f"{look.size}-{look.crop_mode}-{look.crop_pct}")
@pytest.mark.parametrize("size", [(500, 375), (375, 500), (224, 224), (100, 61), (33, 250), (1201, 803)])
def test_pixels_equal_timms(look: Preprocessing, size: tuple[int, int], photos: list[Path]) -> None:
    image = Image.open(photos[3]).convert("RGB").resize(size)
    ours, theirs = look.to_pixels(image), by_timm(look, image).permute(1, 2, 0).numpy()
    apart = np.abs(ours.astype(int) - theirs)
    assert apart.max() <= 2  # only what the crop keeps is scaled, from where it lies to a part of a pixel
    assert (apart > 0).mean() < 0.01


@pytest.mark.parametrize("size", [(20_000, 2), (2, 20_000), (1, 1), (1, 5000)])
def test_extreme_shapes_stay_within_bounds(size: tuple[int, int]) -> None:
    for look in LOOKS:
        assert look.to_pixels(Image.new("RGB", size, (9, 9, 9))).shape == (*look.size, 3)


def test_normalisation_in_the_network_equals_timms(photos: list[Path], reference: TorchEngine) -> None:
    image = Image.open(photos[0]).convert("RGB")
    look = reference.card.preprocessing
    with torch.inference_mode():
        expected = reference.network(by_timm(look, image, normalize=True)[None]).numpy()
    assert reference.features(look.to_pixels(image)[None]) == pytest.approx(expected, abs=1e-4)
