"""POST /explain: which parts of a query's picture and of a hit's make their score, and what is refused."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from docs.bentolens_client import BentoLens, Example
from tests.serving import Server


def test_parts_sum_to_the_score_and_overlays_are_pictures(server: Server, photos: list[Path]) -> None:
    image = base64.b64encode(photos[0].read_bytes()).decode()
    (hit,) = server.json("query", {"queries": [{"image": image}], "k": 1}).json()["results"][0]["hits"]
    answer = server.json("explain", {"query": {"image": image}, "id": hit["id"]})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["exact"] is True
    assert found["score"] == pytest.approx(hit["score"], abs=1e-5)
    of_query = found["query"]
    assert np.array(of_query["parts"]).shape == (7, 7)
    # The picture is that which was embedded, and the hit's vector is the catalogue's: nothing is lost on the way.
    assert np.sum(of_query["parts"]) == pytest.approx(found["score"], abs=1e-5)
    assert (of_query["source"], found["hit"]["source"]) == ("query", "thumbnail")
    assert np.sum(found["hit"]["parts"]) == pytest.approx(found["score"], abs=0.1)
    left, top, width, height = of_query["strongest"]
    assert 0 <= left < left + width <= 1
    assert 0 <= top < top + height <= 1
    for part in (of_query, found["hit"]):
        with Image.open(BytesIO(base64.b64decode(part["overlay"]))) as overlay:
            assert (overlay.format, overlay.size) == ("JPEG", (320, 320))


def test_words_items_regions_and_a_finer_map(server: Server, photos: list[Path]) -> None:
    words = server.json("explain", {"query": {"text": "zebra"}, "id": 3, "overlay": False}).json()
    assert words["query"] is None
    assert words["hit"]["overlay"] is None
    fine = server.json("explain", {"query": {"id": 5}, "id": 3, "detail": 2}).json()
    assert np.array(fine["hit"]["parts"]).shape == (14, 14)
    assert fine["query"]["source"] == "thumbnail"
    image = base64.b64encode(photos[0].read_bytes()).decode()
    boxed = server.json("explain", {"query": {"image": image, "region": [0, 0, 0.5, 0.5]}, "id": 3}).json()
    assert boxed["query"]["source"] == "query"
    with BentoLens(server.url) as lens:
        found = lens.explain(Example(id=5), 3)
        assert found["score"] == pytest.approx(fine["score"], abs=1e-6)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"query": {"id": 1}, "id": 999}, 404, "there is no item 999"),
        ({"query": {"id": 999}, "id": 1}, 404, "there is no item 999"),
        ({"query": {"text": "zebar"}, "id": 1}, 422, "no pictures' class for 'zebar'"),
        ({"query": {"image": "AAAA"}, "id": 1}, 415, "not a picture"),
        ({"query": {"id": 1}}, 422, "id: field required"),
        ({"query": {}, "id": 1}, 422, "query: give either"),
        ({"query": {"id": 1}, "id": 1, "detail": 3}, 422, "detail: "),
    ],
)
def test_what_is_wrong_is_named(server: Server, body: Any, status: int, message: str) -> None:
    answer = server.json("explain", body)
    assert answer.status_code == status, answer.text
    assert message in answer.json()["error"]["message"]
