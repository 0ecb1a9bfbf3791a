"""Bytes to checked RGB pixels to unit vectors: picture reading, timm's preprocessing, and the engines."""

from model.card import ExtractorCard, Fidelity, Precision, read_card
from model.engines.base import Engine, EngineName, open_engine, open_map_engine, open_text_engine
from model.errors import (
    DamagedExtractor,
    EngineMissing,
    FidelityError,
    ImageError,
    ImageTooLarge,
    MapUnavailable,
    ModelError,
    NotExportable,
    UnknownModel,
    UnknownWords,
    UnreadableImage,
    UnsupportedImage,
    WeightsMismatch,
    WeightsNotFound,
    WordsUnavailable,
)
from model.extractor import Extractor, build_extractor, build_reference, open_extractor
from model.feature_map import FeatureMap, MapEngine
from model.fidelity import open_verified_engine
from model.formats import FORMAT_NAMES, FORMATS, ImageFormat, has_picture_suffix, looks_like_a_picture
from model.images import Picture, read_file, read_picture, thumbnail
from model.limits import Limits, Room
from model.preprocessing import Preprocessing
from model.priority import LOWEST, lower_priority
from model.region import Region
from model.signature import SIGNATURE_SIDE, perceptual_hash, pixel_digest, sign, turned_hashes
from model.text import TextEngine, read_text_card
from model.windows import SCALE, WINDOWS, Shown, WindowEncoder, show_windows, window_preprocessing, window_vectors
from model.words import LONGEST_TEXT, Concept, Vocabulary, read_vocabulary

__all__ = [
    "FORMATS",
    "FORMAT_NAMES",
    "LONGEST_TEXT",
    "LOWEST",
    "SCALE",
    "SIGNATURE_SIDE",
    "WINDOWS",
    "Concept",
    "DamagedExtractor",
    "Engine",
    "EngineMissing",
    "EngineName",
    "Extractor",
    "ExtractorCard",
    "FeatureMap",
    "Fidelity",
    "FidelityError",
    "ImageError",
    "ImageFormat",
    "ImageTooLarge",
    "Limits",
    "MapEngine",
    "MapUnavailable",
    "ModelError",
    "NotExportable",
    "Picture",
    "Precision",
    "Preprocessing",
    "Region",
    "Room",
    "Shown",
    "TextEngine",
    "UnknownModel",
    "UnknownWords",
    "UnreadableImage",
    "UnsupportedImage",
    "Vocabulary",
    "WeightsMismatch",
    "WeightsNotFound",
    "WindowEncoder",
    "WordsUnavailable",
    "build_extractor",
    "build_reference",
    "has_picture_suffix",
    "looks_like_a_picture",
    "lower_priority",
    "open_engine",
    "open_extractor",
    "open_map_engine",
    "open_text_engine",
    "open_verified_engine",
    "perceptual_hash",
    "pixel_digest",
    "read_card",
    "read_file",
    "read_picture",
    "read_text_card",
    "read_vocabulary",
    "show_windows",
    "sign",
    "thumbnail",
    "turned_hashes",
    "window_preprocessing",
    "window_vectors",
]
