"""build --metric works to the end: the vectors' lengths, the scores, the filters, verify and the service."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from index import CatalogueMismatch, Entry, Metric, open_catalogue, start_catalogue
from model import read_card
from tests.commands.test_cli import run
from tests.conftest import MODEL
from tests.serving import serving


@pytest.mark.parametrize("metric", ["ip", pytest.param("l2", marks=pytest.mark.soak)])
def test_a_metric_goes_the_whole_way(metric: Metric, photos: list[Path], tmp_path: Path) -> None:
    out, some = tmp_path / "out", photos[:20]
    (tmp_path / "in").mkdir()
    for photo in some:
        shutil.copy(photo, tmp_path / "in")
    built = run("build", tmp_path / "in", "--out", out, "--model", MODEL, "--metric", metric)
    assert built.exit_code == 0, built.stderr
    assert run("verify", out).stdout == f"{out} is sound\n"
    assert json.loads(run("info", out, "--json").stdout)["metric"] == metric
    assert not read_card(out / "extractor").normalized
    catalogue = open_catalogue(out)
    vectors = {item.key: catalogue.vector(item.id) for item in catalogue.items(list(range(1, 21))).values()}
    lengths = [float(np.linalg.norm(vector)) for vector in vectors.values() if vector is not None]
    assert max(lengths) > 1.1 * min(lengths), "lengths are kept"

    printed = json.loads(run("search", out, some[3], "--k", 20, "--json").stdout)
    with serving(out, tmp_path / "log") as server:
        answer = server.search(some[3].read_bytes(), k=20).json()
        (embedding,) = server.post("embed", [("images", some[3].read_bytes())], {}).json()["embeddings"]
        filtered = server.search(some[3].read_bytes(), k=20, where='{"width": {"$lt": 1000}}').json()
    hits = answer["results"][0]["hits"]
    assert [hit["key"] for hit in printed["results"][0]["hits"]] == [hit["key"] for hit in hits]
    query = np.array(embedding, np.float32)
    for hit in hits:
        vector = vectors[hit["key"]]
        assert vector is not None
        expected = vector @ query if metric == "ip" else -np.linalg.norm(vector - query)
        assert hit["score"] == pytest.approx(expected, rel=1e-2, abs=0.15)
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    if metric == "l2":
        assert hits[0]["key"] == some[3].name
        assert hits[0]["score"] == pytest.approx(0, abs=0.15)
    assert {hit["id"] for hit in filtered["results"][0]["hits"]} <= {hit["id"] for hit in hits}


def test_a_build_that_was_broken_off_is_not_mixed_with_another_metric(photos: list[Path], tmp_path: Path) -> None:
    made = {"model": "m", "fingerprint": "f", "dim": 4}
    writer = start_catalogue(tmp_path / "out", metric="ip", **made)  # type: ignore[arg-type]
    writer.add([Entry("a.jpg", np.ones(4, np.float32), {}, "0" * 64, b"\xff\xd8", 1, 1)])
    writer.close()
    with pytest.raises(CatalogueMismatch, match="--metric ip, not l2"):
        start_catalogue(tmp_path / "out", metric="l2", **made)  # type: ignore[arg-type]
    with pytest.raises(CatalogueMismatch, match="--metric ip, not cosine"):  # whose extractor is another one, too
        start_catalogue(tmp_path / "out", metric="cosine", **made | {"fingerprint": "g"})  # type: ignore[arg-type]
