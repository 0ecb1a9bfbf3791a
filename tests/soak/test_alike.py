"""A shop's 4,000 products without a picture: one placeholder that many times beside real photos, from files to hits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from tests.conftest import MODEL
from tests.serving import ROOT

pytestmark = pytest.mark.soak
COPIES = 4000


@pytest.fixture(scope="module")
def folder(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples with four crops of each, and the copies, which come first by name."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "none").mkdir()
    (folder / "photos").mkdir()
    blank = Image.new("RGB", (256, 256), (238, 238, 238))
    ImageDraw.Draw(blank).text((70, 120), "No image available", fill=(90, 90, 90))
    blank.save(folder / "none" / "000000.jpg")
    for copy in range(1, COPIES):
        os.link(folder / "none" / "000000.jpg", folder / "none" / f"{copy:06d}.jpg")
    for number, photo in enumerate(photos):
        shutil.copy(photo, folder / "photos" / f"{number:02d}.jpg")
        with Image.open(photo) as image:
            image.thumbnail((600, 600))
            width, height = int(image.width * 0.6), int(image.height * 0.6)
            for left in (0, image.width - width):
                for top in (0, image.height - height):
                    crop = image.convert("RGB").crop((left, top, left + width, top + height))
                    crop.save(folder / "photos" / f"{number:02d}-{left}-{top}.jpg")
    return folder


def run(*arguments: str | Path) -> str:
    command = [sys.executable, "cli.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=600).stdout


def test_every_picture_finds_itself_beside_thousands_of_copies(folder: Path, tmp_path: Path) -> None:
    run("build", folder, "--out", tmp_path / "catalogue", "--model", MODEL)
    files = sorted((folder / "photos").iterdir())
    for some in (files, sorted((folder / "none").iterdir())[:50]):
        answer = json.loads(run("search", tmp_path / "catalogue", *some, "--k", "10", "--json"))
        found = [result["hits"][0] for result in answer["results"]]
        if some is files:
            themselves = sum(hit["key"] == f"photos/{file.name}" for hit, file in zip(found, files, strict=True))
            assert themselves >= 0.99 * len(files), f"{themselves} of {len(files)}"
        else:
            assert all(len(result["hits"]) == 10 for result in answer["results"])
            assert all(hit["key"].startswith("none/") for result in answer["results"] for hit in result["hits"])
    run("verify", tmp_path / "catalogue")
