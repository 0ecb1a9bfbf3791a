"""Bytes to checked RGB pixels to unit vectors: picture reading, timm's preprocessing, and the extractor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from model.card import ExtractorCard, read_card
from model.errors import (
    DamagedExtractor,
    ImageFault,
    ImageTooLarge,
    ModelFault,
    UnknownModel,
    UnreadableImage,
    UnsupportedImage,
    WeightsMismatch,
    WeightsNotFound,
)
from model.pictures import Limits, Picture, looks_like_a_picture, read_file, read_picture, thumbnail
from model.preprocessing import Preprocessing

if TYPE_CHECKING:
    from model.extractor import TimmExtractor

__all__ = [
    "DamagedExtractor",
    "ExtractorCard",
    "ImageFault",
    "ImageTooLarge",
    "Limits",
    "ModelFault",
    "Picture",
    "Preprocessing",
    "UnknownModel",
    "UnreadableImage",
    "UnsupportedImage",
    "WeightsMismatch",
    "WeightsNotFound",
    "build_extractor",
    "looks_like_a_picture",
    "open_extractor",
    "read_card",
    "read_file",
    "read_picture",
    "thumbnail",
]


def build_extractor(model: str, weights: Path | None = None) -> TimmExtractor:
    """Make the extractor of a timm model; imports torch. Raises UnknownModel, WeightsNotFound or WeightsMismatch."""
    from model.extractor import build_extractor as build

    return build(model, weights)


def open_extractor(folder: Path) -> TimmExtractor:
    """Open the extractor saved in ``folder``; imports torch. Raises DamagedExtractor when it is not whole."""
    from model.extractor import open_extractor as open_

    return open_(folder)
