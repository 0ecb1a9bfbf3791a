"""Find the copies of a picture in one state of a catalogue, and say of any item whether it is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from copies.match import NO_FIT, UNRELATED, MatchModel
from index import Selection, SignatureTable, Snapshot, correlations, hash_distances, hashes_of, near_hashes, unit_rows
from model import SIGNATURE_SIDE, turned_hashes

NEAREST = 16  # items that are looked at for being copies, those of the nearest embeddings,
NEAR_HASHES = 6  # and those of the nearest hashes
MOST_LOOKS = 64  # signatures that are compared with one picture's,
FIRST_LOOKS = 4  # no more than those of so many at first, and of the others only where one is surely a copy
SURE = 0.9  # a match from which it is,
LIKELY = 0.5  # and one from which a picture is likely there
UNRELATED_FROM = 96  # bits: a hash that is nearer is looked at first, too
EQUAL_COSINE, EQUAL_BITS = 0.995, 4  # what is closer, by both, fits without a look
Luma = NDArray[np.uint8]
NO_LUMA: Luma = np.zeros((SIGNATURE_SIDE, SIGNATURE_SIDE), np.uint8)


class Subject(NamedTuple):
    """A picture that copies are looked for: its embedding, float32 [dim], and its signature, uint8 [32, 32], or None."""

    vector: NDArray[np.float32]
    luma: Luma | None


class Match(NamedTuple):
    """An item, and the probability that it is a copy."""

    id: int
    match: float


class Comparisons(NamedTuple):
    """What pictures have in common with items, each [n]: distances are those of hashes, in bits, fits those of signatures."""

    cosines: NDArray[np.float64]
    distances: NDArray[np.int64]
    fits: NDArray[np.float64]
    matches: NDArray[np.float64]


class CopyFinder:
    """Finds copies in a snapshot, by a match model. Raises DamagedIndex where the catalogue cannot be read."""

    def __init__(self, snapshot: Snapshot, signatures: SignatureTable, model: MatchModel) -> None:
        self.snapshot = snapshot
        self._signatures = signatures
        self._model = model

    def find(
        self,
        subject: Subject,
        least: float,
        selection: Selection | None = None,
        without: frozenset[int] = frozenset(),
        *,
        nearest: int = NEAREST,
    ) -> list[Match]:
        """Return the items, of a selection or of all, that match at least so well, the best first.

        They are looked for among as many of the ``nearest`` by embedding, and NEAREST at least, and those near by hash.
        """
        ids = self.candidates(subject, selection, without, nearest)
        pairs = zip(ids, self.matches(subject, ids).tolist(), strict=True)
        return sorted((Match(*pair) for pair in pairs if pair[1] >= least), key=lambda one: (-one.match, one.id))

    def candidates(
        self,
        subject: Subject,
        selection: Selection | None = None,
        without: frozenset[int] = frozenset(),
        nearest: int = NEAREST,
    ) -> list[int]:
        """Return the items that may be copies: those nearest by embedding, and by hash."""
        count = max(nearest, NEAREST) + len(without)
        (found,) = self.snapshot.search(subject.vector[None], count, selection=selection)
        ids = [*found.labels.tolist(), *self.near_by_hash(subject, selection)]
        return [one for one in dict.fromkeys(ids) if one not in without]

    def near_by_hash(self, subject: Subject, selection: Selection | None = None) -> list[int]:
        """Return the items of the nearest hashes, NEAR_HASHES at most."""
        if subject.luma is None:
            return []
        near, _ = near_hashes(self.snapshot, turned_hashes(subject.luma), selection)
        return list(near[:NEAR_HASHES].tolist())

    def matches(self, subject: Subject, ids: Sequence[int]) -> NDArray[np.float64]:
        """Return the match of items that the snapshot has, float64 [n], to four digits."""
        return self.compare([subject], np.zeros(len(ids), np.int64), np.array(ids, np.int64)).matches

    def compare(self, subjects: Sequence[Subject], of: NDArray[np.int64], ids: NDArray[np.int64]) -> Comparisons:
        """Compare pictures with items that the snapshot has: pairs of ``subjects[of[n]]`` and ``ids[n]``."""
        vectors = unit_rows(np.stack([one.vector for one in subjects]))
        cosines = (unit_rows(self.snapshot.vectors(ids)) * vectors[of]).sum(axis=1).astype(np.float64)
        distances, fits = np.full(len(ids), int(UNRELATED)), np.full(len(ids), NO_FIT)
        signed = np.array([one.luma is not None for one in subjects])[of]
        lumas = np.stack([NO_LUMA if one.luma is None else one.luma for one in subjects])
        distances[signed] = hash_distances(hashes_of(self.snapshot, ids[signed]), turned_hashes(lumas)[of[signed]])
        equal = signed & (cosines >= EQUAL_COSINE) & (distances <= EQUAL_BITS)
        fits[equal] = 1
        worth = signed & ~equal & self._model.worth_a_look(cosines, distances)
        worth &= _places(of, ~worth, distances, -cosines) < MOST_LOOKS
        first = worth & ((distances < UNRELATED_FROM) | (_places(of, -cosines) < FIRST_LOOKS))
        self._look(lumas, of, ids, np.flatnonzero(first), fits)
        sure = self._model.probabilities(cosines, distances, fits) >= SURE
        self._look(lumas, of, ids, np.flatnonzero(worth & ~first & np.isin(of, of[sure])), fits)
        matches = np.round(self._model.probabilities(cosines, distances, fits), 4)
        return Comparisons(cosines, distances, fits, matches)

    def _look(
        self,
        lumas: Luma,
        of: NDArray[np.int64],
        ids: NDArray[np.int64],
        pairs: NDArray[np.int64],
        fits: NDArray[np.float64],
    ) -> None:
        """Fill in how well the signatures of some pairs fit."""
        stored = self._signatures.get(np.unique(ids[pairs]).tolist())
        there = np.array([pair for pair in pairs.tolist() if int(ids[pair]) in stored], np.int64)
        if len(there):
            others = np.stack([as_luma(stored[one].luma) for one in ids[there].tolist()])
            fits[there] = correlations(lumas[of[there]], others)


def _places(of: NDArray[np.int64], *keys: NDArray[Any]) -> NDArray[np.int64]:
    """Return which place each pair has among those of its subject, by keys, the first of these first: int64 [n]."""
    order = np.lexsort((*keys[::-1], of))
    sizes = np.bincount(of)
    found = np.empty(len(of), np.int64)
    found[order] = np.arange(len(of)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return found


def as_luma(stored: bytes) -> Luma:
    """Return a signature as a catalogue keeps it, uint8 [32, 32]."""
    return np.frombuffer(stored, np.uint8).reshape(SIGNATURE_SIDE, SIGNATURE_SIDE)
