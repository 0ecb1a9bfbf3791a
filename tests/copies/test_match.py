"""The match model: what it says of copies and similar pictures, its fit, and what a catalogue keeps of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from copies import BUILT_IN, CopyFinder, MatchModel, Subject, alter, fit_match_model, has_drifted, match_model_of
from copies.match import features, fit_logistic
from index import DamagedIndex, open_catalogue, rollback_catalogue, write_match_model
from model import Extractor, open_extractor, read_picture, sign
from tests.conftest import MODEL
from tests.serving import ROOT


@pytest.fixture
def folder(catalogue: Path, tmp_path: Path) -> Path:
    return Path(
        shutil.copytree(catalogue, tmp_path / "copy", ignore=shutil.ignore_patterns("*-wal", "*-shm", "duplicates*"))
    )


def subject(extractor: Extractor, data: bytes) -> Subject:
    image = read_picture(data).image
    (vector,) = extractor.embed(extractor.card.preprocessing.to_pixels(image)[None])
    return Subject(vector, sign(image))


def test_equal_pictures_match_and_unrelated_ones_do_not() -> None:
    certain, unlikely = BUILT_IN.probabilities(np.array([1.0, 0.4]), np.array([0, 120]), np.array([1.0, 0.5]))
    assert certain > 0.999
    assert unlikely < 0.02
    cosines = np.linspace(0.2, 1, 50)  # more alike is never less of a copy where the pixels agree
    likely = BUILT_IN.probabilities(cosines, np.full(50, 10), np.full(50, 0.98))
    assert likely.min() > 0.9


def test_a_logistic_regression_finds_its_weights_and_keeps_to_its_prior() -> None:
    rng = np.random.default_rng(0)
    rows = rng.uniform(size=(20_000, 7))
    weights = np.array([2.0, -1.0, 0.5, 0.0, 3.0, -2.0, 1.0])
    targets = rng.uniform(size=len(rows)) < 1 / (1 + np.exp(-(rows @ weights - 1)))
    found, constant = fit_logistic(rows, targets, np.ones(len(rows)))
    assert found == pytest.approx(weights, abs=0.3)
    assert constant == pytest.approx(-1, abs=0.3)
    prior = MatchModel(tuple(weights.tolist()), -1.0)
    nothing, near = fit_logistic(rows[:50], targets[:50], np.zeros(50), prior)
    assert nothing == pytest.approx(weights)  # where there is nothing to learn
    assert near == pytest.approx(-1)


def test_a_fit_is_the_best_one_where_its_prior_is_far_from_it() -> None:
    rng = np.random.default_rng(0)
    targets = np.arange(1000) % 3 > 0
    cosines = np.where(targets, rng.uniform(0.6, 0.95, 1000), rng.uniform(0.8, 0.95, 1000))
    distances = np.where(targets, rng.integers(60, 130, 1000), rng.integers(90, 130, 1000))
    rows = features(cosines, distances, np.where(targets, rng.uniform(0.7, 1, 1000), rng.uniform(0.4, 0.8, 1000)))
    found, constant = fit_logistic(rows, targets, np.ones(1000), BUILT_IN)

    def loss(weights: NDArray[np.float64], constant: float) -> float:
        logits = rows @ weights + constant
        return float((np.logaddexp(0, logits) - targets * logits).sum())

    assert loss(found, constant) < 0.5 * loss(np.array(BUILT_IN.weights), BUILT_IN.constant)
    assert np.abs(found - BUILT_IN.weights).max() < 50


def test_features_of_extreme_pairs_are_finite() -> None:
    found = features(np.array([1.0, -1.0, 1.0001]), np.array([0, 256, 300]), np.array([1.0, -1.0, 1.5]))
    assert np.isfinite(found).all()


def test_altered_copies_are_found_and_pictures_that_are_not_there_have_no_match(
    folder: Path, photos: list[Path]
) -> None:
    with closing(open_catalogue(folder)) as catalogue:
        extractor = open_extractor(catalogue.extractor_folder)
        model = match_model_of(catalogue)
        assert model.pictures == 15
        finder = CopyFinder(catalogue.snapshot(), catalogue.signatures, model)
        keys = {photo.relative_to(photo.parents[1]).as_posix(): photo for photo in photos}
        found = 0
        for key in list(keys)[::6]:
            (item,) = catalogue.items_by_key([key]).values()
            original = read_picture(keys[key].read_bytes()).image
            for name in ("mirrored", "crop 50 %", "JPEG 10", "rotated 90°", "grey", "64 pixels", "text"):
                one = subject(extractor, alter(original, name, 1))
                matches = finder.find(one, 0.9)
                found += bool(matches) and matches[0].id == item.id
                assert not finder.find(one, 0.98, without=frozenset([item.id]))  # two samples show one scene
        assert found >= 66  # of 70


def test_several_copies_do_not_take_each_other_away(folder: Path, photos: list[Path], tmp_path: Path) -> None:
    original = read_picture(photos[4].read_bytes()).image
    copies = tmp_path / "copies"
    copies.mkdir()
    for name in ("JPEG 20", "64 pixels", "crop 80 %", "grey", "text"):
        (copies / f"{name}.jpg").write_bytes(alter(original, name, 2))
    subprocess.run(
        [sys.executable, "cli.py", "add", str(folder), str(copies)], cwd=ROOT, check=True, capture_output=True
    )
    with closing(open_catalogue(folder)) as catalogue:
        extractor = open_extractor(catalogue.extractor_folder)
        finder = CopyFinder(catalogue.snapshot(), catalogue.signatures, match_model_of(catalogue))
        assert len(finder.find(subject(extractor, alter(original, "mirrored", 3)), 0.9)) == 6


def test_a_catalogue_full_of_copies_does_not_teach_that_copies_are_none(photos: list[Path], tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for at, photo in enumerate(photos[:24]):
        image = Image.open(photo).convert("RGB")
        image.save(source / f"{at}.jpg", quality=90)
        ImageOps.mirror(image).resize((image.width // 2, image.height // 2)).save(source / f"{at}-small.jpg")
    out = tmp_path / "catalogue"
    command = [sys.executable, "cli.py", "build", str(source), "--out", str(out), "--model", MODEL]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with closing(open_catalogue(out)) as catalogue:
        model = match_model_of(catalogue)
        assert model.pictures == 15
        extractor = open_extractor(catalogue.extractor_folder)
        finder = CopyFinder(catalogue.snapshot(), catalogue.signatures, model)
        pairs = [len(finder.find(subject(extractor, (source / f"{at}.jpg").read_bytes()), 0.9)) for at in range(24)]
        assert pairs.count(2) >= 23


def test_a_model_is_of_an_extractor_and_a_generation(folder: Path) -> None:
    with closing(open_catalogue(folder)) as catalogue:
        fitted = match_model_of(catalogue)
        assert fitted.fingerprint == catalogue.info.fingerprint
        write_match_model(folder, 7, MatchModel((1.0,) * 7, 0.0, fitted.fingerprint).to_json())
        assert match_model_of(catalogue) == fitted  # that of a later generation is not this one's
        write_match_model(folder, 1, MatchModel((1.0,) * 7, 0.0, "of another").to_json())
        assert match_model_of(catalogue) == BUILT_IN
        write_match_model(folder, 1, "{}")
        with pytest.raises(DamagedIndex, match="match model"):
            match_model_of(catalogue)


def test_it_is_fitted_anew_when_the_catalogue_has_become_another(folder: Path, samples: Path, tmp_path: Path) -> None:
    with closing(open_catalogue(folder)) as catalogue:
        snapshot, model = catalogue.snapshot(), match_model_of(catalogue)
        assert not has_drifted(snapshot, model)
        assert has_drifted(snapshot, BUILT_IN)
        assert fit_match_model(catalogue, open_extractor(catalogue.extractor_folder), pictures=5).items == 59
    doubled = tmp_path / "doubled"
    for at in range(2):
        shutil.copytree(samples, doubled / str(at), ignore=shutil.ignore_patterns(".ready"))
    subprocess.run(
        [sys.executable, "cli.py", "add", str(folder), str(doubled)], cwd=ROOT, check=True, capture_output=True
    )
    subprocess.run([sys.executable, "cli.py", "compact", str(folder)], cwd=ROOT, check=True, capture_output=True)
    with closing(open_catalogue(folder)) as catalogue:
        assert match_model_of(catalogue).items == 177
    rollback_catalogue(folder)
    with closing(open_catalogue(folder)) as catalogue:
        assert match_model_of(catalogue).pictures > 0
