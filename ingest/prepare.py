"""A picture's bytes into all that a catalogue keeps of it, but for its vector."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index import Entry
from model import ExtractorCard, Limits, Picture, read_picture, thumbnail

OWN_FIELDS = (*Picture.FIELDS, "path")  # what an item has of its picture and its key


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture read, checked and brought to the network's size: an entry that lacks only its key and its vector.

    ``pixels``: uint8 [height, width, 3]. ``data``: the file, where it is to be kept.
    """

    pixels: NDArray[np.uint8]
    metadata: dict[str, Any]
    sha256: str
    thumbnail: bytes
    data: bytes | None = None

    def entry(
        self,
        key: str,
        vector: NDArray[np.float32],
        metadata: dict[str, Any] | None = None,
        *,
        source: str = "",
        stamp: tuple[int, int] = (0, 0),
    ) -> Entry:
        """Return the entry of the picture under a key, with more metadata, and where and what it was when it was read."""
        fields = self.metadata | {"path": key} | (metadata or {})
        return Entry(key, vector, fields, self.sha256, self.thumbnail, *stamp, source, self.data)


def prepare(data: bytes, card: ExtractorCard, limits: Limits, *, keep: bool = False) -> Prepared:
    """Read a picture's file; ``keep``: its entry is to have all of it. Raises ImageError."""
    picture = read_picture(data, limits, card.preprocessing.enough)
    return Prepared(
        pixels=card.preprocessing.to_pixels(picture.image),
        metadata=picture.metadata(),
        sha256=hashlib.sha256(data).hexdigest(),
        thumbnail=thumbnail(picture.image),
        data=data if keep else None,
    )
