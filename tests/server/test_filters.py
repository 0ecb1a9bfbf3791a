"""A filter narrows a search in the same way over HTTP and on the command line, and costs no hit that there is."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.serving import ROOT, Server

FILTERS: list[tuple[Any, int]] = [
    ({"label": "imagenet"}, 20),
    ({"label": {"$ne": "imagenet"}}, 39),
    ({"$or": [{"label": {"$in": ["imagenet"]}}, {"width": {"$gt": 0}}]}, 59),
    ({"label": "no such"}, 0),
    ({}, 59),
]


def keys(result: dict[str, Any]) -> list[str]:
    return [hit["key"] for hit in result["hits"]]


@pytest.mark.parametrize(("where", "there"), FILTERS)
def test_every_door_finds_the_same_and_all_that_there_is(
    where: Any, there: int, server: Server, catalogue: Path, photos: list[Path]
) -> None:
    image = photos[0].read_bytes()
    by_form = server.search(image, k=100, where=json.dumps(where)).json()
    encoded = {"queries": [{"image": base64.b64encode(image).decode()}], "k": 100, "where": where}
    by_json = server.json("query", encoded).json()
    command = [sys.executable, "cli.py", "search", str(catalogue), str(photos[0]), "--k", "100", "--json"]
    done = subprocess.run(
        [*command, "--where", json.dumps(where)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    by_shell = json.loads(done.stdout)
    answers = [keys(answer["results"][0]) for answer in (by_form, by_json, by_shell)]
    assert [len(found) for found in answers] == [there] * 3
    assert answers[0] == answers[1] == answers[2]
    for answer in (by_form, by_json, by_shell):
        assert answer["timings_ms"].keys() == {"filter", "decode", "embed", "search"}


def test_hits_of_a_filter_are_the_unfiltered_hits_that_pass(server: Server, photos: list[Path]) -> None:
    image = photos[-1].read_bytes()
    everything = server.search(image, k=59).json()["results"][0]["hits"]
    wide = server.search(image, k=59, where='{"width": {"$gte": 600}}').json()["results"][0]["hits"]
    expected = [hit for hit in everything if hit["metadata"]["width"] >= 600]
    assert 0 < len(expected) < 59
    assert [hit["id"] for hit in wide] == [hit["id"] for hit in expected]
    # Until the kernel is loaded numpy computes the scores, and rounds a little differently.
    assert [hit["score"] for hit in wide] == pytest.approx([hit["score"] for hit in expected], abs=1e-6)


def test_an_item_asked_for_by_id_is_not_its_own_hit_under_a_filter(server: Server) -> None:
    body = {"queries": [{"id": 1}, {"id": 2}, {"id": 999}], "k": 59, "where": {"label": {"$exists": True}}}
    results = server.json("query", body).json()["results"]
    assert [len(result["hits"]) for result in results[:2]] == [58, 58]
    assert [1 in {hit["id"] for hit in results[0]["hits"]}, 2 in {hit["id"] for hit in results[1]["hits"]}] == [
        False,
        False,
    ]
    assert results[2]["error"]["code"] == "item_not_found"


def test_a_wrong_filter_is_refused_before_any_picture_is_read(server: Server) -> None:
    answer = server.search(b"not even a picture", where='{"width": {"$between": [1, 2]}}')
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "invalid_filter"
    assert answer.json()["error"]["message"].startswith("where.width.$between: there is no operator $between; ")


def test_a_filter_on_fields_that_no_item_has_is_answered_with_a_hint(
    server: Server, catalogue: Path, photos: list[Path]
) -> None:
    image = photos[0].read_bytes()
    answer = server.search(image, where='{"labell": "imagenet", "width": {"$gt": 0}}').json()
    assert answer["results"][0]["hits"] == []
    assert answer["hint"] == 'no item has the field "labell"; there are: height, label, path, width'
    for where in ({"label": "no such"}, {"labell": {"$ne": "x"}}, {"label": "imagenet"}):
        assert "hint" not in server.search(image, where=json.dumps(where)).json()
    command = [sys.executable, "cli.py", "search", str(catalogue), str(photos[0]), "--where", '{"x": 1}']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert 'hint: no item has the field "x"; there are: height, label, path, width' in done.stderr


def test_pictures_are_filtered_by_where_they_were(server: Server, photos: list[Path]) -> None:
    image = photos[0].read_bytes()
    hits = server.search(image, k=59, where='{"path": {"$prefix": "imagenet/"}}').json()["results"][0]["hits"]
    assert len(hits) == 20
    assert all(hit["metadata"]["path"] == hit["key"] for hit in hits)
    assert all(hit["key"].startswith("imagenet/") for hit in hits)
