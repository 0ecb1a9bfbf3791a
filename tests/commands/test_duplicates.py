"""The verb duplicates, add --skip-duplicates, and search --min-match."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from copies import apply_plan
from tests.commands.test_cli import refused, run
from tests.conftest import MODEL


@pytest.fixture(scope="module")
def built(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, an identical one, the same pixels, and an altered copy; and its catalogue."""
    folder = tmp_path_factory.mktemp("duplicates")
    source = folder / "photos"
    (source / "backup").mkdir(parents=True)
    for photo in photos[:6]:
        shutil.copy(photo, source / photo.name)
    shutil.copy(photos[0], source / "backup" / "same.jpg")
    image = Image.open(photos[1]).convert("RGB")
    image.save(source / "pixels.png")
    image.rotate(90, expand=True).resize((200, 200)).save(source / "turned.jpg")
    run("build", source, "--out", folder / "catalogue", "--model", MODEL)
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built / "photos", tmp_path / "photos")
    run("build", tmp_path / "photos", "--out", tmp_path / "catalogue", "--model", MODEL)
    return tmp_path


def test_groups_are_listed_in_every_shape(built: Path, photos: list[Path], tmp_path: Path) -> None:
    catalogue = built / "catalogue"
    found = json.loads(run("duplicates", catalogue, "--avoid", "backup/*", "--json").stdout)
    assert (found["total"], found["items"]) == (2, 9)
    kinds = {
        group["keep"]["key"]: {one["key"]: one["kind"] for one in group["duplicates"]} for group in found["groups"]
    }
    assert kinds[photos[0].name] == {"backup/same.jpg": "identical"}
    assert kinds["pixels.png"] == {photos[1].name: "same_pixels", "turned.jpg": "altered_copy"}
    assert found["groups"][0]["keep"]["reason"] == "its format, PNG"
    rows = list(csv.DictReader(io.StringIO(run("duplicates", catalogue, "--csv").stdout)))
    assert [row["keep"] for row in rows].count("keep") == 2
    assert len(rows) == 5
    page = tmp_path / "page.html"
    done = run("duplicates", catalogue, "--kind", "identical", "--html", page)
    assert done.stdout.strip().endswith("1 duplicate in 1 group: 1 identical")
    text = page.read_text()
    assert text.count("<figure") == text.count("data:image/jpeg;base64,") == 2
    assert "http" not in text
    assert json.loads(run("duplicates", catalogue, "--where", '{"path": "pixels.png"}', "--json").stdout)["total"] == 0


def test_a_plan_is_written_applied_and_undone(folder: Path, photos: list[Path]) -> None:
    catalogue, plan, source = folder / "catalogue", folder / "plan.json", folder / "photos"
    before = sorted(path.name for path in source.rglob("*") if path.is_file())
    assert "there is no plan" in refused("duplicates", catalogue, "--plan", plan, "--apply", "delete")
    assert "3 files in the plan" in run("duplicates", catalogue, "--plan", plan).stderr
    assert sorted(path.name for path in source.rglob("*") if path.is_file()) == before
    next(apply_plan(plan, "move", folder / "held"))  # broken off before its item is removed
    done = run("duplicates", catalogue, "--plan", plan, "--apply", "move", "--to", folder / "held", "--json")
    applied = json.loads(done.stdout)
    assert (len(applied["applied"]), applied["left_alone"]) == (3, [])
    assert len([path for path in source.rglob("*") if path.is_file()]) == len(before) - 3
    assert run("duplicates", catalogue).stdout == "0 duplicates in 0 groups\n"
    assert json.loads(run("info", catalogue, "--json").stdout)["count"] == 6
    assert run("duplicates", catalogue, "--plan", plan, "--undo").stdout.startswith("3 files put back")
    assert sorted(path.name for path in source.rglob("*") if path.is_file()) == before
    run("add", catalogue, source)
    assert len(json.loads(run("duplicates", catalogue, "--json").stdout)["groups"]) == 2


def test_wrong_usage_is_told(folder: Path) -> None:
    catalogue = folder / "catalogue"
    for options in (
        ("--undo",),
        ("--apply", "move"),
        ("--plan", "p", "--apply", "move"),
        ("--kind", "x"),
        ("--alike", 0.5),
    ):
        assert run("duplicates", catalogue, *options).exit_code == 2
    assert refused("duplicates", folder / "none").startswith("error: ")
    assert "nothing was applied" in refused("duplicates", catalogue, "--plan", folder / "p.json", "--undo")


def test_duplicates_are_skipped_or_reported_when_pictures_are_added(folder: Path, photos: list[Path]) -> None:
    catalogue, new = folder / "catalogue", folder / "new"
    new.mkdir()
    shutil.copy(photos[2], new / "again.jpg")
    image = Image.open(photos[8]).convert("RGB")
    image.save(new / "fresh.jpg")
    image.resize((image.width // 2, image.height // 2)).save(new / "fresh-small.png")  # of one that comes with it
    report = json.loads(run("add", catalogue, new, "--skip-duplicates", "--json").stdout)
    assert report["added"] == 1
    told = {one["key"]: one["kind"] for one in report["duplicates"]}
    assert told["again.jpg"] == "identical"
    assert len(told) == 2
    done = run("add", catalogue, new, "--report-duplicates")
    assert done.stdout.startswith("2 pictures added")
    assert f"again.jpg is a duplicate of {photos[2].name} (identical, match 1.000)" in done.stderr
    assert json.loads(run("add", catalogue, new, "--skip-duplicates", "--json").stdout)["kept"] == 3


def test_hits_say_whether_they_are_copies(built: Path, photos: list[Path]) -> None:
    catalogue = built / "catalogue"
    turned = built / "photos" / "turned.jpg"
    hits = json.loads(run("search", catalogue, turned, "--min-match", 0.9, "--json").stdout)["results"][0]["hits"]
    assert {hit["key"] for hit in hits} == {"turned.jpg", "pixels.png", photos[1].name}
    assert all(hit["match"] >= 0.9 for hit in hits)
    other = run("search", catalogue, photos[20], "--match", "--k", 2)
    assert other.stdout.count("match 0.0") == 2
    assert "no match: none of these is a copy" in other.stderr
    assert "only a picture or an item has copies" in refused("search", catalogue, "--text", "zebra", "--match")
