"""A build that was broken off goes on, one that is repeated embeds only what is new, and neither mixes what differs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from index import CatalogueExists, CatalogueMismatch, open_catalogue, verify_catalogue
from index.catalogue.writer import CatalogueWriter
from ingest import SourceSamples, find_sources
from ingest.pipeline import build_catalogue
from model import Extractor, Limits, build_extractor, read_card
from tests.conftest import MODEL
from tests.ingest.test_build import build
from tests.serving import ROOT, eventually


class Stopped(Exception):
    """Stands for whatever may end a build."""


def stop_after(pictures: int):  # type: ignore[no-untyped-def]
    def progress(stage: str, done: int, total: int) -> None:
        if stage == "embed" and done >= pictures:
            raise Stopped

    return progress


def test_an_interrupted_build_goes_on_where_it_was(folder: Path, tmp_path: Path, extractor: Extractor) -> None:
    out = tmp_path / "out"
    with pytest.raises(Stopped):
        build(folder, out, extractor, progress=stop_after(8))
    assert not out.exists()
    (folder / "00.jpg").unlink()  # gone since
    Image.new("RGB", (30, 30)).save(folder / "02.jpg")  # changed since
    Image.new("RGB", (30, 30), (255, 0, 0)).save(folder / "new.jpg")
    report = build(folder, out, extractor)
    assert (report.kept, report.added) == (6, 6)
    resumed = open_catalogue(out)
    build(folder, tmp_path / "fresh", extractor)
    fresh = open_catalogue(tmp_path / "fresh")
    keys = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))
    ours, theirs = resumed.items_by_key(keys), fresh.items_by_key(keys)
    assert len(ours) == len(theirs) == len(resumed) == 12
    for key in keys:
        assert ours[key].sha256 == theirs[key].sha256
        assert resumed.vector(ours[key].id) == pytest.approx(fresh.vector(theirs[key].id), abs=1e-5)
    assert not (tmp_path / "out.partial").exists()


def test_a_build_broken_off_at_its_very_end_goes_on(
    folder: Path, tmp_path: Path, extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def power_cut(self: CatalogueWriter, report: object) -> None:
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(CatalogueWriter, "publish", power_cut)
        with pytest.raises(Stopped):
            build(folder, tmp_path / "out", extractor)
    report = build(folder, tmp_path / "out", extractor)
    assert (report.kept, report.added) == (12, 0)
    catalogue = open_catalogue(tmp_path / "out")
    first = catalogue.vector(1)
    assert first is not None
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-5)
    assert catalogue.search(first[None], 1)[0][0].item.id == 1
    catalogue.close()


def test_a_picture_that_goes_while_a_build_goes_on_is_skipped(
    folder: Path, tmp_path: Path, extractor: Extractor
) -> None:
    out = tmp_path / "out"
    with pytest.raises(Stopped):
        build(folder, out, extractor, progress=stop_after(8))
    sources = find_sources([folder])
    (folder / "00.jpg").unlink()  # in the catalogue already
    (folder / "inner/deep/11.jpg").unlink()  # still to be read
    report = build_catalogue(sources, out, extractor, batch=8)
    assert (report.kept, report.added) == (7, 3)
    assert {skip["key"] for skip in report.skipped} == {"00.jpg", "inner/deep/11.jpg"}
    assert all("No such file" in skip["reason"] for skip in report.skipped)
    with contextlib.closing(open_catalogue(out)) as catalogue:
        assert len(catalogue) == 10
        assert not catalogue.items_by_key(["00.jpg"])


def test_what_has_not_changed_is_not_embedded_again(folder: Path, tmp_path: Path, extractor: Extractor) -> None:
    out = tmp_path / "out"
    build(folder, out, extractor)
    with contextlib.closing(open_catalogue(out)) as catalogue:
        before = {item.key: (item, catalogue.vector(item.id)) for item in catalogue.items(range(1, 13)).values()}
    (folder / "00.jpg").unlink()
    shutil.copy(folder / "04.jpg", folder / "02.jpg")  # changed
    shutil.copy(folder / "04.jpg", folder / "new.jpg")
    os.utime(folder / "06.jpg", (1, 1))
    report = build(folder, out, extractor, overwrite=True)
    assert (report.reused, report.added, report.kept) == (9, 3, 0)
    with contextlib.closing(open_catalogue(out)) as catalogue:
        items = {item.key: item for item in catalogue.items(range(1, 30)).values()}
        assert len(items) == len(catalogue) == 12
        assert items["02.jpg"].sha256 == items["04.jpg"].sha256 != before["02.jpg"][0].sha256
        for key in ("04.jpg", "inner/deep/11.jpg"):
            item, vector = before[key]
            assert (items[key].sha256, items[key].metadata) == (item.sha256, item.metadata)
            assert catalogue.vector(items[key].id) == pytest.approx(vector, abs=1e-6)
            assert (catalogue.thumbnail(items[key].id) or b"").startswith(b"\xff\xd8")
    assert not list(verify_catalogue(out))


@pytest.mark.parametrize("what", ["labels", "damaged vectors", "damaged tables", "another reader"])
def test_nothing_is_reused_of_a_catalogue_that_is_damaged_or_of_another_kind(
    what: str, folder: Path, tmp_path: Path, extractor: Extractor
) -> None:
    out = tmp_path / "out"
    build(folder, out, extractor)
    if what == "damaged vectors":
        data = bytearray((out / "base-000001.hnsw").read_bytes())
        data[5000] ^= 1
        (out / "base-000001.hnsw").write_bytes(data)
    elif what != "labels":
        change = {
            "damaged tables": "items SET sha256 = 'x' WHERE id = 3",
            "another reader": "meta SET value = 1 WHERE name = 'reader'",
        }
        with contextlib.closing(sqlite3.connect(out / "catalogue.sqlite")) as connection, connection:
            connection.execute(f"UPDATE {change[what]}")
    report = build(folder, out, extractor, overwrite=True, labels=what == "labels")
    assert (report.reused, report.added) == (0, 12)
    assert not list(verify_catalogue(out))


def test_a_broken_off_build_is_not_mixed_with_another_kind(folder: Path, tmp_path: Path, extractor: Extractor) -> None:
    with pytest.raises(Stopped):
        build(folder, tmp_path / "out", extractor, progress=stop_after(8))
    with pytest.raises(CatalogueMismatch, match="broken off without labels"):
        build(folder, tmp_path / "out", extractor, labels=True)
    connection = sqlite3.connect(tmp_path / "out.partial" / "catalogue.sqlite")
    with connection:
        connection.execute("UPDATE meta SET value = '\"another\"' WHERE name = 'fingerprint'")
    connection.close()
    with pytest.raises(CatalogueMismatch, match="broken off with tf_efficientnet_lite0"):
        build(folder, tmp_path / "out", extractor)


def test_two_builds_of_one_catalogue_do_not_mix(folder: Path, tmp_path: Path, extractor: Extractor) -> None:
    def second(stage: str, done: int, total: int) -> None:
        if stage == "embed" and done == 8:
            with pytest.raises(CatalogueExists, match="being built by another process"):
                build(folder, tmp_path / "out", extractor)

    assert build(folder, tmp_path / "out", extractor, progress=second).added == 12


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.soak)])
def test_a_real_build_can_be_stopped_and_run_again(how: signal.Signals, photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for copy in range(12):
        for photo in photos[:20]:
            shutil.copy(photo, tmp_path / "photos" / f"{copy:02d}-{photo.name}")
    command = [sys.executable, "cli.py", "build", str(tmp_path / "photos"), "--out", str(tmp_path / "out")]
    command += ["--model", "tf_efficientnet_lite0", "--json"]
    stopped = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually(lambda: committed(tmp_path / "out.partial") > 0, "no batch is in", 600)
    stopped.send_signal(how)
    _, errors = stopped.communicate(timeout=60)
    assert not (tmp_path / "out").exists()
    before = committed(tmp_path / "out.partial")
    if how == signal.SIGINT:
        assert stopped.returncode == 130
        assert "run the same command again to go on" in errors
        assert "Traceback" not in errors
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    report = json.loads(again.stdout)
    assert 32 <= report["kept"] == before < 240  # nothing that was in is embedded again
    assert report["kept"] + report["added"] == 240
    assert not report["skipped"]


def committed(partial: Path) -> int:
    """How many pictures are in. The build holds its database locked, so a copy is read: what a kill would leave."""
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(OSError, sqlite3.Error):
        for path in partial.glob("catalogue.sqlite*"):
            if path.suffix != ".sqlite-shm":
                shutil.copy(path, folder)
        with contextlib.closing(sqlite3.connect(Path(folder) / "catalogue.sqlite")) as copy:
            return int(copy.execute("SELECT count(*) FROM items").fetchone()[0])
    return 0


def test_a_build_broken_off_before_its_first_picture_keeps_nothing_half(folder: Path, tmp_path: Path) -> None:
    """Nothing is in it to go on with, so it starts over, and must not lose the extractor that it took over."""
    samples = SourceSamples(find_sources([folder]), Limits())
    out = tmp_path / "out"
    with build_extractor(MODEL, None, samples) as made, pytest.raises(Stopped):
        build(folder, out, made, progress=stop_after(0))
    with build_extractor(MODEL, None, samples, begun=tmp_path / "out.partial" / "extractor") as made:
        build(folder, out, made)
    assert read_card(out / "extractor").model == MODEL
    assert len(open_catalogue(out)) == 12
