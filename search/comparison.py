"""How alike two embeddings are, and how to read that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index import Catalogue, unit_rows

PAIRS = 20_000  # of a catalogue's pictures, with which two are compared
SEED = 0
# What a cosine similarity usually means, where there is no catalogue to compare with: the least, and its reading.
READINGS = (
    (0.98, "nearly identical: the same picture, or a copy of it"),
    (0.80, "very alike: the same thing, or an altered copy"),
    (0.50, "alike: the same kind of thing"),
    (0.30, "somewhat alike"),
    (-1.0, "not alike"),
)


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of an embedding: its length, its norm, and its least, greatest and mean value."""

    dim: int
    norm: float
    min: float
    max: float
    mean: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of two embeddings: the cosine similarity, from -1 to 1, and the Euclidean distance between them, and how to read it.

    ``less_alike`` is the share of a catalogue's pairs of pictures that are less alike than these two.
    """

    cosine: float
    euclidean: float
    reading: str
    less_alike: float | None
    embeddings: tuple[Statistics, Statistics]


def compare(one: NDArray[np.float32], other: NDArray[np.float32], catalogue: Catalogue | None = None) -> Comparison:
    """Compare two embeddings, float32 [dim], and say how to read it, by a catalogue's pairs where there is one."""
    left, right = one.astype(np.float64), other.astype(np.float64)
    cosine = float(left @ right / max(float(np.linalg.norm(left) * np.linalg.norm(right)), 1e-12))
    less = None if catalogue is None else _share_below(cosine, catalogue)
    reading = next(text for least, text in READINGS if round(cosine, 9) >= least)
    if less is not None:
        reading = f"more alike than {less:.2%} of the pairs of pictures in the catalogue"
    both = (statistics(one), statistics(other))
    return Comparison(cosine, float(np.linalg.norm(left - right)), reading, less, both)


def statistics(vector: NDArray[np.float32]) -> Statistics:
    """Return the statistics of an embedding, float32 [dim]."""
    return Statistics(
        dim=len(vector),
        norm=float(np.linalg.norm(vector.astype(np.float64))),
        min=float(vector.min()),
        max=float(vector.max()),
        mean=float(vector.mean(dtype=np.float64)),
    )


def _share_below(cosine: float, catalogue: Catalogue) -> float | None:
    """Return the share of a catalogue's pairs that are less alike, by 20,000 of them at most; None where there are none."""
    vectors = catalogue.index.vectors()
    if len(vectors) < 2:
        return None
    rng = np.random.default_rng(SEED)
    first = rng.integers(0, len(vectors), PAIRS)
    second = (first + rng.integers(1, len(vectors), PAIRS)) % len(vectors)
    below = 0
    for at in range(0, PAIRS, 1000):
        pairs = (unit_rows(np.asarray(vectors[some[at : at + 1000]])) for some in (first, second))
        below += int((np.einsum("ij,ij->i", *pairs) < cosine).sum())
    return below / PAIRS
