"""The duplicates of a catalogue: its pairs brought up to date, and grouped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from copies.groups import Group, Wanted, group_duplicates
from copies.keep import Picture
from copies.match import match_model_of
from copies.pairs import PAIRS, Compared, PairStore, Progress
from index import Catalogue


class DuplicateFinder:
    """Finds the duplicates of an open catalogue; pairs are kept in its folder, or at ``pairs``. For one thread.

    Raises OSError or DiskFull where pairs cannot be kept.
    """

    def __init__(self, catalogue: Catalogue, pairs: Path | None = None) -> None:
        self._catalogue = catalogue
        self._store = PairStore(pairs or catalogue.folder / PAIRS, catalogue)

    def compared(self) -> Compared:
        """Return how many items have been compared, of how many."""
        return self._store.compared()

    def update(self, progress: Progress = lambda *_: None) -> None:
        """Compare the items that are new. Raises CatalogueBusy, DamagedIndex, DiskFull."""
        self._store.update(progress)

    def groups(self, wanted: Wanted, where: object = None) -> list[Group]:
        """Return the groups among the items that a filter allows, of those that have been compared, the largest first.

        Raises InvalidFilter, DamagedIndex.
        """
        pairs = self._store.read(match_model_of(self._catalogue), *wanted.least())
        ids = np.unique(np.concatenate([pairs.first, pairs.second, self._catalogue.signatures.equal_ids()]))
        if where is not None:
            ids = np.intersect1d(ids, np.array(self._catalogue.allow(where).ids(), np.int64))
        return group_duplicates(read_pictures(self._catalogue, ids.tolist()), pairs, wanted)

    def close(self) -> None:
        """Let go of the database of pairs."""
        self._store.close()


def read_pictures(catalogue: Catalogue, ids: Sequence[int]) -> list[Picture]:
    """Return what is known of the pictures of items; those that are not there are left out. Raises DamagedIndex."""
    items, signed = catalogue.items(ids), catalogue.signatures.get(ids)
    found = []
    for item_id, one in items.items():
        signature = signed.get(item_id)
        file = (signature.pixels, signature.bytes, signature.format) if signature else (b"", 0, "")
        found.append(Picture(item_id, one.key, one.sha256, *file, one.added_at, one.metadata))
    return found
