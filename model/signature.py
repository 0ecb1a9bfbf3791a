"""Signatures: a picture as 32 × 32 grey levels, by which copies of it are told from pictures that are only alike.

An embedding says what a picture shows. Whether two that show the same are one picture, altered or not, its pixels say: by a
perceptual hash (the signs of its low frequencies, as in pHash; Zauner, "Implementation and Benchmarking of Perceptual Image
Hash Functions", 2010), which is compared with those of all items, and by how well one signature lies in the other (normalised
cross-correlation; Lewis, "Fast Normalized Cross-Correlation", 1995), which finds crops and borders too.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.images import Picture

SIGNATURE_SIDE = SIDE = 32  # pixels
FREQUENCIES = 16  # along each edge, without the mean
HASH_WORDS = 4
TURNS = 8  # ways to lay a picture: turned by quarters, mirrored or not
EDGES = (29, 26, 23, 20, 18, 16)  # to which one signature is reduced to be looked for in the other
FLAT = 3.0  # grey levels: what varies less than this correlates with nothing
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
    return _hash(_frequencies(signature)[None])[0]


def turned_hashes(signature: Signature) -> NDArray[np.uint64]:
    """Return the hashes that a picture has when it is turned by quarters and mirrored, uint64 [8, 4]; its own comes first."""
    found = _frequencies(signature)
    odd = (-1.0) ** np.arange(1, FREQUENCIES + 1)
    turned = []
    for laid in (found, found.T):  # mirroring changes the signs of odd frequencies, a quarter turn exchanges the axes
        turned += [laid, laid * odd, laid * odd[:, None], laid * odd * odd[:, None]]
    return _hash(np.stack(turned))


@functools.cache
def _cosines() -> NDArray[np.float32]:
    orders, places = np.arange(1, FREQUENCIES + 1)[:, None], np.arange(SIDE)[None]
    return np.cos(np.pi * (2 * places + 1) * orders / (2 * SIDE)).astype(np.float32)


def _frequencies(signature: Signature) -> NDArray[np.float32]:
    """Return the cosine transform of a signature without its constant parts, float32 [16, 16]."""
    return _cosines() @ signature.astype(np.float32) @ _cosines().T


def _hash(frequencies: NDArray[np.float32]) -> NDArray[np.uint64]:
    flat = frequencies.reshape(len(frequencies), -1)
    bits = flat > np.median(flat, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64)


@dataclass(frozen=True, slots=True)
class Matcher:
    """A signature made ready to be laid over others.

    ``turned``: it turned by quarters and mirrored, each of unit length: float32 [8, 1024]. ``templates``: the conjugated
    transforms of what it is reduced to, and of that mirrored, two for each of EDGES: complex64 [n, 32, 17]. ``image``: its
    own transform. ``deviations``: for each of EDGES, the square roots of the summed squares of its windows of that edge, from
    their means.
    """

    turned: NDArray[np.float32]
    templates: NDArray[np.complex64]
    image: NDArray[np.complex64]
    deviations: tuple[NDArray[np.float32], ...]

    @classmethod
    def of(cls, signature: Signature) -> Matcher:
        """Make a signature, uint8 [32, 32], ready."""
        whole = signature.astype(np.float32)
        unit = _unit(whole, FLAT * SIDE)
        turned = [one for laid in (unit, unit.T) for one in (laid, laid[:, ::-1], laid[::-1], laid[::-1, ::-1])]
        padded = np.zeros((2 * len(EDGES), SIDE, SIDE), np.float32)
        for place, edge in enumerate(EDGES):
            reduced = _unit(_reduction(edge) @ whole @ _reduction(edge).T, 1e-6)
            padded[2 * place, :edge, :edge] = reduced
            padded[2 * place + 1, :edge, :edge] = reduced[:, ::-1]
        transforms = np.asarray(np.fft.rfft2(padded).conj(), np.complex64)
        image = np.asarray(np.fft.rfft2(whole - whole.mean()), np.complex64)
        return cls(np.stack(turned).reshape(TURNS, -1), transforms, image, _deviations(whole))

    def correlation(self, other: Matcher) -> float:
        """Return how well one lies in the other where it does best, from -1 to 1: 1 for grey levels that differ by a factor
        and a constant."""
        whole = float((self.turned @ other.turned[0]).max())
        return max(whole, self._best_in(other), other._best_in(self))

    def _best_in(self, other: Matcher) -> float:
        laid = np.fft.irfft2(self.templates * other.image, s=(SIDE, SIDE))
        best = -1.0
        for place, (edge, deviations) in enumerate(zip(EDGES, other.deviations, strict=True)):
            room = SIDE - edge + 1
            best = max(best, float((laid[2 * place : 2 * place + 2, :room, :room] / deviations).max()))
        return best


def _unit(grey: NDArray[np.floating], least: float) -> NDArray[np.float32]:
    """Return grey levels about their mean, divided by their length, or by the ``least`` that it counts as."""
    centred = np.asarray(grey - grey.mean(), np.float32)
    return np.asarray(centred / max(float(np.linalg.norm(centred)), least), np.float32)


@functools.cache
def _reduction(edge: int) -> NDArray[np.float32]:
    """Return the matrix that reduces SIDE pixels to ``edge``: each is the mean over what it covers."""
    starts = np.arange(edge + 1) * SIDE / edge
    covered = np.minimum(starts[1:, None], np.arange(1, SIDE + 1)) - np.maximum(starts[:-1, None], np.arange(SIDE))
    return (np.maximum(covered, 0) * edge / SIDE).astype(np.float32)


def _deviations(grey: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    sums = np.zeros((2, SIDE + 1, SIDE + 1))
    sums[:, 1:, 1:] = np.stack([grey, grey * grey]).cumsum(1, dtype=np.float64).cumsum(2)
    found = []
    for edge in EDGES:
        total, square = (
            sums[:, edge:, edge:] - sums[:, :-edge, edge:] - sums[:, edge:, :-edge] + sums[:, :-edge, :-edge]
        )
        found.append(np.sqrt(np.maximum(square - total * total / edge**2, (FLAT * edge) ** 2)).astype(np.float32))
    return tuple(found)
