"""A catalogue of a CLIP model, built, searched by texts at the shell and over HTTP; random weights, so nothing of quality."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from index import open_catalogue
from model import open_text_engine, read_card
from tests.clip import make_model
from tests.serving import ROOT, Server, serving

TEXTS = ["a photo of a dog", "two red apples on a wooden table", "something no classifier knows: 東京"]


@pytest.fixture(scope="module")
def folder(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("clip")
    model = make_model(place / "tiny-clip", "clip")
    command = [sys.executable, "cli.py", "build", str(samples), "--out", str(place / "catalogue")]
    subprocess.run([*command, "--model", f"open_clip:{model}"], cwd=ROOT, check=True, capture_output=True)
    return place / "catalogue"


@pytest.fixture(scope="module")
def clip_server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(folder, tmp_path_factory.mktemp("server") / "log", LENS_DEMO="0") as server:
        yield server


def test_texts_find_what_the_exact_search_does(clip_server: Server, folder: Path) -> None:
    extractor = folder / "extractor"
    vectors = open_text_engine(extractor, read_card(extractor), 1).embed(TEXTS)
    with closing(open_catalogue(folder)) as catalogue:
        exact = catalogue.search_exactly(vectors, 10)
    queries = [{"text": text} for text in TEXTS]
    answer = httpx.post(f"{clip_server.url}/query", json={"queries": queries, "k": 10}, timeout=60).json()
    for found, wanted in zip(answer["results"], exact, strict=True):
        assert [hit["id"] for hit in found["hits"]] == [one for one, _ in wanted]
        assert [hit["score"] for hit in found["hits"]] == pytest.approx([score for _, score in wanted], abs=1e-4)
    assert answer["model"] == "open_clip:tiny-clip"
    options = [option for text in TEXTS for option in ("--text", text)]
    command = [sys.executable, "cli.py", "search", str(folder), *options, "--k", "10", "--json"]
    by_shell = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert [one["hits"] for one in by_shell["results"]] == [
        [hit | {"score": pytest.approx(hit["score"], abs=1e-5)} for hit in one["hits"]] for one in answer["results"]
    ]
    again = httpx.post(f"{clip_server.url}/query", json={"queries": queries[:1], "k": 10}, timeout=60).json()
    assert again["results"][0] == answer["results"][0]


def test_texts_and_pictures_go_together(clip_server: Server, photos: list[Path]) -> None:
    query = {"text": TEXTS[0], "positive": [{"id": 3}], "negative": [{"text": TEXTS[1], "weight": 0.5}]}
    answer = httpx.post(f"{clip_server.url}/query", json={"queries": [query]}, timeout=60)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["results"][0]["hits"]) == 10
    empty = httpx.post(f"{clip_server.url}/query", json={"queries": [{"text": ""}]}, timeout=60)
    assert (empty.status_code, empty.json()["error"]["code"]) == (422, "invalid_field")
    regions = httpx.post(f"{clip_server.url}/query", json={"queries": [{"id": 3}], "parts": "items"}, timeout=60)
    assert regions.json()["error"]["code"] == "regions_unavailable"


def test_no_process_that_serves_texts_has_torch(clip_server: Server) -> None:
    httpx.post(f"{clip_server.url}/query", json={"queries": [{"text": "warm"}]}, timeout=60)
    processes = [psutil.Process(clip_server.pid), *psutil.Process(clip_server.pid).children(recursive=True)]
    mapped = [{Path(one.path).name for one in process.memory_maps()} for process in processes]
    assert any("tokenizers.abi3.so" in names for names in mapped), "the Extractor has the tokeniser"
    assert not any("libtorch" in name for names in mapped for name in names)


def test_damage_to_the_text_network_leaves_pictures_searchable(folder: Path, tmp_path: Path) -> None:
    extractor = folder / "extractor"
    assert np.isfinite(open_text_engine(extractor, read_card(extractor), 1).embed(["x"])).all()
    whole = (extractor / "text.bin").read_bytes()
    (extractor / "text.bin").write_bytes(whole[: len(whole) // 2])
    try:
        with serving(folder, tmp_path / "log", LENS_DEMO="0") as server:
            texts = httpx.post(f"{server.url}/query", json={"queries": [{"text": "dog"}]}, timeout=60)
            assert (texts.status_code, texts.json()["error"]["code"]) == (503, "extractor_unavailable")
            items = httpx.post(f"{server.url}/query", json={"queries": [{"id": 3}]}, timeout=60)
            assert items.status_code == 200
    finally:
        (extractor / "text.bin").write_bytes(whole)
