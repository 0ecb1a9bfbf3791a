"""The named errors of the model part: each says what was wrong, with both values, and what to do next."""

from __future__ import annotations


class ImageError(Exception):
    """The base of what can be wrong with one picture; its text is one sentence for whoever sent it."""


class UnreadableImage(ImageError):
    """The bytes begin like a picture but cannot be decoded (cut off, damaged, empty)."""


class UnsupportedImage(ImageError):
    """The bytes are not in a picture format that BentoLens reads."""


class ImageTooLarge(ImageError):
    """The picture has more bytes or pixels than allowed; found before it is decoded."""


class ModelError(Exception):
    """The base of what can be wrong with a model or its weights; its text is one sentence for the user."""


class UnknownModel(ModelError):
    """timm has no model of that name."""


class WeightsNotFound(ModelError):
    """The weights cannot be had: no such file, or the hub is out of reach."""


class WeightsMismatch(ModelError):
    """The weights do not fit the model."""


class DamagedExtractor(ModelError):
    """An extractor folder is not whole, or its weights are not the ones that its card names."""


class EngineMissing(ModelError):
    """The engine asked for is not installed."""


class NotExportable(ModelError):
    """OpenVINO cannot take the model."""


class FidelityError(ModelError):
    """What an engine gives is too far from the reference: at a build, or of the golden pictures at start."""


class WordsUnavailable(ModelError):
    """A catalogue cannot be searched by words: its model has no classes that have names."""


class UnknownWords(ModelError):
    """A text has words that name none of a model's classes; the text names the nearest ones that do."""


class MapUnavailable(ModelError):
    """A model has no feature map that says where in a picture its embedding comes from, or none of that size."""
