"""The named errors of the index: each says what was wrong, with both values, and what to do next."""

from __future__ import annotations


class VectorIndexError(Exception):
    """The base of every error that this package raises; its text is one sentence for the user."""


class DamagedIndex(VectorIndexError):
    """The index file is not a whole, sound hnswlib file."""


class DimensionMismatch(VectorIndexError):
    """A vector has another length than the index was built with."""


class CatalogueNotFound(VectorIndexError):
    """The folder is not a catalogue."""


class CatalogueExists(VectorIndexError):
    """The folder that a build would write is there already."""


class CatalogueMismatch(VectorIndexError):
    """The catalogue was made with another model, dimension, metric, preprocessing or format."""


class EmptyCatalogue(VectorIndexError):
    """There is nothing to build a catalogue from."""


class UnsupportedOperation(VectorIndexError):
    """An index backend cannot do what was asked of it."""


class InvalidFilter(VectorIndexError):
    """A filter cannot be understood; the text begins with the place in it."""


class CatalogueBusy(VectorIndexError):
    """Another process writes to the catalogue, or merges it, at this moment."""


class DiskFull(VectorIndexError):
    """The disk does not take what was to be written; nothing of it was."""


class NothingToRollBack(VectorIndexError):
    """The catalogue has no generation before the current one."""


class InvalidEntry(VectorIndexError):
    """An item cannot be written as it is: its key, its metadata or its vector is none."""


class AnsweredAlready(VectorIndexError):
    """A request with this idempotency key was answered before; its answer is kept."""


class KeyReused(VectorIndexError):
    """An idempotency key was used for another request."""
