"""A catalogue folder opens as what it is, or is refused with a sentence."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import (
    Catalogue,
    CatalogueMismatch,
    CatalogueNotFound,
    DamagedIndex,
    Entry,
    open_catalogue,
    start_catalogue,
    verify_catalogue,
)
from index.catalogue.database import Reading
from index.catalogue.files import FORMAT_VERSION
from index.catalogue.rows import checksum_text
from model import ExtractorCard


@pytest.fixture
def copy(catalogue: Path, tmp_path: Path) -> Path:
    # As a build leaves it: without the lock files of whoever has it open now.
    return Path(shutil.copytree(catalogue, tmp_path / "copy", ignore=shutil.ignore_patterns("*-wal", "*-shm")))


@pytest.fixture
def opened(catalogue: Path) -> Iterator[Catalogue]:
    opened = open_catalogue(catalogue)
    yield opened
    opened.close()


def test_it_says_what_it_holds(opened: Catalogue, card: ExtractorCard) -> None:
    assert (opened.info.count, len(opened)) == (59, 59)
    assert (opened.info.model, opened.info.dim, opened.info.metric) == (card.model, card.dim, "cosine")
    assert (opened.info.fingerprint, opened.info.generation) == (card.fingerprint, 1)


def test_every_item_finds_itself_first(opened: Catalogue) -> None:
    items = opened.items(range(1, 60))
    assert len(items) == 59
    for item_id in items:
        vector = opened.vector(item_id)
        assert vector is not None
        (hits,) = opened.search(vector[None], 3)
        assert hits[0].item.id == item_id
        assert hits[0].score == pytest.approx(1, abs=1e-5)
        assert hits[0].score >= hits[1].score >= hits[2].score
        (others,) = opened.search(vector[None], 3, without=[item_id])
        assert [hit.item.id for hit in others[:2]] == [hit.item.id for hit in hits[1:]]


def test_hits_equal_the_exact_search(opened: Catalogue) -> None:
    queries = np.stack([opened.vector(item_id) for item_id in range(1, 60)])  # type: ignore[misc]
    for hits, truth in zip(opened.search(queries, 10), opened.search_exactly(queries, 10), strict=True):
        assert [hit.item.id for hit in hits] == [item_id for item_id, _ in truth]
        assert [hit.score for hit in hits] == pytest.approx([score for _, score in truth], abs=1e-5)


def test_items_are_found_by_key_and_missing_ones_left_out(opened: Catalogue) -> None:
    key = opened.items([7])[7].key
    assert opened.items_by_key([key, "no such"])[key].id == 7
    assert opened.items([99]) == {}
    assert opened.vector(99) is None
    assert opened.thumbnail(99) is None
    assert (opened.thumbnail(7) or b"").startswith(b"\xff\xd8")


def test_many_ids_at_once_are_no_trouble_for_sqlite(opened: Catalogue) -> None:
    assert len(opened.items(list(range(40_000)))) == 59


def test_it_opens_from_a_folder_that_cannot_be_written(copy: Path, tmp_path: Path) -> None:
    # A read-only mount, as a container's layer is: permissions alone do not hold root back.
    point = tmp_path / "mounted"
    point.mkdir()
    mounted = subprocess.run(["mount", "--bind", "-o", "ro", copy, point], capture_output=True).returncode == 0
    if mounted:
        subprocess.run(["mount", "-o", "remount,ro,bind", point], check=True, capture_output=True)
    else:
        point = copy
        for path in (*copy.rglob("*"), copy):
            path.chmod(0o555 if path.is_dir() else 0o444)
    before = sorted(path.name for path in point.iterdir())
    try:
        opened = open_catalogue(point)
        assert len(opened.items([1])) == 1
        opened.close()
        assert sorted(path.name for path in point.iterdir()) == before
        if mounted:
            assert not os.access(point, os.W_OK)
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", point], check=True)
        copy.chmod(0o755)


def test_a_folder_that_is_none_says_so(tmp_path: Path) -> None:
    with pytest.raises(CatalogueNotFound, match="is not there"):
        open_catalogue(tmp_path / "none")
    (tmp_path / "file").write_text("text")
    with pytest.raises(CatalogueNotFound, match="it is a file; make one"):
        open_catalogue(tmp_path / "file")
    with pytest.raises(CatalogueNotFound, match=r"has no catalogue.sqlite; make one with: python cli.py build"):
        open_catalogue(tmp_path)
    (tmp_path / "catalogue.sqlite").write_text("not a database, whatever its name says " * 30)
    with pytest.raises(CatalogueNotFound, match="not a catalogue's database"):
        open_catalogue(tmp_path)


def test_another_extractor_is_refused_with_both_fingerprints(opened: Catalogue, card: ExtractorCard) -> None:
    opened.check_made_with(card.fingerprint)
    with pytest.raises(CatalogueMismatch, match=f"{card.model}.*{card.fingerprint[:12]}.*abcdef"):
        opened.check_made_with("abcdef")


def set_meta(folder: Path, name: str, value: object) -> None:
    connection = sqlite3.connect(folder / "catalogue.sqlite")
    with connection:
        connection.execute("UPDATE meta SET value = ? WHERE name = ?", (json.dumps(value), name))
    connection.close()


def set_fact(folder: Path, name: str, value: object) -> None:
    """Change what the database says of the current generation, as its own checksum would have it."""
    connection = sqlite3.connect(folder / "catalogue.sqlite")
    ((facts,),) = connection.execute("SELECT facts FROM generations")
    changed = json.loads(facts) | {name: value}
    text = json.dumps({known: one for known, one in changed.items() if one is not None})
    with connection:
        connection.execute("UPDATE generations SET facts = ?, checksum = ?", (text, checksum_text(text)))
    connection.close()


def test_a_newer_format_another_dim_and_a_missing_index_are_refused(copy: Path) -> None:
    set_meta(copy, "format_version", 99)
    with pytest.raises(CatalogueMismatch, match="format 99; this version reads format"):
        open_catalogue(copy)
    set_meta(copy, "format_version", FORMAT_VERSION)
    set_fact(copy, "dim", 64)
    with pytest.raises(Exception, match="1280-d vectors where 64-d"):
        open_catalogue(copy)
    set_fact(copy, "dim", 1280)
    (copy / "base-000001.hnsw").unlink()
    with pytest.raises(DamagedIndex, match="is missing; restore or rebuild"):
        open_catalogue(copy)


def test_a_database_damaged_while_it_is_open_is_told_by_name(copy: Path) -> None:
    opened = open_catalogue(copy)
    path = copy / "catalogue.sqlite"
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(DamagedIndex, match="database cannot be read"):
        opened.items(list(range(60)))
    opened.close()


def test_an_index_of_another_size_than_the_catalogue_is_refused(copy: Path) -> None:
    set_fact(copy, "count", 58)
    with pytest.raises(DamagedIndex, match="holds 59 rows, the generation 58 items"):
        open_catalogue(copy)


def test_a_database_that_lacks_what_a_catalogue_says_of_itself_is_refused(copy: Path) -> None:
    set_fact(copy, "count", None)
    with pytest.raises(DamagedIndex, match=r"does not say what the catalogue is \(count: field required\); restore or"):
        open_catalogue(copy)


@pytest.mark.parametrize(
    ("name", "value"),
    [("count", "59"), ("base", 5), ("files", [1]), ("files", {"../a": "b"}), ("base", "../base.hnsw")],
)
def test_a_database_that_says_it_wrongly_is_refused(name: str, value: object, copy: Path) -> None:
    set_fact(copy, name, value)
    with pytest.raises(DamagedIndex, match="restore or rebuild it"):
        open_catalogue(copy)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE items SET metadata = '{oops' WHERE id = 1",
        "UPDATE items SET metadata = '[1]' WHERE id = 1",
        "UPDATE items SET key = x'ff00' WHERE id = 1",
        "UPDATE items SET sha256 = 0.5 WHERE id = 1",
        "UPDATE items SET id = 1000 WHERE id = 1",
        "DELETE FROM items WHERE id = 1",
        "UPDATE thumbnails SET jpeg = 'hello' WHERE id = 1",
        "UPDATE thumbnails SET jpeg = (SELECT jpeg FROM thumbnails WHERE id = 2) WHERE id = 1",
        "UPDATE items SET metadata = replace(metadata, 'imagenet', 'interiors') WHERE id = 1",
        "UPDATE generations SET facts = replace(facts, '\"last_id\": 59', '\"last_id\": 58')",
        "UPDATE counts SET rows = 1 WHERE name = 'items'",
    ],
)
def test_a_changed_database_is_found_by_verify_and_never_an_error_without_a_name(change: str, copy: Path) -> None:
    connection = sqlite3.connect(copy / "catalogue.sqlite")
    with connection:
        connection.execute(change)
    connection.close()
    assert list(verify_catalogue(copy))
    opened = open_catalogue(copy)
    for look in (
        lambda: opened.items([1]),
        lambda: opened.vector(1),
        lambda: opened.thumbnail(1),
        lambda: opened.search(np.ones((1, 1280), np.float32), 59),
        lambda: opened.allow({"label": "imagenet"}),
    ):
        with suppress(DamagedIndex):
            look()
    opened.close()


def test_opening_reads_no_item(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    query = Reading.query

    def noted(self: Reading, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        asked.append(sql)
        return query(self, sql, values)

    monkeypatch.setattr(Reading, "query", noted)
    open_catalogue(copy).close()
    assert not [sql for sql in asked if "FROM items" in sql]
    assert any("FROM generations" in sql for sql in asked)


def test_filters_find_by_metadata_and_are_cached(opened: Catalogue) -> None:
    allowed = opened.allow({"label": "imagenet"})
    assert len(allowed) == 20
    assert opened.allow({"label": {"$eq": "imagenet"}}).allowed is allowed.allowed
    vector = opened.vector(1)
    assert vector is not None
    (hits,) = opened.search(vector[None], 59, allowed=allowed)
    assert len(hits) == 20
    assert {hit.item.metadata["label"] for hit in hits} == {"imagenet"}
    (none,) = opened.search(vector[None], 5, allowed=opened.allow({"label": "no such"}))
    assert none == []


def test_a_long_filter_is_looked_up_each_time_and_not_cached(opened: Catalogue) -> None:
    where = {"width": {"$in": list(range(5000))}}
    first, second = opened.allow(where), opened.allow(where)
    assert first.allowed is not second.allowed
    assert first.allowed.rows().tolist() == second.allowed.rows().tolist() == list(range(59))


def test_each_query_leaves_out_its_own_item(opened: Catalogue) -> None:
    vectors = np.stack([opened.vector(item) for item in (1, 2, 3)])  # type: ignore[misc]
    found = opened.search(vectors, 5, without=[1, None, 3])
    assert [len(hits) for hits in found] == [5, 5, 5]
    assert [hits[0].item.id == item for item, hits in zip((1, 2, 3), found, strict=True)] == [False, True, False]


def test_keys_and_labels_are_compared_in_nfc(tmp_path: Path) -> None:
    plain, decomposed = "caf\u00e9", "cafe\u0301"
    writer = start_catalogue(tmp_path / "out", model="m", fingerprint="f", dim=4)
    entry = Entry(f"{decomposed}.jpg", np.eye(4, dtype=np.float32)[0], {"label": decomposed}, "", b"\xff\xd8", 0, 0)
    writer.add([entry])
    writer.add([replace(entry, key=f"{plain}.jpg")])  # the same picture
    writer.build_index()
    writer.publish({})
    with closing(open_catalogue(tmp_path / "out")) as catalogue:
        assert len(catalogue) == 1
        for form in (plain, decomposed):
            assert catalogue.items_by_key([f"{form}.jpg"])[f"{form}.jpg"].key == f"{plain}.jpg"
            for where in ({"label": form}, {"label": {"$prefix": form}}, {"label": {"$contains": form}}):
                assert len(catalogue.allow(where)) == 1
