"""Signatures: a picture as 32 × 32 grey levels, which distinguish its copies from similar pictures.

An embedding says what a picture shows. Whether two that show the same are one picture, altered or not, its pixels say: by a
perceptual hash (the signs of its low frequencies, as in pHash; Zauner, "Implementation and Benchmarking of Perceptual Image
Hash Functions", 2010), which is compared with those of all items, and by how well one signature lies in the other (normalised
cross-correlation; Lewis, "Fast Normalized Cross-Correlation", 1995), which finds crops and borders too.
"""

from __future__ import annotations

import functools
import hashlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.images import Picture

SIGNATURE_SIDE = SIDE = 32  # pixels
FREQUENCIES = 16  # along each edge, without the mean
Signature = NDArray[np.uint8]


def sign(image: Image.Image) -> Signature:
    """Return the signature of an RGB picture, uint8 [32, 32]."""
    # Without a reducing gap, which is faster, but would not give the mirrored picture the mirrored signature.
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX).convert("L"))


def pixel_digest(picture: Picture) -> bytes:
    """Return a digest, 16 bytes, of a picture's size and of its pixels as they were read: files of other formats have the
    same where these are the same; a large JPEG, read at a part of its size, has that of none but its like."""
    size = f"{picture.width}x{picture.height}".encode()
    return hashlib.sha256(size + picture.image.tobytes()).digest()[:16]


def perceptual_hash(signature: Signature) -> NDArray[np.uint64]:
    """Return the perceptual hash of a signature, uint64 [4]: which of its low frequencies are above their median."""
    return _hash(_frequencies(signature))


def turned_hashes(signatures: Signature) -> NDArray[np.uint64]:
    """Return the hashes that pictures have when they are turned by quarters and mirrored; their own come first.

    For signatures uint8 [..., 32, 32] they are uint64 [..., 8, 4].
    """
    found = _frequencies(signatures)
    odd = (-1) ** np.arange(1, FREQUENCIES + 1, dtype=np.float32)
    turned = []
    for laid in (found, found.swapaxes(-1, -2)):  # mirroring changes the signs of odd frequencies, a quarter turn
        turned += [laid, laid * odd, laid * odd[:, None], laid * odd * odd[:, None]]  # exchanges the axes
    return _hash(np.stack(turned, axis=-3))


@functools.cache
def _cosines() -> NDArray[np.float32]:
    orders, places = np.arange(1, FREQUENCIES + 1)[:, None], np.arange(SIDE)[None]
    return np.cos(np.pi * (2 * places + 1) * orders / (2 * SIDE)).astype(np.float32)


def _frequencies(signatures: Signature) -> NDArray[np.float32]:
    """Return the cosine transform of signatures without its constant parts, float32 [..., 16, 16]."""
    return _cosines() @ signatures.astype(np.float32) @ _cosines().T


def _hash(frequencies: NDArray[np.float32]) -> NDArray[np.uint64]:
    flat = frequencies.reshape(*frequencies.shape[:-2], -1)
    middle = flat.shape[-1] // 2
    median = np.partition(flat, (middle - 1, middle), axis=-1)[..., middle - 1 : middle + 1].mean(
        axis=-1, keepdims=True
    )
    return np.packbits(flat > median, axis=-1).view(np.uint64)
