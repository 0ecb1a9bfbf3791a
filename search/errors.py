"""The named errors of a search: each says what was wrong; what the index and the model raise goes by their own names."""

from __future__ import annotations


class SearchError(Exception):
    """The base of every error that this package raises."""


class ItemNotFound(SearchError):
    """The catalogue has no item of that id or key."""

    def __init__(self, name: int | str) -> None:
        super().__init__(f"there is no item {name!r} in the catalogue")


class EmbedderUnavailable(SearchError):
    """What embeds pictures does not answer, or cannot be used."""


class RegionsUnavailable(SearchError):
    """The items of a catalogue have no vectors of boxes in their pictures."""


class InvalidQuery(SearchError):
    """A query that means nothing as it is; the text says why and what to do."""
