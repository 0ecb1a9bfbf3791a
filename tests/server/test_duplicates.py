"""POST /duplicates and /duplicates/check, and match in /search and /query."""

from __future__ import annotations

import base64
import shutil
import time
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from docs.bentolens_client import BentoLens, Hits, Refused
from index import open_catalogue
from server.duplicates import DuplicateReader
from tests.serving import Server, serving


def altered(photo: Path) -> bytes:
    buffer = BytesIO()
    image = Image.open(photo).convert("RGB")
    ImageOps.mirror(image).resize((image.width // 2, image.height // 2)).save(buffer, "JPEG", quality=40)
    return buffer.getvalue()


def key_of(photo: Path) -> str:
    return photo.relative_to(photo.parents[1]).as_posix()


def test_new_pictures_are_checked_alone_and_in_batches(server: Server, photos: list[Path]) -> None:
    small = BytesIO()
    Image.new("RGB", (300, 200), "teal").save(small, "PNG")
    files = [photos[0].read_bytes(), altered(photos[1]), small.getvalue(), b"no picture"]
    answer = server.post("duplicates/check", [("images", one) for one in files], {})
    assert answer.status_code == 200
    identical, copy, none, broken = answer.json()["results"]
    assert identical == {
        "duplicate": True,
        "matches": [{"id": identical["matches"][0]["id"], "key": key_of(photos[0]), "kind": "identical", "match": 1.0}],
    }
    assert (copy["duplicate"], copy["matches"][0]["key"], copy["matches"][0]["kind"]) == (
        True,
        key_of(photos[1]),
        "altered_copy",
    )
    assert none == {"duplicate": False, "matches": []}
    assert broken["error"]["code"] == "unsupported_image"
    alone = server.json(
        "duplicates/check", {"pictures": [{"image": base64.b64encode(files[1]).decode()}], "min_match": 0.5}
    )
    assert alone.json()["results"][0]["matches"][0]["key"] == key_of(photos[1])
    assert server.post("duplicates/check", [("images", b"no picture")], {}).status_code == 415
    assert server.post("duplicates/check", [("images", files[0])], {"min_match": 2}).status_code == 422
    assert server.json("duplicates/check", {"pictures": []}).status_code == 422


def test_hits_carry_their_match(server: Server, photos: list[Path]) -> None:
    found = server.search(altered(photos[1]), k=3, match="true").json()["results"][0]
    assert found["hits"][0]["key"] == key_of(photos[1])
    assert found["hits"][0]["match"] > 0.9 > found["hits"][1]["match"]
    assert "no_match" not in found
    with BentoLens(server.url) as lens:
        (hits,) = lens.search([altered(photos[1])], match=True, k=2)
        assert isinstance(hits, Hits)
        assert hits[0].match == found["hits"][0]["match"]
        assert not hits.no_match
        copies = lens.check([altered(photos[1]), b"no picture"])
        assert isinstance(copies[0], list)
        assert copies[0][0]["kind"] == "altered_copy"
        assert isinstance(copies[1], Refused)
        assert lens.duplicates(limit=1)["items"] == 59
    only = server.search(altered(photos[1]), min_match=0.9).json()["results"][0]
    assert [hit["key"] for hit in only["hits"]] == [key_of(photos[1])]
    beyond = server.search(altered(photos[1]), min_match=0.9, offset=1, limit=1).json()["results"][0]
    assert (beyond["hits"], beyond["total"], "no_match" in beyond) == ([], 1, False)  # there is one, on the page before
    item = server.json("query", {"queries": [{"id": only["hits"][0]["id"]}], "match": True, "k": 2}).json()["results"][
        0
    ]
    assert item["no_match"] is True
    assert max(hit["match"] for hit in item["hits"]) < 0.5
    assert "match" not in server.search(photos[1].read_bytes(), k=1).json()["results"][0]["hits"][0]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"queries": [{"text": "zebra"}], "match": True}, 422),
        ({"queries": [{"positive": [{"id": 1}, {"id": 2}]}], "min_match": 0.5}, 422),
        ({"queries": [{"id": 1}], "match": True, "parts": "query"}, 422),
        ({"queries": [{"id": 1}], "min_match": 1.5}, 422),
    ],
)
def test_what_has_no_copies_is_refused(server: Server, body: dict[str, Any], status: int) -> None:
    answer = server.json("query", body)
    assert answer.status_code == status, answer.text
    assert "match" in answer.json()["error"]["message"]


def test_groups_are_found_in_the_background_and_paged(catalogue: Path, photos: list[Path], tmp_path: Path) -> None:
    folder = shutil.copytree(
        catalogue, tmp_path / "copy", ignore=shutil.ignore_patterns("*-wal", "*-shm", "duplicates*")
    )
    with serving(folder, tmp_path / "log", LENS_WRITABLE="1", LENS_DEMO="0") as server:
        check_groups(server, photos)


def check_groups(server: Server, photos: list[Path]) -> None:
    files = [("images", photos[0].read_bytes()), ("images", altered(photos[1])), ("images", altered(photos[2]))]
    assert server.post("items/add", files, {"keys": '["a.jpg", "b.jpg", "c.jpg"]'}).json()["added"] == 3
    until = time.monotonic() + 60
    while not (found := server.json("duplicates", {"min_match": 0.98}).json())["complete"]:
        assert time.monotonic() < until, found
        time.sleep(0.5)
    assert (found["total"], found["compared"], found["items"]) == (3, 62, 62)
    kinds = {one["key"]: one["kind"] for group in found["groups"] for one in group["duplicates"]}
    assert kinds["b.jpg"] == kinds["c.jpg"] == "altered_copy"
    page = server.json("duplicates", {"kinds": ["altered_copy"], "min_match": 0.98, "limit": 1, "offset": 1}).json()
    assert (len(page["groups"]), page["total"]) == (1, 2)
    assert page["groups"][0]["keep"]["reason"].startswith("most pixels, ")
    assert server.json("duplicates", {"where": {"path": "b.jpg"}}).json()["total"] == 0
    wrong: list[dict[str, Any]] = [
        *({"limit": 0}, {"limit": 10**6}, {"kinds": []}, {"kinds": ["x"]}),
        *({"alike": 0.1}, {"where": {"$x": 1}}),
    ]
    for body in wrong:
        assert server.json("duplicates", body).status_code in (400, 422)


def test_a_comparison_that_fails_is_not_started_by_every_request(
    catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.duplicates.CLI", tmp_path / "none.py")
    with closing(open_catalogue(catalogue)) as opened:
        reader = DuplicateReader(opened, tmp_path)
        reader._start()
        failed = reader._process
        assert failed is not None
        failed.wait()
        reader._start()
        assert reader._process is failed
        monkeypatch.setattr("server.duplicates.RETRY_SECONDS", 0)
        reader._start()
        assert reader._process is not failed
