"""Compare items of a catalogue with those that are nearest to them: many pairs at a time, in bounded memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from copies.finder import SURE, CopyFinder, Subject, as_luma
from copies.match import match_model_of
from index import Catalogue, Snapshot

PART = 128  # items that are compared at a time
DEPTHS = (17, 64, 256, 1024)  # nearest items, itself among them, that each is compared with: more where MOSTLY of these
MOSTLY = 0.75  # are surely copies
AT_ONCE = PART * DEPTHS[0]  # pairs
ALIKE_FLOOR = 0.8  # the cosine from which pairs of the nearest are kept that are no copies
KEPT_MATCH = 0.3  # and the match from which pairs are, whatever their cosine
# Of a pair: its ids, the smaller one first, the cosine, the distance of the hashes in bits, and how well the signatures fit.
PAIR = np.dtype([("first", "<i8"), ("second", "<i8"), ("cosine", "<f4"), ("distance", "<i2"), ("fit", "<f4")])


class PairComparer:
    """Compares items of a catalogue with the others that are nearest to them, by embedding and, if so wanted, by hash."""

    def __init__(self, catalogue: Catalogue, snapshot: Snapshot, *, by_hash: bool) -> None:
        self._signatures = catalogue.signatures
        self._snapshot = snapshot
        self._finder = CopyFinder(snapshot, catalogue.signatures, match_model_of(catalogue))
        self._by_hash = by_hash

    def pairs(self, ids: NDArray[np.int64]) -> NDArray[np.void]:
        """Return the pairs, PAIR [n], that items have with others that are alike or may be copies; one may be there twice."""
        found = [np.empty(0, PAIR)]
        for depth in DEPTHS:
            size, crowded = max(1, AT_ONCE // depth), []
            for at in range(0, len(ids), size):
                pairs, more = self._compare(ids[at : at + size], depth)
                found.append(pairs)
                crowded += more
            ids = np.array(crowded, np.int64)
        return np.concatenate(found)

    def _compare(self, ids: NDArray[np.int64], depth: int) -> tuple[NDArray[np.void], list[int]]:
        """Return the pairs of items and their nearest others, and the items whose copies may go on beyond these."""
        some = ids.tolist()
        vectors, signed = self._snapshot.vectors(some), self._signatures.get(some)
        lumas = [as_luma(signed[one].luma) if one in signed else None for one in some]
        subjects = [Subject(*one) for one in zip(vectors, lumas, strict=True)]
        nearest = [near.labels.tolist() for near in self._snapshot.search(vectors, depth)]
        if self._by_hash and depth == DEPTHS[0]:
            hashed = [self._finder.near_by_hash(one) for one in subjects]
            nearest = [[*near, *more] for near, more in zip(nearest, hashed, strict=True)]
        others = [[one for one in dict.fromkeys(near) if one != own] for own, near in zip(some, nearest, strict=True)]
        counts = np.array([len(one) for one in others])
        of, other = (
            np.repeat(np.arange(len(some)), counts),
            np.array([one for near in others for one in near], np.int64),
        )
        found = self._finder.compare(subjects, of, other)
        sure = np.bincount(of[found.matches >= SURE], minlength=len(some))
        crowded = (counts >= depth - 1) & (sure >= MOSTLY * counts)
        kept = (found.cosines >= ALIKE_FLOOR) | (found.matches >= KEPT_MATCH)
        own, other = ids[of[kept]], other[kept]
        pairs = np.empty(len(own), PAIR)
        pairs["first"], pairs["second"] = np.minimum(own, other), np.maximum(own, other)
        for name, column in zip(("cosine", "distance", "fit"), found[:3], strict=True):
            pairs[name] = column[kept]
        return pairs, ids[crowded].tolist()
