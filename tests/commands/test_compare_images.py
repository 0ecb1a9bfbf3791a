"""compare-images says how alike two pictures are, by a catalogue's model or by any other, and what is wrong with them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from index import Catalogue, open_catalogue
from search import compare
from tests.conftest import MODEL
from tests.serving import ROOT


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "cli.py", "compare-images", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_numbers_are_those_of_a_hand_computation(catalogue: Path, photos: list[Path]) -> None:
    done = run(str(photos[0]), str(photos[1]), "--catalogue", str(catalogue), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    opened = open_catalogue(catalogue)
    one, other = opened.snapshot().vectors([1, 2]).astype(np.float64)
    opened.close()
    assert found["cosine"] == pytest.approx(float(one @ other), abs=1e-4)
    assert found["euclidean"] == pytest.approx(float(np.sqrt(2 - 2 * (one @ other))), abs=1e-3)
    first = found["embeddings"][0]
    assert (first["dim"], first["norm"]) == (1280, pytest.approx(1, abs=1e-4))
    assert first["min"] == pytest.approx(one.min(), abs=1e-4)
    assert first["max"] == pytest.approx(one.max(), abs=1e-3)
    assert first["mean"] == pytest.approx(one.mean(), abs=1e-4)


def test_a_picture_is_itself_by_any_model(photos: list[Path]) -> None:
    done = run(str(photos[0]), str(photos[0]), "--model", MODEL)
    assert done.returncode == 0, done.stderr
    assert "cosine similarity" in done.stdout
    assert "1.0000" in done.stdout
    assert "nearly identical" in done.stdout
    assert "1280 dimensions" in done.stdout


def test_the_share_of_pairs_is_that_of_the_catalogue(catalogue: Path) -> None:
    opened: Catalogue = open_catalogue(catalogue)
    vectors = opened.snapshot().vectors(list(range(1, 60)))
    similarities = (vectors @ vectors.T)[np.triu_indices(59, 1)]
    for one, other in ((0, 1), (3, 30), (7, 8)):
        found = compare(vectors[one], vectors[other], opened)
        share = float((similarities < vectors[one] @ vectors[other] - 1e-6).mean())
        assert found.less_alike == pytest.approx(share, abs=0.02)
        assert f"{found.less_alike:.2%}" in found.reading
    opened.close()


@pytest.mark.parametrize("wrong", ["missing", "text"])
def test_what_cannot_be_read_is_one_line(wrong: str, catalogue: Path, photos: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    if wrong == "text":
        path.write_text("hello")
    done = run(str(photos[0]), str(path), "--catalogue", str(catalogue))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "a.jpg" in done.stderr
