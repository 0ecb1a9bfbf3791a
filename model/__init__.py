"""Bytes to checked RGB pixels to unit vectors: picture reading, timm's preprocessing, and the engines."""

from model.card import ExtractorCard, Fidelity, Precision, read_card
from model.engine import Engine, EngineName, open_engine
from model.errors import (
    DamagedExtractor,
    EngineMissing,
    ImageFault,
    ImageTooLarge,
    ModelFault,
    NotTrue,
    UnknownModel,
    UnreadableImage,
    UnsupportedImage,
    WeightsMismatch,
    WeightsNotFound,
)
from model.extractor import Extractor, build_extractor
from model.fidelity import check_golden
from model.pictures import Limits, Picture, looks_like_a_picture, read_file, read_picture, thumbnail
from model.preprocessing import Preprocessing

__all__ = [
    "DamagedExtractor",
    "Engine",
    "EngineMissing",
    "EngineName",
    "Extractor",
    "ExtractorCard",
    "Fidelity",
    "ImageFault",
    "ImageTooLarge",
    "Limits",
    "ModelFault",
    "NotTrue",
    "Picture",
    "Precision",
    "Preprocessing",
    "UnknownModel",
    "UnreadableImage",
    "UnsupportedImage",
    "WeightsMismatch",
    "WeightsNotFound",
    "build_extractor",
    "check_golden",
    "looks_like_a_picture",
    "open_engine",
    "read_card",
    "read_file",
    "read_picture",
    "thumbnail",
]
