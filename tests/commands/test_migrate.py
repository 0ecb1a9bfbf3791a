"""The verb migrate: another model's vectors, from the pictures' own files, switched to at once, and back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from benchmarks.random_weights import write_random_weights
from index import Catalogue, open_catalogue
from ingest import build_catalogue, find_sources
from model import Extractor
from tests.commands.test_cli import refused, run

NEXT = "resnet18"


@pytest.fixture(scope="module")
def weights(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_weights(NEXT, photos, tmp_path_factory.mktemp("weights") / "weights.safetensors")


@pytest.fixture
def pictures(photos: list[Path], tmp_path: Path) -> Path:
    place = tmp_path / "pictures"
    place.mkdir()
    for number in range(12):
        shutil.copy(photos[number], place / f"{number:02}.jpg")
    return place


def migrate(folder: Path, weights: Path, *more: str) -> dict[str, object]:
    return dict(json.loads(run("migrate", folder, "--model", NEXT, "--weights", weights, "--json", *more).stdout))


def model_of(folder: Path) -> tuple[str, int]:
    with closing(open_catalogue(folder)) as catalogue:
        return catalogue.info.model, catalogue.info.dim


def vectors(catalogue: Catalogue, ids: Iterable[int]) -> np.ndarray:
    found = [catalogue.vector(one) for one in ids]
    return np.stack([one for one in found if one is not None])


def finds_all(folder: Path, pictures: Path) -> bool:
    paths = sorted(pictures.glob("*.jpg"))
    hits = [run("search", folder, path, "--k", 1, "--json") for path in paths]
    return all(
        json.loads(one.stdout)["results"][0]["hits"][0]["key"] == path.name
        for one, path in zip(hits, paths, strict=True)
    )


@pytest.mark.soak
def test_a_model_is_changed_and_changed_back_and_no_item_is_lost(
    pictures: Path, photos: list[Path], weights: Path, extractor: Extractor, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    build_catalogue(find_sources([pictures]), folder, extractor)
    with closing(open_catalogue(folder)) as catalogue:
        known = {item.key: item.id for item in catalogue.items(range(1, 13)).values()}
        old = vectors(catalogue, known.values())
    (pictures / "01.jpg").unlink()
    shutil.copy(photos[20], pictures / "02.jpg")  # other bytes than the item has
    dry = migrate(folder, weights, "--dry-run")
    assert (dry["embedded"], dry["generation"]) == (12, None)
    reasons = {one["key"]: one["reason"] for one in dry["from_thumbnails"]}  # type: ignore[attr-defined]
    assert set(reasons) == {"01.jpg", "02.jpg"}
    assert "No such file" in reasons["01.jpg"]
    assert reasons["02.jpg"] == "its file has changed since it was added"
    assert model_of(folder) == ("tf_efficientnet_lite0", 1280)
    shutil.copy(photos[1], pictures / "01.jpg")
    shutil.copy(photos[2], pictures / "02.jpg")
    run("add", folder, pictures / "00.jpg", photos[30])  # one is there, the other is new, of the model before
    report = migrate(folder, weights)
    assert report["embedded"] == 1  # the others are from the run before
    overlap = report["overlap"]
    assert overlap["pictures"] == 12  # type: ignore[index]
    assert 0 <= overlap["neighbours"] <= 1  # type: ignore[index]
    assert all(one > 0 for one in report["milliseconds"])  # type: ignore[attr-defined]
    assert model_of(folder) == (NEXT, 512)
    assert run("verify", folder).exit_code == 0
    assert finds_all(folder, pictures)
    again = run("migrate", folder, "--model", NEXT, "--weights", weights)
    assert (again.exit_code, "has the vectors of resnet18" in again.stderr) == (1, True)
    run("add", folder, photos[40])
    made = json.loads(run("rollback", folder, "--json").stdout)
    assert (made["model"], made["count"]) == ("tf_efficientnet_lite0", 12)
    assert run("verify", folder).exit_code == 0
    assert finds_all(folder, pictures)
    with closing(open_catalogue(folder)) as catalogue:
        assert len(catalogue) == 14
        assert np.array_equal(vectors(catalogue, known.values()), old)
        new = extractor.embed(np.stack([_pixels(extractor, path) for path in (photos[30], photos[40])]))
        ids = [item.id for item in catalogue.items_by_key([photos[30].name, photos[40].name]).values()]
        assert np.allclose(vectors(catalogue, ids), new, atol=1e-3)
    run("compact", folder)
    run("rollback", folder)
    assert finds_all(folder, pictures)


def _pixels(extractor: Extractor, path: Path) -> np.ndarray:
    from model import read_picture

    look = extractor.card.preprocessing
    return look.to_pixels(read_picture(path.read_bytes(), enough=look.enough).image)


def test_kept_originals_are_what_is_embedded(
    pictures: Path, photos: list[Path], weights: Path, extractor: Extractor, tmp_path: Path
) -> None:
    folder, copy = tmp_path / "out", tmp_path / "copy"
    build_catalogue(find_sources([pictures]), folder, extractor, originals=True)
    run("add", folder, photos[30])
    shutil.rmtree(pictures)
    run("backup", folder, copy)
    assert run("verify", copy).exit_code == 0
    run("remove", copy, "00.jpg")
    run("compact", copy)
    assert len(list(copy.glob("originals/*/*"))) == 12
    report = migrate(copy, weights)
    assert (report["embedded"], report["from_thumbnails"]) == (12, [])
    kept = next(copy.glob("originals/*/*"))
    kept.write_bytes(b"x")
    assert f"{kept.relative_to(copy)}: the file has changed" in run("verify", copy).stdout


def test_a_migration_needs_an_extractor_of_the_catalogues_metric_and_a_catalogue(weights: Path, tmp_path: Path) -> None:
    assert refused("migrate", tmp_path, "--model", NEXT).startswith("error: ")
