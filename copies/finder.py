"""Find the copies of a picture in one state of a catalogue, and say of any item whether it is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from copies.match import NO_FIT, UNRELATED, MatchModel
from index import Selection, SignatureTable, Snapshot, hash_distances, hashes_of, near_hashes, unit_rows
from model import SIGNATURE_SIDE, Matcher, turned_hashes

NEAREST = 16  # items that are looked at for being copies, those of the nearest embeddings,
NEAR_HASHES = 16  # and those of the nearest hashes
MOST_LOOKS = 64  # signatures that are compared with one picture's
EQUAL_COSINE, EQUAL_BITS = 0.995, 4  # what is closer, by both, fits without a look
Luma = NDArray[np.uint8]


class Subject(NamedTuple):
    """A picture that copies are looked for: its embedding, float32 [dim], and its signature, uint8 [32, 32], or None."""

    vector: NDArray[np.float32]
    luma: Luma | None


class Match(NamedTuple):
    """An item, and the probability that it is a copy."""

    id: int
    match: float


class CopyFinder:
    """Finds copies in a snapshot, by a match model. Raises DamagedIndex where the catalogue cannot be read."""

    def __init__(self, snapshot: Snapshot, signatures: SignatureTable, model: MatchModel) -> None:
        self.snapshot = snapshot
        self._signatures = signatures
        self._model = model

    def find(
        self, subject: Subject, least: float, selection: Selection | None = None, without: frozenset[int] = frozenset()
    ) -> list[Match]:
        """Return the items, of a selection or of all, that match at least so well, the best first."""
        ids = self.candidates(subject, selection, without)
        pairs = zip(ids, self.matches(subject, ids).tolist(), strict=True)
        return sorted((Match(*pair) for pair in pairs if pair[1] >= least), key=lambda one: (-one.match, one.id))

    def candidates(
        self, subject: Subject, selection: Selection | None = None, without: frozenset[int] = frozenset()
    ) -> list[int]:
        """Return the items that may be copies: those nearest by embedding, and by hash."""
        (found,) = self.snapshot.search(subject.vector[None], NEAREST + len(without), selection=selection)
        ids = found.labels.tolist()
        if subject.luma is not None:
            near, _ = near_hashes(self.snapshot, turned_hashes(subject.luma), selection)
            ids += near[: NEAR_HASHES + len(without)].tolist()
        return [one for one in dict.fromkeys(ids) if one not in without]

    def matches(self, subject: Subject, ids: Sequence[int]) -> NDArray[np.float64]:
        """Return the match of items that the snapshot has, float64 [n], to four digits."""
        if not ids:
            return np.empty(0)
        cosines = unit_rows(self.snapshot.vectors(ids)) @ unit_rows(subject.vector[None])[0]
        distances, correlations = np.full(len(ids), int(UNRELATED)), np.full(len(ids), NO_FIT)
        if subject.luma is not None:
            distances = hash_distances(hashes_of(self.snapshot, ids), turned_hashes(subject.luma))
            self._compare(subject.luma, ids, cosines, distances, correlations)
        return np.round(self._model.probabilities(cosines, distances, correlations), 4)

    def _compare(
        self,
        luma: Luma,
        ids: Sequence[int],
        cosines: NDArray[np.float32],
        distances: NDArray[np.int64],
        correlations: NDArray[np.float64],
    ) -> None:
        """Fill in the correlations of those that may be copies."""
        equal = (cosines >= EQUAL_COSINE) & (distances <= EQUAL_BITS)
        correlations[equal] = 1
        worth = np.flatnonzero(~equal & self._model.worth_a_look(cosines, distances))
        places = worth[np.argsort(distances[worth], kind="stable")][:MOST_LOOKS]
        if not len(places):
            return
        own = Matcher.of(luma)
        stored = self._signatures.get([ids[place] for place in places])
        for place in places:
            if (signature := stored.get(ids[place])) is not None:
                correlations[place] = own.correlation(Matcher.of(as_luma(signature.luma)))


def as_luma(stored: bytes) -> Luma:
    """Return a signature as a catalogue keeps it, uint8 [32, 32]."""
    return np.frombuffer(stored, np.uint8).reshape(SIGNATURE_SIDE, SIGNATURE_SIDE)
