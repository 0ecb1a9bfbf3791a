"""A backup is a whole catalogue, whatever is written meanwhile, and only a whole one is restored."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from index import (
    CatalogueExists,
    CatalogueMismatch,
    CatalogueNotFound,
    DamagedIndex,
    JobQueue,
    LiveWriter,
    backup_catalogue,
    merge_catalogue,
    open_catalogue,
    restore_catalogue,
    start_catalogue,
    verify_catalogue,
)
from tests.index.test_live import PRINT, entry, folder, writer
from tests.soak import fuzz

__all__ = ["folder", "writer"]  # fixtures


def test_a_backup_is_made_while_others_write_and_merge(folder: Path, writer: LiveWriter, tmp_path: Path) -> None:
    stop = threading.Event()
    written: list[int] = []

    def write() -> None:
        for n in range(10_000):
            if stop.is_set():
                return
            writer.add([entry(n)], PRINT)
            written.append(n)
            if n % 20 == 19:
                merge_catalogue(folder)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(8):
            before = len(written)
            backup_catalogue(folder, tmp_path / "backup")
            assert list(verify_catalogue(tmp_path / "backup")) == []
            with closing(open_catalogue(tmp_path / "backup")) as copy:
                assert 200 + before <= len(copy) <= 201 + len(written)
    finally:
        stop.set()
        thread.join()
    names = {path.name.partition(".")[0] for path in (tmp_path / "backup").glob("base-*")}
    assert len(names) == 1  # older generations' files are gone


def test_only_what_has_changed_is_copied_again(folder: Path, writer: LiveWriter, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    backup_catalogue(folder, target)
    before = {path.name: path.stat().st_ino for path in target.iterdir()}
    writer.add([entry(1)], PRINT)
    backup_catalogue(folder, target)
    after = {path.name: path.stat().st_ino for path in target.iterdir()}
    assert {name for name in after if after[name] != before.get(name)} == {"catalogue.sqlite"}


def test_a_backup_is_restored_and_a_damaged_one_is_not(folder: Path, writer: LiveWriter, tmp_path: Path) -> None:
    (added,) = writer.add([entry(1)], PRINT)
    backup_catalogue(folder, tmp_path / "backup")
    writer.remove([added.id, 5])
    restored = tmp_path / "restored"
    restore_catalogue(tmp_path / "backup", restored, overwrite=False)
    with closing(open_catalogue(restored)) as catalogue:
        assert catalogue.items([5, added.id]).keys() == {5, added.id}
    with pytest.raises(CatalogueExists, match="--overwrite"):
        restore_catalogue(tmp_path / "backup", restored, overwrite=False)
    restore_catalogue(tmp_path / "backup", restored, overwrite=True)
    assert list(verify_catalogue(restored)) == []
    codes = tmp_path / "backup" / "base-000001.codes"
    codes.write_bytes(codes.read_bytes()[:-1] + b"!")
    with pytest.raises(DamagedIndex, match=r"is damaged: base-000001\.codes: the file has changed"):
        restore_catalogue(tmp_path / "backup", restored, overwrite=True)
    with closing(open_catalogue(restored)) as catalogue:
        assert len(catalogue) == 201


def test_what_is_no_backup_is_left_alone(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_text("mine")
    with pytest.raises(CatalogueExists, match="is no backup, so it is left alone"):
        backup_catalogue(folder, other)
    with pytest.raises(CatalogueNotFound):
        backup_catalogue(tmp_path / "none", tmp_path / "backup")
    with pytest.raises(CatalogueNotFound):
        restore_catalogue(other, tmp_path / "out", overwrite=False)
    assert [path.name for path in other.iterdir()] == ["file"]


def test_a_catalogue_is_backed_up_over_no_other_and_not_into_itself(
    folder: Path, writer: LiveWriter, tmp_path: Path
) -> None:
    backup_catalogue(folder, tmp_path / "backup")
    for target in (folder, folder / "inside", folder.parent):
        with pytest.raises(CatalogueExists, match="or lies in it, or around it"):
            backup_catalogue(folder, target)
        with pytest.raises(CatalogueExists):
            restore_catalogue(folder, target, overwrite=True)
    assert not (folder / "inside").exists()
    other = start_catalogue(tmp_path / "other", model="m", fingerprint=PRINT, dim=fuzz.DIM)
    other.extractor_folder.mkdir()
    other.add([entry(1)])
    other.build_index()
    other.publish({})
    with pytest.raises(CatalogueExists, match="is another catalogue"):
        backup_catalogue(folder, tmp_path / "other")
    restore_catalogue(tmp_path / "backup", tmp_path / "twin", overwrite=False)
    with closing(LiveWriter(tmp_path / "twin")) as ahead:
        ahead.add([entry(2)], PRINT)
    with pytest.raises(CatalogueExists, match=r"has items that .* never had"):
        backup_catalogue(folder, tmp_path / "twin")
    writer.add([entry(3), entry(4)], PRINT)
    backup_catalogue(folder, tmp_path / "backup")
    backup_catalogue(folder, tmp_path / "other", overwrite=True)
    for copy in ("backup", "other"):
        with closing(open_catalogue(tmp_path / copy)) as catalogue:
            assert len(catalogue) == 202


def test_what_was_replaced_while_it_was_open_takes_no_change(folder: Path, writer: LiveWriter, tmp_path: Path) -> None:
    with closing(JobQueue(folder)) as queue:
        backup_catalogue(folder, tmp_path / "backup")
        restore_catalogue(tmp_path / "backup", folder, overwrite=True)
        changes: list[Callable[[], object]] = [
            lambda: writer.add([entry(1)], PRINT),
            lambda: writer.remove([1]),
            lambda: queue.create([]),
        ]
        for change in changes:
            with pytest.raises(CatalogueMismatch, match="was replaced by another catalogue"):
                change()
    with closing(LiveWriter(folder)) as again:
        again.add([entry(1)], PRINT)

    def replace(*_: object) -> None:
        backup_catalogue(folder, tmp_path / "backup")
        restore_catalogue(tmp_path / "backup", folder, overwrite=True)

    with pytest.raises(CatalogueMismatch, match="was replaced by another catalogue"):
        merge_catalogue(folder, replace)
    assert merge_catalogue(folder).count == 201
