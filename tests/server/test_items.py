"""Items are added, removed and updated over HTTP: durable once answered, found at once, safe to send again."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from index import backup_catalogue, restore_catalogue, verify_catalogue
from tests.serving import Server, eventually, serving


@pytest.fixture(scope="module")
def folder(catalogue: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("writable") / "catalogue"
    return Path(shutil.copytree(catalogue, place, ignore=shutil.ignore_patterns("*-wal", "*-shm")))


@pytest.fixture(scope="module")
def writable(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"LENS_WRITABLE": "1", "LENS_WORKERS": "2", "LENS_MAX_QUEUE_SECONDS": "60", "LENS_DEMO": "0"}
    with serving(folder, tmp_path_factory.mktemp("server") / "log", **settings) as server:
        yield server


def post(server: Server, path: str, body: Any, **headers: str) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, headers=headers, timeout=60)


def add(server: Server, *files: tuple[str, bytes], **fields: str) -> httpx.Response:
    images = [("images", file) for file in files]
    return httpx.post(f"{server.url}/items/add", files=images, data=fields, timeout=60)


def found(server: Server, picture: bytes, where: object = None) -> list[str]:
    query = {"queries": [{"image": base64.b64encode(picture).decode()}], "k": 3, "where": where}
    (result,) = post(server, "/query", query).json()["results"]
    return [hit["key"] for hit in result["hits"] if hit["score"] > 0.999]


def test_what_is_added_is_found_by_every_worker_and_what_is_removed_is_not(
    writable: Server, photos: list[Path]
) -> None:
    picture = photos[0].read_bytes()
    answer = add(writable, ("new.jpg", picture), metadata=json.dumps([{"label": "new", "stars": 5}]))
    assert answer.status_code == 200, answer.text
    (item,) = answer.json()["items"]
    assert (answer.json()["added"], item["key"], item["replaced"]) == (1, "new.jpg", None)
    for _ in range(8):  # by one worker or the other
        assert found(writable, picture, {"stars": {"$gte": 5}}) == ["new.jpg"]
    (got,) = post(writable, "/items/get", {"keys": ["new.jpg"]}).json()["items"]
    assert (got["metadata"]["label"], got["metadata"]["path"]) == ("new", "new.jpg")
    assert got["metadata"]["width"] > 0
    assert base64.b64decode(got["thumbnail"]).startswith(b"\xff\xd8")
    again = add(writable, ("new.jpg", photos[1].read_bytes())).json()["items"][0]
    assert again["replaced"] == item["id"]
    assert post(writable, "/items/remove", {"keys": ["new.jpg", "none"]}).json() == {
        "items": [{"id": again["id"]}, {"error": missing("none")}],
        "changed": 1,
    }
    for _ in range(8):
        assert "new.jpg" not in found(writable, photos[1].read_bytes())
    assert post(writable, "/items/remove", {"keys": ["new.jpg"]}).status_code == 404


def missing(key: str) -> dict[str, str]:
    message = f"there is no item {key!r} in the catalogue"
    return {"code": "item_not_found", "message": message, "hint": "use an id or key that a search or a build has named"}


def test_of_several_pictures_the_bad_ones_are_named_and_the_others_are_in(writable: Server, photos: list[Path]) -> None:
    good = photos[2].read_bytes()
    answer = add(writable, ("a", good), ("b", good[:300]), ("c", b"text"), keys='["k1", "k2", "k3"]')
    assert answer.status_code == 200
    items = answer.json()["items"]
    assert [one.get("key") or one["error"]["code"] for one in items] == ["k1", "unreadable_image", "unsupported_image"]
    assert answer.json()["added"] == 1
    assert add(writable, ("b", good[:300])).status_code == 400
    assert post(writable, "/items/remove", {"ids": [items[0]["id"]]}).json()["changed"] == 1


def test_metadata_is_updated_and_counted(writable: Server) -> None:
    where = {"id": {"$exists": False}, "label": "imagenet"}
    before = post(writable, "/items/facets", {"fields": ["label", "width"], "where": where, "limit": 2}).json()
    assert before["count"] == 20
    label, width = before["facets"]
    assert label == {
        **{"field": ["label"], "count": 20, "distinct": 1, "values": [{"value": "imagenet", "count": 20}]},
        **{"numbers": None, "texts": ["imagenet", "imagenet"]},
    }
    assert len(width["values"]) <= 2
    assert width["numbers"][0] <= width["values"][0]["value"] <= width["numbers"][1]
    changes = [{"id": 1, "metadata": {"label": "other", "tags": ["a", "b"]}}, {"id": 2, "metadata": {"label": None}}]
    assert post(writable, "/items/update", {"items": changes}).json() == {"items": [{"id": 1}, {"id": 2}], "changed": 2}
    facets = post(writable, "/items/facets", {"fields": ["label", "tags"]}).json()
    counted = {value["value"]: value["count"] for value in facets["facets"][0]["values"]}
    assert sum(counted.values()) == 58
    assert counted["other"] == 1
    assert [value["value"] for value in facets["facets"][1]["values"]] == ["a", "b"]
    every = post(writable, "/items/facets", {}).json()["facets"]
    assert {"height", "label", "path", "tags", "width"} <= {one["field"][0] for one in every}


def test_a_request_that_is_sent_again_is_done_once(writable: Server, photos: list[Path]) -> None:
    body = {"items": [{"image": base64.b64encode(photos[3].read_bytes()).decode(), "key": "once"}]}
    first = post(writable, "/items/add", body, **{"Idempotency-Key": "one"})
    assert first.json()["added"] == 1
    assert post(writable, "/items/add", body, **{"Idempotency-Key": "one"}).json() == first.json()
    other = post(writable, "/items/add", body | {"items": body["items"] * 2}, **{"Idempotency-Key": "one"})
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    gone = {"keys": ["once"]}
    removed = [post(writable, "/items/remove", gone, **{"Idempotency-Key": "two"}) for _ in range(2)]
    assert [one.json()["changed"] for one in removed] == [1, 1]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/items/add", {"items": [{"key": "a"}]}, "items.0: give either image or url"),
        ("/items/add", {"items": [5]}, "items.0: it should be a JSON object"),
        ("/items/facets", {"fields": [5]}, "fields.0: input should be a valid string"),
        ("/items/add", {"items": []}, "items: "),
        ("/items/remove", {}, "the body: give either ids or keys"),
        ("/items/update", {"items": [{"id": 1}]}, "items.0.metadata: field required"),
        ("/items/update", {"items": [{"id": 1, "key": "a", "metadata": {}}]}, "items.0: give either id or key"),
        ("/items/facets", {"limit": 0}, "limit: "),
        ("/items/facets", {"where": {"$oops": 1}}, "where.$oops: there is no operator"),
    ],
)
def test_a_wrong_request_is_refused_at_its_place(path: str, body: Any, message: str, writable: Server) -> None:
    answer = post(writable, path, body)
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith(message)


def test_a_wrong_form_is_refused_and_nothing_of_it_is_done(writable: Server, photos: list[Path]) -> None:
    good = photos[4].read_bytes()
    for fields, message in (
        ({"keys": '["a"]'}, "keys: 1 were given for 2 pictures"),
        ({"keys": "a"}, "keys: this is not JSON"),
        ({"metadata": "[1, 2]"}, "metadata.0: "),
        ({}, "images: several files are called 'x'"),
    ):
        answer = add(writable, ("x", good), ("x", good), **fields)
        assert (answer.status_code, answer.json()["error"]["message"][: len(message)]) == (422, message)
    answer = add(writable, ("x", good), ("y", good), metadata='[{"a": 1e999}, {}]')
    assert answer.json()["items"][0]["error"]["code"] == "invalid_item"
    assert answer.json()["added"] == 1
    assert found(writable, good)[-1:] != ["x"]


def test_without_leave_to_write_nothing_changes(server: Server, photos: list[Path]) -> None:
    answer = add(server, ("x.jpg", photos[0].read_bytes()))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "read_only")
    assert post(server, "/items/remove", {"ids": [1]}).status_code == 403
    assert post(server, "/items/update", {"items": [{"id": 1, "metadata": {}}]}).status_code == 403
    assert "/items/add" not in httpx.get(f"{server.url}/docs.json").json()["paths"]


def test_the_service_merges_by_itself_while_it_answers(catalogue: Path, photos: list[Path], tmp_path: Path) -> None:
    folder = shutil.copytree(catalogue, tmp_path / "copy", ignore=shutil.ignore_patterns("*-wal", "*-shm"))
    with serving(folder, tmp_path / "log", LENS_WRITABLE="1", LENS_MERGE_ITEMS="3", LENS_DEMO="0") as server:
        for n in range(6):
            assert add(server, (f"{n}.jpg", photos[n].read_bytes())).json()["added"] == 1

        def generation() -> int:
            assert found(server, photos[5].read_bytes()) != []
            return int(post(server, "/query", {"queries": [{"id": 1}]}).json()["generation"])

        eventually(lambda: generation() > 1, "nothing was merged", 60)
        assert {f"{n}.jpg" for n in range(6)} <= {
            key for n in range(6) for key in found(server, photos[n].read_bytes())
        }
    assert list(verify_catalogue(folder)) == []


def test_the_catalogue_is_sound_afterwards(writable: Server, folder: Path) -> None:
    described = httpx.get(f"{writable.url}/docs.json").json()["paths"]
    assert {"/items/add", "/items/remove", "/items/update", "/items/facets"} <= described.keys()
    assert list(verify_catalogue(folder)) == []


def test_a_service_whose_catalogue_was_replaced_refuses_changes_and_answers_on(
    folder: Path, photos: list[Path], tmp_path: Path
) -> None:
    mine = tmp_path / "catalogue"
    backup_catalogue(folder, mine)
    picture = photos[0].read_bytes()
    with serving(mine, tmp_path / "log", LENS_WRITABLE="1", LENS_DEMO="0") as server:
        backup_catalogue(mine, tmp_path / "backup")
        restore_catalogue(tmp_path / "backup", mine, overwrite=True)
        item = {"image": base64.b64encode(picture).decode(), "key": "new.jpg"}
        for path, body in (
            ("/items/add", {"items": [item]}),
            ("/items/add?wait=false", {"items": [item]}),
            ("/items/remove", {"ids": [1]}),
            ("/items/update", {"items": [{"id": 1, "metadata": {"a": 1}}]}),
        ):
            answer = post(server, path, body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "catalogue_unavailable"), path
            assert "was replaced by another catalogue" in answer.json()["error"]["message"]
        assert found(server, picture)
