"""Items with vectors of boxes in their pictures: found by the nearest box, through every change of a catalogue."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index import (
    Box,
    Catalogue,
    DamagedIndex,
    Entry,
    InvalidEntry,
    LiveWriter,
    Metric,
    backup_catalogue,
    merge_catalogue,
    open_catalogue,
    restore_catalogue,
    rollback_catalogue,
    start_catalogue,
    start_migration,
    unit_rows,
    verify_catalogue,
)

PRINT, DIM, COUNT = "0" * 64, 24, 300
BOXES: tuple[Box, ...] = ((0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5))


def entry(n: int, seed: int = 1) -> Entry:
    rows = np.random.default_rng(seed * 10_000 + n).standard_normal((1 + len(BOXES), DIM)).astype(np.float32)
    whole, *boxes = unit_rows(rows)
    return Entry(f"{n}.jpg", whole, {"n": n}, "0" * 64, b"\xff\xd8", 1, 1, regions=np.stack(boxes))


def build(folder: Path, metric: Metric = "cosine", *, overwrite: bool = False) -> None:
    writer = start_catalogue(
        folder, model="m", fingerprint=PRINT, dim=DIM, metric=metric, regions=BOXES, overwrite=overwrite
    )
    writer.extractor_folder.mkdir(exist_ok=True)
    (writer.extractor_folder / "extractor.json").write_text("{}")
    if overwrite:
        assert len(writer.take_over({f"{n}.jpg": (1, 1) for n in range(COUNT + 50)})) > COUNT
    else:
        writer.add([entry(n) for n in range(COUNT)])
    writer.build_index()
    writer.publish({})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build(tmp_path / "catalogue")
    return tmp_path / "catalogue"


@pytest.fixture
def opened(folder: Path) -> Iterator[Catalogue]:
    with closing(open_catalogue(folder)) as catalogue:
        yield catalogue


@pytest.fixture
def writer(folder: Path) -> Iterator[LiveWriter]:
    with closing(LiveWriter(folder)) as writer:
        yield writer


def check(catalogue: Catalogue, entries: list[Entry], k: int = 10, where: object = None) -> None:
    """Check searches against the score by the nearest box of each entry, computed here."""
    queries = unit_rows(np.random.default_rng(5).standard_normal((40, DIM)).astype(np.float32))
    queries[:3] = [entries[place].regions[1] for place in (0, -2, -1)]  # type: ignore[index]
    regions = np.stack([one.regions for one in entries if one.regions is not None])
    best = np.einsum("nbd,qd->qnb", regions, queries).max(axis=2)
    keys = np.array([one.key for one in entries])
    snapshot = catalogue.snapshot()
    selection = None if where is None else catalogue.allow(where)
    found = snapshot.search_regions(queries, k, selection=selection)
    right = 0
    for one, scores in zip(found, best, strict=True):
        items = catalogue.items(one.labels.tolist())
        named = [items[label].key for label in one.labels.tolist()]
        assert len(set(named)) == len(named) == min(k, len(entries))
        truth = np.argsort(-scores, kind="stable")[:k]
        right += len(set(named) & set(keys[truth]))
        exact = dict(zip(keys, scores, strict=True))
        assert snapshot.scores(one) == pytest.approx([exact[key] for key in named], abs=1e-5)
    assert right >= 0.99 * len(queries) * min(k, len(entries))
    some = [0, 2, len(entries) - 1]
    ids = [item.id for item in catalogue.items_by_key(keys[some].tolist()).values()]
    assert snapshot.region_vectors(ids) == pytest.approx(regions[some], abs=1e-6)
    each = snapshot.region_scores_of(queries[:4], ids)
    assert each == pytest.approx(np.einsum("nbd,qd->qnb", regions[some], queries[:4]), abs=1e-5)


def test_an_item_is_found_by_its_nearest_box(opened: Catalogue) -> None:
    entries = [entry(n) for n in range(COUNT)]
    assert opened.info.regions == BOXES
    check(opened, entries)
    check(opened, entries, k=200)
    check(opened, entries[:40], where={"n": {"$lt": 40}})
    check(opened, entries[:4], where={"n": {"$lt": 4}})


def test_no_change_loses_a_box(folder: Path, opened: Catalogue, writer: LiveWriter, tmp_path: Path) -> None:
    entries = {n: entry(n) for n in range(COUNT)}
    new = {n: entry(n, seed=2) for n in (*range(COUNT, COUNT + 20), 3, 5)}  # some take the place of others
    writer.add(list(new.values()), PRINT)
    writer.remove(["9.jpg", f"{COUNT + 4}.jpg"])
    for n in (9, COUNT + 4):
        entries.pop(n, None), new.pop(n, None)
    there = list((entries | new).values())
    check(opened, there)
    check(opened, [one for one in there if one.metadata["n"] > 280], where={"n": {"$gt": 280}})
    merge_catalogue(folder)
    assert opened.info.unmerged == 0
    check(opened, there)
    assert list(verify_catalogue(folder)) == []
    rollback_catalogue(folder)
    check(opened, there)
    merge_catalogue(folder)
    check(opened, there)
    backup_catalogue(folder, tmp_path / "backup")
    restore_catalogue(tmp_path / "backup", tmp_path / "restored", overwrite=False)
    with closing(open_catalogue(tmp_path / "restored")) as restored:
        check(restored, there)
    writer.add([more := entry(COUNT + 30, seed=4)], PRINT)
    build(folder, overwrite=True)  # takes all of them over, merged or not
    with closing(open_catalogue(folder)) as rebuilt:
        check(rebuilt, [*there, more])
    assert sorted(path.name for path in folder.glob("base-*")) == [
        *("base-000001.codes", "base-000001.columns", "base-000001.hashes", "base-000001.hnsw"),
        *("base-000001.regions.codes", "base-000001.regions.hnsw"),
    ]


def test_a_migration_has_new_vectors_for_the_boxes_too(folder: Path, writer: LiveWriter) -> None:
    def save(place: Path) -> None:
        place.mkdir()
        (place / "extractor.json").write_text("{}")

    other = "1" * 64
    migration = start_migration(folder, model="n", fingerprint=other, dim=DIM, save=save)
    with closing(migration):
        for late in (False, True):
            if late:  # added while it went on, so not in its index
                writer.add([entry(COUNT)], PRINT)
            items = migration.lacking(1000)
            new = {one.id: entry(int(one.key.removesuffix(".jpg")), seed=7) for one in items}
            regions = {number: one.regions for number, one in new.items() if one.regions is not None}
            migration.add({number: one.vector for number, one in new.items()}, regions)
            if not late:
                migration.build()
        assert migration.switch()
    with closing(open_catalogue(folder)) as switched:
        assert switched.info.fingerprint == other
        check(switched, [entry(n, seed=7) for n in range(COUNT + 1)])
    assert list(verify_catalogue(folder)) == []


@pytest.mark.parametrize("boxes", [None, 2, 4])
def test_an_entry_without_its_boxes_is_refused(writer: LiveWriter, boxes: int | None) -> None:
    wrong = replace(entry(1), regions=None if boxes is None else np.ones((boxes, DIM), np.float32))
    with pytest.raises(InvalidEntry, match="it needs 3 regional vectors"):
        writer.add([wrong], PRINT)


def test_damage_to_the_boxes_is_found(folder: Path) -> None:
    path = folder / "base-000001.regions.hnsw"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    faults = list(verify_catalogue(folder))
    assert faults
    assert all("regions" in fault for fault in faults)
    path.unlink()
    with pytest.raises(DamagedIndex, match=r"regions\.hnsw is missing"):
        open_catalogue(folder)


def test_a_catalogue_from_before_there_were_boxes_is_served(tmp_path: Path) -> None:
    folder = tmp_path / "catalogue"
    writer = start_catalogue(folder, model="m", fingerprint=PRINT, dim=DIM)
    writer.extractor_folder.mkdir()
    (writer.extractor_folder / "extractor.json").write_text("{}")
    plain = [replace(entry(n), regions=None) for n in range(20)]
    writer.add(plain)
    writer.build_index()
    connection = writer._connection
    connection.execute("DROP TABLE regions")
    connection.execute("DELETE FROM counts WHERE name = 'regions'")
    connection.execute("DELETE FROM meta WHERE name = 'regions'")
    writer.publish({})
    with closing(open_catalogue(folder)) as catalogue, closing(LiveWriter(folder)) as live:
        live.add([replace(entry(21), regions=None)], PRINT)
        live.remove(["3.jpg"])
        assert (len(catalogue), catalogue.info.regions) == (20, ())
        assert list(verify_catalogue(folder)) == []
        merge_catalogue(folder)
        assert list(verify_catalogue(folder)) == []
    shutil.rmtree(folder)
