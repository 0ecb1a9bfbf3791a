"""Building: bad files are named and skipped, an interrupted build goes on, and nothing half-made is left in place."""

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
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from index import CatalogueExists, CatalogueMismatch, EmptyCatalogue, open_catalogue
from index.catalogue.writer import CatalogueWriter
from ingest.pipeline import BuildReport, build_catalogue
from ingest.sources import SourceNotFound, SourceSamples, find_sources
from model import Extractor, Limits, WeightsMismatch, build_extractor, read_card
from tests.conftest import MODEL
from tests.serving import ROOT, eventually


def build(folder: Path, out: Path, extractor: Extractor, **options: object) -> BuildReport:
    return build_catalogue(find_sources([folder]), out, extractor, batch=8, **options)  # type: ignore[arg-type]


@pytest.fixture
def folder(photos: list[Path], tmp_path: Path) -> Path:
    """Twelve photos in two folders, one of them below the other."""
    for number, photo in enumerate(photos[:12]):
        target = tmp_path / "photos" / ("inner/deep" if number % 2 else ".") / f"{number:02d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, target)
    return tmp_path / "photos"


def test_bad_files_are_skipped_with_a_reason_each(folder: Path, tmp_path: Path, extractor: Extractor) -> None:
    whole = (folder / "00.jpg").read_bytes()
    (folder / "text.jpg").write_text("this is text")
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").touch()
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "large.png").write_bytes(bytes(3_000_000))
    os.mkfifo(folder / "pipe.jpg")
    (folder / "device.jpg").symlink_to("/dev/zero")
    (folder / "notes.txt").write_text("shopping list")
    (folder / ".hidden.jpg").write_bytes(whole)
    shutil.copy(folder / "02.jpg", folder / "no_suffix")
    report = build(folder, tmp_path / "out", extractor, limits=Limits(bytes=2_000_000))
    reasons = {skip["key"]: skip["reason"] for skip in report.skipped}
    assert reasons.keys() == {"text.jpg", "cut.jpg", "empty.png", "gone.jpg", "large.png", "pipe.jpg", "device.jpg"}
    assert "not a picture" in reasons["text.jpg"]
    assert "cut off or damaged" in reasons["cut.jpg"]
    assert "0 bytes" in reasons["empty.png"]
    assert "No such file" in reasons["gone.jpg"]
    assert "3,000,000 bytes, more than the 2,000,000" in reasons["large.png"]
    assert "not a file" in reasons["pipe.jpg"]
    assert "not a file" in reasons["device.jpg"]
    assert (report.added, report.others) == (13, ["notes.txt"])
    stored = json.loads((tmp_path / "out" / "report.json").read_text())
    assert stored["skipped"] == report.skipped
    assert set(stored["seconds"]) == {"read", "embed", "write", "index"}


def test_keys_are_paths_below_the_source_and_labels_their_folders(
    folder: Path, tmp_path: Path, extractor: Extractor
) -> None:
    build(folder, tmp_path / "out", extractor, labels=True)
    catalogue = open_catalogue(tmp_path / "out")
    items = catalogue.items(range(1, 13))
    assert {item.key: item.metadata["label"] for item in items.values()} == {
        **{f"{n:02d}.jpg": "photos" for n in range(0, 12, 2)},
        **{f"inner/deep/{n:02d}.jpg": "deep" for n in range(1, 12, 2)},
    }
    with Image.open(BytesIO((folder / "00.jpg").read_bytes())) as image:
        assert items[1].metadata == {"width": image.width, "height": image.height, "label": "photos"}
    catalogue.close()


def test_a_name_that_is_not_utf8_is_kept_readable(folder: Path, tmp_path: Path, extractor: Extractor) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg")).write_bytes((folder / "00.jpg").read_bytes())
    build(folder, tmp_path / "out", extractor)
    catalogue = open_catalogue(tmp_path / "out")
    assert catalogue.items_by_key(["caf\\xe9.jpg"])
    catalogue.close()


def test_several_sources_and_single_files(folder: Path, tmp_path: Path, extractor: Extractor) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder / "inner", other)
    found = find_sources([folder / "inner", other, folder / "00.jpg"])
    assert {file.key for file in found.files} >= {"inner/deep/01.jpg", "other/deep/01.jpg"}
    assert len(found.files) == 13
    with pytest.raises(SourceNotFound, match="share a name"):
        find_sources([folder / "inner", folder / "inner"])


def test_sources_that_are_not_there_or_hold_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="no file or folder at"):
        find_sources([tmp_path / "none"])
    (tmp_path / "a.txt").touch()
    with pytest.raises(EmptyCatalogue, match=r"no picture is in .* \(1 other files are there\)"):
        find_sources([tmp_path])


def test_when_no_file_can_be_read_nothing_is_written(tmp_path: Path, extractor: Extractor) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_text("text")
    with pytest.raises(EmptyCatalogue, match=r"none of 1 files could be read.*a\.jpg: the bytes are not a picture"):
        build(tmp_path / "in", tmp_path / "out", extractor)
    assert not (tmp_path / "out.partial").exists()
    assert not (tmp_path / "out").exists()
    Image.new("RGB", (30, 30)).save(tmp_path / "in" / "a.jpg")
    assert build(tmp_path / "in", tmp_path / "out", extractor, labels=True).added == 1  # and nothing stands in the way


def test_a_catalogue_is_replaced_only_on_request(folder: Path, tmp_path: Path, extractor: Extractor) -> None:
    out = tmp_path / "out"
    build(folder, out, extractor)
    with pytest.raises(CatalogueExists, match=r"is a catalogue already.*--overwrite"):
        build(folder, out, extractor)
    (folder / "00.jpg").unlink()
    build(folder, out, extractor, overwrite=True)
    catalogue = open_catalogue(out)
    assert len(catalogue) == 11
    catalogue.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photos"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("keep me")
    with pytest.raises(CatalogueExists, match="is not a catalogue, so it is left alone"):
        build(folder, tmp_path / "mine", extractor, overwrite=True)
    assert (tmp_path / "mine" / "diary.txt").exists()


def test_weights_that_give_no_numbers_are_refused(folder: Path, tmp_path: Path) -> None:
    network = timm.create_model("resnet18")
    torch.nn.init.constant_(network.conv1.weight, float("nan"))
    torch.save(network.state_dict(), tmp_path / "nan.pth")
    samples = SourceSamples(find_sources([folder]), Limits())
    with (
        pytest.raises(WeightsMismatch, match="not numbers"),
        build_extractor("resnet18", tmp_path / "nan.pth", samples),
    ):
        pass


def test_a_picture_whose_vector_is_not_numbers_stops_the_build(
    folder: Path, tmp_path: Path, extractor: Extractor
) -> None:
    class NoNumbersForTheTenth:
        """The real engine, but for one picture that weights of the samples' kind might overflow on."""

        card = extractor.card
        seen = 0

        def embed(self, pixels: np.ndarray) -> np.ndarray:
            vectors = extractor.embed(pixels)
            if self.seen <= 9 < self.seen + len(pixels):
                vectors[9 - self.seen] = np.nan
            self.seen += len(pixels)
            return vectors

    with pytest.raises(WeightsMismatch, match="not numbers"):
        build(folder, tmp_path / "out", replace(extractor, engine=NoNumbersForTheTenth()))
    assert not (tmp_path / "out").exists()


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
    eventually(lambda: committed(tmp_path / "out.partial"), "no batch is in", 600)
    stopped.send_signal(how)
    _, errors = stopped.communicate(timeout=60)
    assert not (tmp_path / "out").exists()
    if how == signal.SIGINT:
        assert stopped.returncode == 130
        assert "run the same command again to go on" in errors
        assert "Traceback" not in errors
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    report = json.loads(again.stdout)
    assert 32 <= report["kept"] < 240
    assert report["kept"] + report["added"] == 240
    assert not report["skipped"]


def committed(partial: Path) -> bool:
    """Whether a first batch is in. The build holds its database locked, so a copy is read: what a kill would leave."""
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(OSError, sqlite3.Error):
        for name in ("catalogue.sqlite", "catalogue.sqlite-wal"):
            shutil.copy(partial / name, folder)
        with contextlib.closing(sqlite3.connect(Path(folder) / "catalogue.sqlite")) as copy:
            return bool(copy.execute("SELECT count(*) FROM items").fetchone()[0])
    return False


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
