"""Any order of changes, merges and rollbacks gives what was written, judged by a plain dictionary."""

from __future__ import annotations

from contextlib import closing, suppress

import numpy as np
import pytest

from index import (
    Catalogue,
    LiveWriter,
    NothingToRollBack,
    merge_catalogue,
    open_catalogue,
    rollback_catalogue,
    verify_catalogue,
)
from tests.index.test_live import PRINT, entry, folder, opened, writer
from tests.soak import fuzz

__all__ = ["folder", "opened", "writer"]  # fixtures


class Oracle:
    """The items that a catalogue should have: key → id, vector and metadata."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.items = {}
        for item in catalogue.items(range(1, 201)).values():
            vector = catalogue.vector(item.id)
            assert vector is not None
            self.items[item.key] = (item.id, vector, item.metadata)

    def check(self, catalogue: Catalogue, query: np.ndarray) -> None:
        ids = np.array([one for one, _, _ in self.items.values()])
        vectors = np.stack([vector for _, vector, _ in self.items.values()])
        metadata = {one: fields for one, _, fields in self.items.values()}
        order = np.lexsort((ids, -np.round(vectors @ query, 5)))[:10]
        truth = sorted((vectors @ query)[order].tolist(), reverse=True)
        for hits in (catalogue.search(query[None], 10, ef=300)[0],):
            assert [hit.score for hit in hits] == pytest.approx(truth, abs=1e-5)
            assert all(hit.item.metadata == metadata[hit.item.id] for hit in hits)
        (exact,) = catalogue.search_exactly(query[None], 10)
        assert [score for _, score in exact] == pytest.approx(truth, abs=1e-5)
        allowed = catalogue.allow({"n": {"$lt": 50}})
        assert len(allowed) == sum(fields.get("n", 99) < 50 for fields in metadata.values())
        assert len(catalogue) == len(ids)


@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_changes_merges_and_rollbacks_gives_what_was_written(
    seed: int, opened: Catalogue, writer: LiveWriter
) -> None:
    dice, oracle = np.random.default_rng(seed), Oracle(opened)
    late = open_catalogue(opened.folder)
    for step in range(120):
        what = dice.choice(["add", "add", "remove", "update", "merge", "rollback"], p=[0.3, 0.3, 0.2, 0.14, 0.04, 0.02])
        keys = list(oracle.items)
        if what == "add":
            some = [entry(int(n), seed=step + 10) for n in dice.integers(0, 60, dice.integers(1, 6))]
            for one, added in zip(some, writer.add(some, PRINT), strict=True):
                assert added.replaced == oracle.items.get(one.key, (None,))[0]
                oracle.items[one.key] = (added.id, one.vector, one.metadata)
        elif what == "remove":
            gone = dice.choice(keys, 3, replace=False).tolist()
            assert writer.remove(gone) == [oracle.items.pop(key)[0] for key in gone]
        elif what == "update":
            key, n = str(dice.choice(keys)), int(dice.integers(0, 100))
            writer.update([key], [{"n": n}])
            item_id, vector, fields = oracle.items[key]
            oracle.items[key] = (item_id, vector, {**fields, "n": n})
        elif what == "merge":
            assert merge_catalogue(opened.folder).count == len(oracle.items)
        else:
            with suppress(NothingToRollBack):
                rollback_catalogue(opened.folder)
        (query,) = fuzz.clusters(1, step)
        oracle.check(opened, query)
        if step % 40 == 39:  # a reader that has not looked for a while, and one that begins now
            oracle.check(late, query)
            with closing(open_catalogue(opened.folder)) as fresh:
                oracle.check(fresh, query)
    assert list(verify_catalogue(opened.folder)) == []
    late.close()
