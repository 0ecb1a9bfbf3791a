"""Building: bad files are named and skipped, an interrupted build goes on, and nothing half-made is left in place."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from index import CatalogueExists, EmptyCatalogue, open_catalogue
from ingest import BuildReport, SourceNotFound, SourceSamples, build_catalogue, find_sources
from model import Extractor, Limits, WeightsMismatch, build_extractor


def build(folder: Path, out: Path, extractor: Extractor, **options: object) -> BuildReport:
    return build_catalogue(find_sources([folder]), out, extractor, batch=8, **options)  # type: ignore[arg-type]


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
        size = {"width": image.width, "height": image.height}
        assert items[1].metadata == {**size, "path": "00.jpg", "label": "photos"}
    catalogue.close()


def test_a_name_that_is_not_utf8_is_kept_readable(folder: Path, tmp_path: Path, extractor: Extractor) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg")).write_bytes((folder / "00.jpg").read_bytes())
    build(folder, tmp_path / "out", extractor)
    catalogue = open_catalogue(tmp_path / "out")
    assert catalogue.items_by_key(["caf\\xe9.jpg"])
    catalogue.close()


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
