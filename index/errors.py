"""The named errors of the index: each says what was wrong, with both values, and what to do next."""

from __future__ import annotations


class IndexFault(Exception):
    """The base of every error that this package raises; its text is one sentence for the user."""


class DamagedIndex(IndexFault):
    """The index file is not a whole, sound hnswlib file."""


class DimensionMismatch(IndexFault):
    """A vector has another length than the index was built with."""


class CatalogueNotFound(IndexFault):
    """The folder is not a catalogue."""


class CatalogueExists(IndexFault):
    """The folder that a build would write is there already."""


class CatalogueMismatch(IndexFault):
    """The catalogue was made with another model, dimension, metric, preprocessing or format."""


class EmptyCatalogue(IndexFault):
    """There is nothing to build a catalogue from."""


class WrongFilter(IndexFault):
    """A filter cannot be understood; the text begins with the place in it."""
