"""A picture's bytes into all that a catalogue keeps of it, but for its vector."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index import Entry, Signature
from model import (
    ExtractorCard,
    Limits,
    Picture,
    Shown,
    perceptual_hash,
    pixel_digest,
    read_picture,
    show_windows,
    sign,
    thumbnail,
    window_preprocessing,
)

OWN_FIELDS = (*Picture.FIELDS, "path")  # what an item has of its picture and its key


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture read, checked and brought to the network's size: an entry that lacks only its key and its vector.

    ``pixels``: uint8 [height, width, 3]. ``data``: the file, where it is to be kept. ``shown``: what the vectors of boxes in
    it are made of, where there are to be some.
    """

    pixels: NDArray[np.uint8]
    metadata: dict[str, Any]
    sha256: str
    thumbnail: bytes
    signature: Signature
    data: bytes | None = None
    shown: Shown | None = None

    def entry(
        self,
        key: str,
        vector: NDArray[np.float32],
        metadata: dict[str, Any] | None = None,
        *,
        source: str = "",
        stamp: tuple[int, int] = (0, 0),
        regions: NDArray[np.float32] | None = None,
    ) -> Entry:
        """Return the entry of the picture under a key, with more metadata, and where and what it was when it was read.

        ``regions``: the vectors of boxes in it, float32 [boxes, dim].
        """
        fields = self.metadata | {"path": key} | (metadata or {})
        facts = (self.sha256, self.thumbnail, *stamp, source, self.data, regions, self.signature)
        return Entry(key, vector, fields, *facts)


def signature_of(picture: Picture, size: int) -> Signature:
    """Return the signature of a picture, whose file has ``size`` bytes."""
    luma = sign(picture.image)
    return Signature(luma.tobytes(), perceptual_hash(luma).tobytes(), pixel_digest(picture), size, picture.format)


def prepare(data: bytes, card: ExtractorCard, limits: Limits, *, keep: bool = False, windows: bool = False) -> Prepared:
    """Read a picture's file; ``keep``: its entry is to have it, ``windows``: and vectors of boxes. Raises ImageError."""
    look = window_preprocessing(card) if windows else card.preprocessing
    picture = read_picture(data, limits, look.enough)
    return Prepared(
        pixels=card.preprocessing.to_pixels(picture.image),
        metadata=picture.metadata(),
        sha256=hashlib.sha256(data).hexdigest(),
        thumbnail=thumbnail(picture.image),
        signature=signature_of(picture, len(data)),
        data=data if keep else None,
        shown=show_windows(picture.image, card) if windows else None,
    )
