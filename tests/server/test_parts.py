"""Parts of pictures over HTTP and on the command line: found in items, also in those added while serving, and in a query."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from index import merge_catalogue, open_catalogue, verify_catalogue
from ingest import build_catalogue, find_sources
from model import Extractor, Region, WindowEncoder
from tests.search.conftest import STAMPS
from tests.search.test_parts import overlap
from tests.search.test_regions import paste
from tests.serving import ROOT, Server, serving

KOALA = STAMPS / "animals" / "marsupials" / "koala.png"


@pytest.fixture(scope="module")
def folder(extractor: Extractor, photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("regions") / "catalogue"
    windows = replace(extractor, windows=WindowEncoder(extractor.folder, extractor.card))
    build_catalogue(find_sources(photos[::6]), out, windows)
    return out


@pytest.fixture(scope="module")
def regional(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(folder, tmp_path_factory.mktemp("server") / "log", LENS_WRITABLE="1", LENS_DEMO="0") as server:
        yield server


@pytest.fixture(scope="module")
def pasted(photos: list[Path]) -> tuple[bytes, Region]:
    return paste(KOALA, photos[-1], 0.1, np.random.default_rng(2))


def ask(server: Server, **fields: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/query", json=fields, timeout=60)


def picture(data: bytes) -> dict[str, str]:
    return {"image": base64.b64encode(data).decode()}


def test_a_part_of_an_added_picture_is_found_with_its_box(
    regional: Server, folder: Path, pasted: tuple[bytes, Region], tmp_path: Path
) -> None:
    data, region = pasted
    added = httpx.post(f"{regional.url}/items/add", files=[("images", ("pasted.jpg", data))], timeout=60)
    assert added.status_code == 200, added.text
    for _ in range(2):  # before it is merged, and after
        (found,) = ask(regional, queries=[picture(KOALA.read_bytes())], parts="items", k=3).json()["results"]
        best = found["hits"][0]
        assert best["key"] == "pasted.jpg"
        assert overlap(best["box"], region) > 0.5
        merge_catalogue(folder)
    (whole,) = ask(regional, queries=[picture(KOALA.read_bytes())], k=3).json()["results"]
    assert "box" not in whole["hits"][0]
    assert whole["hits"][0]["score"] < best["score"]
    command = [sys.executable, "cli.py", "search", str(folder), str(KOALA), "--parts", "items", "--k", "3", "--json"]
    by_shell = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert [hit["box"] for hit in by_shell["results"][0]["hits"]] == [hit["box"] for hit in found["hits"]]
    assert list(verify_catalogue(folder)) == []


def test_the_boxes_of_an_added_picture_are_those_of_a_build(regional: Server, folder: Path, photos: list[Path]) -> None:
    with photos[0].open("rb") as file:
        added = httpx.post(f"{regional.url}/items/add", files=[("images", ("again.jpg", file))], timeout=60).json()
    with closing(open_catalogue(folder)) as catalogue:
        (built,) = [one.id for one in catalogue.items_by_key([photos[0].name]).values()]
        one, other = catalogue.snapshot().region_vectors([built, added["items"][0]["id"]])
    assert np.einsum("bd,bd->b", one, other) == pytest.approx(np.ones(len(one)), abs=1e-3)


def test_parts_of_a_query_find_what_it_shows(regional: Server, pasted: tuple[bytes, Region]) -> None:
    data, region = pasted
    httpx.post(f"{regional.url}/items/add", files=[("images", ("koala.png", KOALA.read_bytes()))], timeout=60)
    (found,) = ask(regional, queries=[picture(data)], parts="query", where={"path": "koala.png"}).json()["results"]
    (whole,) = ask(regional, queries=[picture(data)], where={"path": "koala.png"}).json()["results"]
    assert overlap(found["hits"][0]["box"], region) > 0.5
    assert found["hits"][0]["score"] > whole["hits"][0]["score"]
    inside = {**picture(data), "region": [region.x, region.y, region.width, region.height]}
    (found,) = ask(regional, queries=[inside], parts="query", where={"path": "koala.png"}).json()["results"]
    x, y, width, height = found["hits"][0]["box"]
    assert region.x - 1e-6 <= x < x + width <= region.x + region.width + 1e-6
    assert region.y - 1e-6 <= y < y + height <= region.y + region.height + 1e-6
    over = {**picture(data), "region": [0.5, 0.5, 1, 1]}
    (found,) = ask(regional, queries=[over], parts="query", k=3).json()["results"]
    for x, y, width, height in (hit["box"] for hit in found["hits"]):
        assert x + width <= 1 + 1e-9, "what stands out of the picture is cut off"
        assert y + height <= 1 + 1e-9
    form = {"parts": "query", "where": '{"path": "koala.png"}'}
    answer = httpx.post(f"{regional.url}/search", files=[("images", data)], data=form, timeout=60).json()
    assert answer["results"][0]["hits"][0]["key"] == "koala.png"
    (by_item,) = ask(regional, queries=[{"id": 1}], parts="query", k=2).json()["results"]
    assert all(hit["id"] != 1 and len(hit["box"]) == 4 for hit in by_item["hits"])


def test_a_query_among_parts_is_seen_whole(regional: Server) -> None:
    """Of a very wide picture the middle alone would be seen, as another one."""
    stored = BytesIO()
    wide = Image.new("RGB", (1600, 40), (240, 240, 240))
    wide.paste((200, 30, 30), (0, 0, 600, 40))
    wide.save(stored, "PNG")
    httpx.post(f"{regional.url}/items/add", files=[("images", ("wide.png", stored.getvalue()))], timeout=60)
    (found,) = ask(regional, queries=[picture(stored.getvalue())], parts="items", k=2).json()["results"]
    assert found["hits"][0]["key"] == "wide.png"
    assert found["hits"][0]["score"] > found["hits"][1]["score"] + 0.1


def test_parts_that_cannot_be_searched_are_refused(server: Server, regional: Server, photos: list[Path]) -> None:
    one = picture(photos[0].read_bytes())
    answer = ask(server, queries=[one], parts="items")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "regions_unavailable")
    assert "--regions" in answer.json()["error"]["message"]
    assert ask(server, queries=[one], parts="query", k=2).status_code == 200
    for query in ({"text": "zebra"}, {**one, "negative": [{"id": 1}]}):
        answer = ask(regional, queries=[query], parts="query")
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_query")
        assert "parts" in answer.json()["error"]["message"]
    answer = ask(regional, queries=[one], parts="all")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_field")
    assert ask(server, queries=[{"id": 1}], parts="query").json()["error"]["code"] == "regions_unavailable"
    assert ask(regional, queries=[{"id": 99999}], parts="query").status_code == 404
    mixed = ask(regional, queries=[one, {"text": "zebra"}], parts="query", k=1).json()["results"]
    assert [list(each) for each in mixed] == [["hits", "batch_size"], ["error"]]


def test_examples_words_and_shaping_go_with_parts_of_items(regional: Server, photos: list[Path]) -> None:
    query = {**picture(photos[0].read_bytes()), "positive": [{"id": 3}], "negative": [{"id": 4}], "combine": "best"}
    shaped = {"k": 6, "diversity": 0.3, "fold": 0.99, "sort": "key", "facets": ["width"]}
    answer = ask(regional, queries=[query, {"text": "zebra"}], parts="items", **shaped).json()
    for found in answer["results"]:
        assert found["hits"]
        assert all(len(hit["box"]) == 4 for hit in found["hits"])
        assert [hit["key"] for hit in found["hits"]] == sorted(hit["key"] for hit in found["hits"])
    pages = [
        ask(regional, queries=[{"id": 1}], parts="items", offset=at, limit=2).json()["results"][0]["hits"]
        for at in (0, 2, 4)
    ]
    (together,) = ask(regional, queries=[{"id": 1}], parts="items", offset=0, limit=6).json()["results"]
    assert [hit for page in pages for hit in page] == together["hits"]
