"""Bytes to checked RGB pixels to unit vectors: picture reading, timm's preprocessing, and the engines."""

from model.card import ExtractorCard, Fidelity, Precision, read_card
from model.engines.base import Engine, EngineName, open_engine
from model.errors import (
    DamagedExtractor,
    EngineMissing,
    ImageFault,
    ImageTooLarge,
    ModelFault,
    NotExportable,
    NotTrue,
    UnknownModel,
    UnreadableImage,
    UnsupportedImage,
    WeightsMismatch,
    WeightsNotFound,
)
from model.extractor import Extractor, build_extractor
from model.fidelity import open_proved
from model.images import Limits, Picture, Room, looks_like_a_picture, read_file, read_picture, thumbnail
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
    "NotExportable",
    "NotTrue",
    "Picture",
    "Precision",
    "Preprocessing",
    "Room",
    "UnknownModel",
    "UnreadableImage",
    "UnsupportedImage",
    "WeightsMismatch",
    "WeightsNotFound",
    "build_extractor",
    "looks_like_a_picture",
    "open_engine",
    "open_proved",
    "read_card",
    "read_file",
    "read_picture",
    "thumbnail",
]
