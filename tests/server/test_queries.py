"""Queries by several examples and regions, and shaped answers, over HTTP and on the command line; and what is refused."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from index import open_catalogue
from tests.serving import ROOT, Server


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def hits(answer: Any) -> list[list[int]]:
    return [[hit["id"] for hit in one["hits"]] for one in answer["results"]]


def on_the_command_line(catalogue: Path, *options: str) -> Any:
    command = [sys.executable, "cli.py", "search", str(catalogue), *options, "--json"]
    return json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def test_examples_mean_the_same_in_json_in_a_form_and_on_the_command_line(
    server: Server, catalogue: Path, photos: list[Path]
) -> None:
    more = {"positive": [{"id": 7, "weight": 0.5}], "negative": [{"id": 9}]}
    body = {"queries": [{"image": encoded(photos[0]), **more}], "k": 20}
    by_json = server.json("query", body).json()
    form = {name: json.dumps(value) for name, value in more.items()}
    by_form = server.search(photos[0].read_bytes(), k=20, **form).json()
    by_shell = on_the_command_line(
        catalogue, str(photos[0]), "--positive", "id:7^0.5", "--negative", "id:9", "--k", "20"
    )
    assert hits(by_json) == hits(by_form) == hits(by_shell)
    assert len(hits(by_json)[0]) == 20
    assert not {7, 9} & set(hits(by_json)[0]), "examples are not their own hits"


def test_the_mean_of_examples_is_searched_for(server: Server, catalogue: Path) -> None:
    opened = open_catalogue(catalogue)
    vectors = opened.snapshot().vectors([5, 6, 40]).astype(np.float64)
    opened_ids = list(range(1, 60))
    everything = opened.snapshot().vectors(opened_ids).astype(np.float64)
    opened.close()
    middle = (vectors[0] + 3 * vectors[1]) / 4
    wanted = middle + 0.25 * 0.5 * (middle - vectors[2])
    scores = everything @ wanted / np.linalg.norm(wanted)
    order = [opened_ids[place] for place in np.argsort(-scores) if opened_ids[place] not in (5, 6, 40)]
    query = {"positive": [{"id": 5}, {"id": 6, "weight": 3}], "negative": [{"id": 40, "weight": 0.5}]}
    answer = server.json("query", {"queries": [query], "k": 20}).json()
    assert hits(answer)[0] == order[:20]
    found = {hit["id"]: hit["score"] for hit in answer["results"][0]["hits"]}
    assert found[order[0]] == pytest.approx(float(np.sort(scores[[one - 1 for one in order]])[-1]), abs=1e-5)


def test_best_is_the_nearest_to_any(server: Server) -> None:
    alone = server.json("query", {"queries": [{"id": 5}, {"id": 40}], "k": 59}).json()["results"]
    scores: dict[int, float] = {}
    for one in alone:
        for hit in one["hits"]:
            scores[hit["id"]] = max(hit["score"], scores.get(hit["id"], -1))
    best = sorted((one for one in scores if one not in (5, 40)), key=lambda one: -scores[one])
    both = {"positive": [{"id": 5}, {"id": 40}], "combine": "best"}
    assert hits(server.json("query", {"queries": [both], "k": 59}).json())[0] == best
    weighted = {"positive": [{"id": 5}, {"id": 40, "weight": 1e-6}], "combine": "best"}
    wanted = [hit["id"] for hit in alone[0]["hits"] if hit["id"] not in (5, 40)]
    assert hits(server.json("query", {"queries": [weighted], "k": 20}).json())[0] == wanted[:20]


def test_a_region_is_what_is_searched_by(server: Server, catalogue: Path, photos: list[Path]) -> None:
    """Two photos side by side: each half finds its own photo, and the whole does not find both first."""
    left, right = (Image.open(photos[at]).convert("RGB").resize((300, 300)) for at in (3, 50))
    both = Image.new("RGB", (600, 300))
    both.paste(left, (0, 0))
    both.paste(right, (300, 0))
    stored = BytesIO()
    both.save(stored, "PNG")
    image = base64.b64encode(stored.getvalue()).decode()
    boxes = ([0, 0, 0.5, 1], [0.5, 0, 0.5, 1])
    answer = server.json("query", {"queries": [{"image": image, "region": box} for box in boxes], "k": 1}).json()
    first = [one["hits"][0]["key"].split("/")[-1] for one in answer["results"]]
    assert first == [photos[3].name, photos[50].name]
    by_form = server.search(stored.getvalue(), k=1, region=json.dumps(boxes[1])).json()
    assert hits(by_form)[0] == hits(answer)[1]
    path = catalogue.parent / "side-by-side.png"
    path.write_bytes(stored.getvalue())
    assert hits(on_the_command_line(catalogue, str(path), "--region", "0.5,0,0.5,1", "--k", "1")) == hits(by_form)


def test_answers_are_shaped_alike_everywhere(server: Server, catalogue: Path, photos: list[Path]) -> None:
    shape = {"k": 40, "sort": "-width", "offset": 3, "limit": 5, "facets": ["label"], "classify": "label"}
    body = {"queries": [{"image": encoded(photos[0])}], **shape}
    by_json = server.json("query", body).json()
    by_form = server.search(photos[0].read_bytes(), **{**shape, "facets": "label"}).json()
    options = [text for name, value in shape.items() if name != "facets" for text in (f"--{name}", str(value))]
    by_shell = on_the_command_line(catalogue, str(photos[0]), *options, "--facet", "label")
    parts = [
        {name: value for name, value in answer["results"][0].items() if name != "batch_size"}
        for answer in (by_json, by_form, by_shell)
    ]
    assert parts[0] == parts[1] == parts[2]
    assert (parts[0]["total"], len(parts[0]["hits"])) == (40, 5)
    widths = [hit["metadata"]["width"] for hit in parts[0]["hits"]]
    assert widths == sorted(widths, reverse=True)
    assert sum(vote["confidence"] for vote in parts[0]["classify"]) == pytest.approx(1)
    assert sum(one["count"] for one in parts[0]["facets"][0]["values"]) == 40


def test_groups_have_their_sizes_and_a_plain_answer_has_none_of_this(server: Server) -> None:
    answer = server.json("query", {"queries": [{"id": 1}], "group_by": "label", "k": 10}).json()
    groups = {hit["group"]["value"]: hit["group"]["size"] for hit in answer["results"][0]["hits"]}
    assert groups == {"imagenet": 20, "interior": 39} or sum(groups.values()) == 59
    plain = server.json("query", {"queries": [{"id": 1}]}).json()["results"][0]
    assert plain.keys() == {"hits", "batch_size"}
    assert plain["hits"][0].keys() == {"id", "key", "score", "metadata"}


REFUSED = [
    ({"queries": [{"negative": [{"id": 1}]}]}, "queries.0: negative is not enough"),
    ({"queries": [{"id": 1, "region": [0, 0, 1, 1]}]}, "queries.0: region: it needs a picture"),
    ({"queries": [{"image": "", "region": [0, 0, 0, 1]}]}, "queries.0.region: a region is"),
    ({"queries": [{"image": "", "region": [0, 0, 1]}]}, "queries.0.region: "),
    ({"queries": [{"id": 1, "weight": 0}]}, "queries.0.weight: "),
    ({"queries": [{"id": 1, "weight": 1001}]}, "queries.0.weight: input should be less than or equal to 1000"),
    ({"queries": [{"text": ""}]}, "queries.0.text: string should have at least 1 character"),
    ({"queries": [{"text": "a" * 201}]}, "queries.0.text: string should have at most 200 characters"),
    ({"queries": [{"positive": [{"id": 1}] * 17}]}, "queries.0.positive: "),
    ({"queries": [{"positive": [{"id": 1}] * 16, "negative": [{"id": 2}] * 16}] * 3}, "99 in one request are more"),
    ({"queries": [{"id": 1, "combine": "worst"}]}, "queries.0.combine: "),
    ({"queries": [{"id": 1}], "limit": 0}, "limit: "),
    ({"queries": [{"id": 1}], "offset": 1001}, "offset: 1001 is more than the 1000 allowed"),
    ({"queries": [{"id": 1}], "offset": -1}, "offset: "),
    ({"queries": [{"id": 1}], "min_score": "high"}, "min_score: "),
    ({"queries": [{"id": 1}], "fold": 1.5}, "fold: "),
    ({"queries": [{"id": 1}], "diversity": 2}, "diversity: "),
    ({"queries": [{"id": 1}], "group_by": 7}, "group_by: "),
    ({"queries": [{"id": 1}], "sort": {"field": "width", "order": "up"}}, "sort.order: "),
    ({"queries": [{"id": 1}], "facets": "label"}, "facets: "),
    ({"queries": [{"id": 1}], "facets": ["x"] * 51}, "facets: "),
    ({"queries": [{"id": 1}], "classify": []}, "classify"),
]


@pytest.mark.parametrize(("body", "message"), REFUSED)
def test_what_is_wrong_is_named(server: Server, body: Any, message: str) -> None:
    answer = server.json("query", body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["message"].startswith(message)


def test_examples_that_cancel_out_are_an_error_in_their_place(server: Server) -> None:
    nothing = {"id": 1, "negative": [{"id": 1}]}
    answer = server.json("query", {"queries": [nothing, {"id": 999, "positive": [{"id": 1}]}, {"id": 1}]}).json()
    assert answer["results"][1]["error"]["code"] == "item_not_found"
    assert len(answer["results"][2]["hits"]) == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give an IMAGE, --id, --text or --positive"),
        (["--id", "1", "--k", "0"], "k: input should be greater than or equal to 1"),
        (["--id", "1", "--group-by", "[1]"], "group_by"),
        (["--id", "1", "--sort", "["], "sort: this is not JSON"),
        (["--id", "1", "--positive", "id:x"], "an item's id is a number"),
        (["--id", "1", "--positive", "id:3^0"], "a weight is above 0"),
        (["--id", "1", "--positive", "id:3^1001"], "a weight is above 0 and at most 1000"),
        (["--region", "1,2", "x.jpg"], "write four shares"),
        (["--region", "0,0,2,2", "x.jpg"], "from 0 to 1"),
    ],
)
def test_wrong_options_are_usage_errors(catalogue: Path, options: list[str], message: str) -> None:
    command = [sys.executable, "cli.py", "search", str(catalogue), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
