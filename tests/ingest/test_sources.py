"""Which files a build finds, by which keys, and what it leaves out; and those that an extractor is measured on."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from index import EmptyCatalogue
from ingest import SourceNotFound, SourceSamples, find_sources
from ingest.sources.folders import JUNK
from model import Extractor, Limits, read_picture

T = TypeVar("T")


def test_samples_are_spread_and_readable(extractor: Extractor, photos: list[Path], tmp_path: Path) -> None:
    for place, photo in enumerate(photos[:12]):
        shutil.copy(photo, tmp_path / f"{place:02}.jpg")
    for place in (0, 4):
        (tmp_path / f"{place:02}.jpg").write_bytes(b"no picture")
    samples = SourceSamples(find_sources([tmp_path]), Limits())
    look = extractor.card.preprocessing

    def pixels(place: int) -> np.ndarray:
        return look.to_pixels(read_picture(photos[place].read_bytes(), enough=look.enough).image)

    # A step of four: 0 and 4 cannot be read, 8 can; then those next to them.
    assert np.array_equal(samples(extractor.card, 3), [pixels(8), pixels(1), pixels(5)])
    assert len(samples(extractor.card, 100)) == 10


def test_without_a_readable_picture_there_is_nothing_to_measure_on(extractor: Extractor, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(EmptyCatalogue, match="none of 1 files could be read"):
        SourceSamples(find_sources([tmp_path]), Limits())(extractor.card, 4)


def keys(*sources: Path, exclude: tuple[str, ...] = ()) -> set[str]:
    return {file.key for file in find_sources(sources, exclude).files}


def place(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\xff\xd8\xff")
    return folder


def test_a_files_key_is_its_name_and_prefixes_grow_until_they_differ(tmp_path: Path) -> None:
    one, two = place(tmp_path / "d1/Photos", "a.jpg", "b.jpg"), place(tmp_path / "d2/Photos", "a.jpg")
    place(tmp_path / "other", "a.jpg")
    assert keys(one) == {"a.jpg", "b.jpg"}
    assert keys(*one.glob("*.jpg")) == {"a.jpg", "b.jpg"}
    assert keys(one, two) == {"d1/Photos/a.jpg", "d1/Photos/b.jpg", "d2/Photos/a.jpg"}
    assert keys(one, two, tmp_path / "other") == keys(one, two) | {"other/a.jpg"}
    assert keys(*one.glob("*.jpg"), two / "a.jpg") == {"d1/Photos/a.jpg", "b.jpg", "d2/Photos/a.jpg"}
    assert keys(one, tmp_path / "other/a.jpg") == {"Photos/a.jpg", "Photos/b.jpg", "a.jpg"}


def test_a_source_that_is_given_twice_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = place(tmp_path / "photos", "a.jpg", "2020/b.jpg")
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    assert keys(folder, Path("photos"), tmp_path / "photos" / ".." / "photos", tmp_path / "link") == keys(folder)
    assert keys(folder) == {"a.jpg", "2020/b.jpg"}
    assert keys(folder / "a.jpg", Path("photos/a.jpg")) == {"a.jpg"}
    assert keys(folder, folder / "2020", folder / "a.jpg") == {"photos/2020/b.jpg", "a.jpg"}
    assert keys(folder / "2020", folder) == {"2020/b.jpg", "photos/a.jpg"}


def test_links_to_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    folder = place(tmp_path / "photos", "a.jpg", "z/b.jpg")
    place(tmp_path / "elsewhere", "c.jpg", "deep/d.jpg")
    (folder / "far").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    (folder / "a_link").symlink_to(folder / "z")  # read by its own name
    (tmp_path / "elsewhere" / "back").symlink_to(folder)
    (tmp_path / "elsewhere" / "self").symlink_to(tmp_path / "elsewhere" / "self")
    assert keys(folder) == {"a.jpg", "z/b.jpg", "far/c.jpg", "far/deep/d.jpg"}


def test_system_junk_and_what_is_excluded_is_left_out_and_counted(tmp_path: Path) -> None:
    place(tmp_path, "a.jpg", "sub/b.jpg", "sub/b_thumb.jpg", "drafts/c.jpg", "sub/drafts/d.jpg", "2019/x/e.jpg")
    place(tmp_path, *(f"sub/{name}/junk.jpg" for name in JUNK), "@EADIR/junk.jpg")
    found = find_sources([tmp_path])
    assert len(found.files) == 6
    assert set(found.left_out) == {*(f"sub/{name}" for name in JUNK), "@EADIR"}
    assert keys(tmp_path, exclude=("*_thumb.jpg",)) == {
        *("a.jpg", "sub/b.jpg", "drafts/c.jpg", "sub/drafts/d.jpg", "2019/x/e.jpg")
    }
    assert keys(tmp_path, exclude=("drafts", "2019/*")) == {"a.jpg", "sub/b.jpg", "sub/b_thumb.jpg"}
    assert keys(tmp_path, exclude=("sub/drafts/",)) == {
        *("a.jpg", "sub/b.jpg", "sub/b_thumb.jpg", "drafts/c.jpg", "2019/x/e.jpg")
    }
    with pytest.raises(EmptyCatalogue, match="left out as junk or by --exclude"):
        find_sources([tmp_path], ["*.jpg"])


def test_a_folder_that_cannot_be_read_is_skipped_with_its_reason(tmp_path: Path) -> None:
    place(tmp_path / "in", "a.jpg", "lost+found/b.jpg", "z/c.jpg")
    (tmp_path / "in/lost+found").chmod(0)
    for folder in (tmp_path, *tmp_path.parents):  # so that nobody may come here
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o755)

    def look() -> tuple[set[str], list[dict[str, str]]]:
        found = find_sources([tmp_path / "in"])
        return {file.key for file in found.files}, found.skipped

    found, skipped = as_nobody(look)
    assert found == {"a.jpg", "z/c.jpg"}
    assert skipped == [{"key": "lost+found/", "reason": "the folder cannot be read (Permission denied)"}]
    with pytest.raises(SourceNotFound, match="cannot be read"):
        as_nobody(lambda: find_sources([tmp_path / "in/lost+found"]))


def as_nobody(work: Callable[[], T]) -> T:
    """Do some work in a process whose user may read only what all may: permissions do not hold root back."""

    def ready() -> None:
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)

    with ProcessPoolExecutor(1, multiprocessing.get_context("fork"), ready) as pool:
        _WORK.append(work)
        return pool.submit(_do_work).result()


_WORK: list[Callable[[], Any]] = []  # a forked process has it too, and a function of a test cannot be sent


def _do_work() -> Any:
    return _WORK[-1]()


def test_keys_are_in_nfc_and_stay_apart(tmp_path: Path) -> None:
    place(tmp_path, "caf\u0065\u0301.jpg")
    assert keys(tmp_path) == {"caf\u00e9.jpg"}
    place(tmp_path, "caf\u00e9.jpg")
    assert keys(tmp_path) == {"caf\u00e9.jpg", "cafe\\u0301.jpg"} or keys(tmp_path) == {"caf\u00e9.jpg", "caf\\xe9.jpg"}


def test_exclude_and_links_do_not_get_around_names(tmp_path: Path) -> None:
    place(tmp_path / "in", "caf\u0065\u0301.jpg", "ok.jpg", "@eaDir/t.jpg", ".hidden/h.jpg")
    assert keys(tmp_path / "in", exclude=("caf\u00e9.jpg",)) == {"ok.jpg"}
    (tmp_path / "in" / "thumbs").symlink_to("@eaDir")
    (tmp_path / "in" / "seen").symlink_to(".hidden")
    assert keys(tmp_path / "in") == {"caf\u00e9.jpg", "ok.jpg"}
    place(tmp_path / "real", "x.jpg", "y.jpg", "deep/z.jpg")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "real")
    ours = {"in/caf\u00e9.jpg", "in/ok.jpg", "in/link/y.jpg"}
    assert keys(tmp_path / "in", tmp_path / "real/x.jpg", tmp_path / "real/deep/z.jpg") == {*ours, "x.jpg", "z.jpg"}
