"""The named errors of the model part: each says what was wrong, with both values, and what to do next."""

from __future__ import annotations


class ImageFault(Exception):
    """The base of what can be wrong with one picture; its text is one sentence for whoever sent it."""


class UnreadableImage(ImageFault):
    """The bytes begin like a picture but cannot be decoded (cut off, damaged, empty)."""


class UnsupportedImage(ImageFault):
    """The bytes are not in a picture format that BentoLens reads."""


class ImageTooLarge(ImageFault):
    """The picture has more bytes or pixels than allowed; found before it is decoded."""


class ModelFault(Exception):
    """The base of what can be wrong with a model or its weights; its text is one sentence for the user."""


class UnknownModel(ModelFault):
    """timm has no model of that name."""


class WeightsNotFound(ModelFault):
    """The weights cannot be had: no such file, or the hub is out of reach."""


class WeightsMismatch(ModelFault):
    """The weights do not fit the model."""


class DamagedExtractor(ModelFault):
    """An extractor folder is not whole, or its weights are not the ones that its card names."""


class EngineMissing(ModelFault):
    """The engine asked for is not installed."""


class NotExportable(ModelFault):
    """OpenVINO cannot take the model."""


class NotTrue(ModelFault):
    """What an engine gives is too far from the reference: at a build, or of the golden pictures at start."""
