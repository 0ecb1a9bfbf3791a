"""A catalogue that is written to while it is open: every reader sees each change at once, and no merge loses one."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import (
    Catalogue,
    CatalogueBusy,
    CatalogueMismatch,
    DiskFull,
    EmptyCatalogue,
    Entry,
    InvalidEntry,
    LiveWriter,
    NothingToRollBack,
    merge_catalogue,
    open_catalogue,
    rollback_catalogue,
    verify_catalogue,
)
from index.catalogue.base import Base
from index.catalogue.merge import merge_lock
from tests.soak import fuzz

PRINT = "0" * 64  # the fingerprint of fuzz.make_catalogue


def entry(n: int, seed: int = 3, **metadata: Any) -> Entry:
    (vector,) = fuzz.clusters(1, seed * 1000 + n)
    return Entry(f"new-{n}.jpg", vector, {"n": n, **metadata}, "0" * 64, b"\xff\xd8", 1, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fuzz.make_catalogue(tmp_path / "catalogue")


@pytest.fixture
def opened(folder: Path) -> Iterator[Catalogue]:
    with closing(open_catalogue(folder)) as catalogue:
        yield catalogue


@pytest.fixture
def writer(folder: Path) -> Iterator[LiveWriter]:
    with closing(LiveWriter(folder)) as writer:
        yield writer


def first_hit(catalogue: Catalogue, one: Entry) -> int | None:
    (hits,) = catalogue.search(one.vector[None], 1)
    return hits[0].item.id if hits and hits[0].score > 0.9999 else None


def test_what_is_added_is_found_at_once_and_what_is_removed_never_again(opened: Catalogue, writer: LiveWriter) -> None:
    one = entry(1, label="cats")
    assert first_hit(opened, one) is None
    (added,) = writer.add([one], PRINT)
    assert added.replaced is None
    assert first_hit(opened, one) == added.id
    assert (len(opened), opened.info.unmerged) == (201, 1)
    assert opened.items_by_key(["new-1.jpg"])["new-1.jpg"].metadata == {"n": 1, "label": "cats"}
    vector = opened.vector(added.id)
    assert vector is not None
    assert vector == pytest.approx(one.vector)
    assert writer.remove([added.id, 999]) == [added.id, None]
    assert first_hit(opened, one) is None
    assert opened.vector(added.id) is None
    old = opened.vector(7)
    assert old is not None
    assert writer.remove(["6.jpg"]) == [7]
    assert opened.vector(7) is None
    assert len(opened) == 199
    (hits,) = opened.search(old[None], 200, ef=200)
    assert len(hits) == 199
    assert 7 not in [hit.item.id for hit in hits]


def test_the_same_key_replaces_and_gives_a_new_id(opened: Catalogue, writer: LiveWriter) -> None:
    (first,) = writer.add([entry(1)], PRINT)
    other = entry(1, seed=9)
    (second,) = writer.add([other], PRINT)
    assert second.replaced == first.id < second.id
    assert first_hit(opened, other) == second.id
    assert len(opened) == 201
    both = writer.add([entry(2), entry(2, seed=9)], PRINT)
    assert both[1].replaced == both[0].id
    (old,) = writer.add([Entry("6.jpg", other.vector, {}, "", b"\xff\xd8", 1, 1)], PRINT)
    assert old.replaced == 7
    assert len(opened) == 202


def test_filters_see_what_is_added_updated_and_removed(opened: Catalogue, writer: LiveWriter) -> None:
    query = np.ones((1, fuzz.DIM), np.float32)

    def found(where: object) -> list[int]:
        allowed = opened.allow(where)
        (hits,) = opened.search(query, 300, ef=300, allowed=allowed)
        assert len(hits) == len(allowed)
        return sorted(hit.item.id for hit in hits)

    assert found({"label": "cats"}) == []
    assert opened.hint({"label": "cats"}) == 'no item has the field "label"; there are: date, few, in, n, tags, text'
    one, two = writer.add([entry(1, label="cats"), entry(2, label="dogs")], PRINT)
    assert found({"label": "cats"}) == [one.id]
    assert opened.hint({"label": "cats"}) is None
    assert writer.update([two.id, 5, 999], [{"label": "cats"}, {"label": "cats", "n": None}, {}]) == [
        two.id,
        5,
        None,
    ]
    assert found({"label": "cats"}) == [5, one.id, two.id]
    assert found({"label": "cats", "n": {"$exists": True}}) == [one.id, two.id]
    assert found({"n": {"$lt": 6}, "text": {"$exists": True}}) == [1, 2, 3, 4, 6]
    assert opened.items([5])[5].metadata == {k: v for k, v in fuzz.fields(4).items() if k != "n"} | {"label": "cats"}
    writer.update(["4.jpg"], [{"only": True}], replace=True)
    assert opened.items([5])[5].metadata == {"only": True}
    assert found({"label": "cats"}) == [one.id, two.id]
    writer.remove([5, one.id])
    assert found({"only": True}) == []
    assert found({"label": "cats"}) == [two.id]
    writer.update([two.id, 9], [{"n": -1}, {"n": -2}])
    merge_catalogue(opened.folder)
    assert found({"n": {"$lt": 0}}) == [9, two.id]


def test_a_snapshot_stays_what_it_was(opened: Catalogue, writer: LiveWriter) -> None:
    before = opened.snapshot()
    one = entry(1)
    (added,) = writer.add([one], PRINT)
    writer.remove([3])
    during = opened.snapshot()
    merge_catalogue(opened.folder)
    writer.add([entry(n) for n in range(2, 90)], PRINT)
    after = opened.snapshot()
    assert [len(one) for one in (before, during, after)] == [200, 200, 288]
    query = one.vector[None]
    assert added.id not in before.search(query, 5)[0].labels
    assert before.search(query, 250, 250)[0].labels.tolist().count(3) == 1
    assert 3 not in during.search(query, 250, 250)[0].labels
    assert [snapshot.search(query, 1)[0].labels[0] == added.id for snapshot in (during, after)] == [True, True]
    assert (during.generation.generation, after.generation.generation) == (1, 2)


def test_merging_and_going_back_lose_nothing_and_keep_two_generations(opened: Catalogue, writer: LiveWriter) -> None:
    folder = opened.folder
    with pytest.raises(NothingToRollBack, match="no generation before 1"):
        rollback_catalogue(folder)
    assert merge_catalogue(folder).generation == 1  # there is nothing to merge
    one, two = entry(1), entry(2)
    (first,) = writer.add([one], PRINT)
    assert merge_catalogue(folder).generation == 2
    assert opened.info.unmerged == 0
    (second,) = writer.add([two], PRINT)
    made = rollback_catalogue(folder)
    assert (made.generation, made.base) == (3, "base-000001.hnsw")
    assert [first_hit(opened, one), first_hit(opened, two)] == [first.id, second.id]
    assert opened.info.unmerged == 2
    assert rollback_catalogue(folder).base == "base-000002.hnsw"
    assert [first_hit(opened, one), first_hit(opened, two)] == [first.id, second.id]
    assert merge_catalogue(folder).generation == 5
    assert sorted(path.name for path in folder.glob("base-*.hnsw")) == ["base-000002.hnsw", "base-000005.hnsw"]
    assert list(verify_catalogue(folder)) == []


def test_a_generation_that_is_over_is_let_go_at_once(opened: Catalogue, writer: LiveWriter) -> None:
    gc.disable()
    try:
        opened.search(np.ones((1, fuzz.DIM), np.float32), 3, allowed=opened.allow({"n": 3}))
        old = weakref.ref(opened.snapshot().base)
        writer.add([entry(1)], PRINT)
        merge_catalogue(opened.folder)
        assert opened.info.generation == 2
        assert old() is None
    finally:
        gc.enable()


def test_a_reader_whose_files_go_while_it_opens_them_takes_the_next_generation(
    folder: Path, writer: LiveWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def merged(*arguments: Any) -> Any:
        for n in range(2):
            writer.add([entry(n)], PRINT)
            merge_catalogue(folder)
        monkeypatch.undo()
        return Base(*arguments)

    monkeypatch.setattr("index.catalogue.follow.Base", merged)
    with closing(open_catalogue(folder)) as catalogue:
        assert (catalogue.info.generation, len(catalogue)) == (3, 202)


def test_after_a_write_that_the_disk_did_not_take_the_next_one_goes_on(opened: Catalogue, writer: LiveWriter) -> None:
    writer._connection.execute("PRAGMA max_page_count = 60")  # as a full disk, to SQLite
    big = replace(entry(1), thumbnail=bytes(500_000))
    for _ in range(2):
        with pytest.raises(DiskFull, match="nothing was written"):
            writer.add([entry(2), big], PRINT)
    assert len(opened) == 200
    writer._connection.execute("PRAGMA max_page_count = 100000")
    writer.add([entry(2), big], PRINT)
    assert len(opened) == 202


def test_a_catalogue_can_be_emptied_and_filled_again(opened: Catalogue, writer: LiveWriter) -> None:
    writer.remove([1])
    assert writer.to_merge() == 1
    writer.remove(range(1, 201))
    assert (len(opened), writer.to_merge()) == (0, 0)  # else a service would try again and again
    assert opened.search(np.ones((1, fuzz.DIM), np.float32), 5) == [[]]
    with pytest.raises(EmptyCatalogue, match="no items left"):
        merge_catalogue(opened.folder)
    one = entry(1)
    (added,) = writer.add([one], PRINT)
    assert first_hit(opened, one) == added.id
    assert writer.to_merge() == 201
    assert merge_catalogue(opened.folder).count == 1
    assert first_hit(opened, one) == added.id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": ""}, "is not a key"),
        ({"key": "a\nb"}, "is not a key"),
        ({"key": "\ud800"}, "is not a key"),
        ({"key": "k" * 5000}, "is not a key"),
        ({"vector": np.full(fuzz.DIM, np.nan, np.float32)}, "not 16 finite numbers"),
        ({"vector": np.ones(3, np.float32)}, "not 16 finite numbers"),
        ({"metadata": {"a": float("nan")}}, "is not JSON"),
        ({"metadata": {"a": "\ud800"}}, "is not JSON"),
        ({"metadata": {"a": "x" * 300_000}}, "more than the 262,144 allowed"),
    ],
)
def test_of_a_wrong_entry_nothing_of_the_call_is_written(
    change: dict[str, Any], message: str, opened: Catalogue, writer: LiveWriter
) -> None:
    good = entry(1)
    wrong = Entry(**{**{name: getattr(good, name) for name in Entry.__slots__}, "key": "other", **change})
    with pytest.raises(InvalidEntry, match=message):
        writer.add([good, wrong], PRINT)
    assert len(opened) == 200
    with pytest.raises(CatalogueMismatch, match="not of the extractor that made these"):
        writer.add([good], "1" * 64)
    with pytest.raises(InvalidEntry, match="is not JSON"):
        writer.update([1, 2], [{"a": 1}, {"a": float("inf")}])
    assert "a" not in opened.items([1])[1].metadata


def test_two_merges_at_once_are_refused_and_one_that_was_broken_off_leaves_nothing(folder: Path) -> None:
    with merge_lock(folder), pytest.raises(CatalogueBusy, match="is being merged by another process"):
        merge_catalogue(folder)
    for name in ("base-000009.hnsw", "base-000002.codes.new"):
        (folder / name).write_bytes(b"broken off")
    with closing(LiveWriter(folder)) as writer:
        writer.add([entry(1)], PRINT)
    merge_catalogue(folder)
    assert sorted(path.name for path in folder.glob("base-*.hnsw")) == ["base-000001.hnsw", "base-000002.hnsw"]
    assert not list(folder.glob("*.new"))
