"""Pictures that are added later, by a job: it says how far it is, and goes on after a restart."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from docs.bentolens_client import Added, BentoLens, Refused
from index import verify_catalogue
from tests.server.test_items import found, post
from tests.serving import Server, eventually, serving

SETTINGS = {"LENS_WRITABLE": "1", "LENS_WORKERS": "2", "LENS_MAX_QUEUE_SECONDS": "60", "LENS_DEMO": "0"}


def copied(catalogue: Path, target: Path) -> Path:
    return Path(shutil.copytree(catalogue, target, ignore=shutil.ignore_patterns("*-wal", "*-shm")))


@pytest.fixture(scope="module")
def writable(catalogue: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("jobs")
    with serving(copied(catalogue, place / "catalogue"), place / "log", **SETTINGS) as server:
        yield server


def job(server: Server, name: str) -> dict[str, Any]:
    answer = post(server, "/jobs/get", {"id": name})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def until(server: Server, name: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """A job, once something holds of it."""
    eventually(lambda: holds(job(server, name)), "the job does not get there")
    return job(server, name)


def later(server: Server, items: list[dict[str, Any]], **headers: str) -> httpx.Response:
    return post(server, "/items/add?wait=false", {"items": items}, **headers)


def test_a_job_adds_what_it_can_and_names_what_it_cannot(writable: Server, photos: list[Path]) -> None:
    pictures = [base64.b64encode(photo.read_bytes()).decode() for photo in photos[:20]]
    items = [{"image": one, "key": f"job/{place}", "metadata": {"stars": place}} for place, one in enumerate(pictures)]
    items += [
        {"image": pictures[0][:400], "key": "job/cut"},
        {"image": "no base64!", "key": "job/text"},
        {"image": pictures[0], "key": "bad\u0000key"},
        {"url": "https://example.com/a.jpg"},
    ]
    answer = later(writable, items, **{"Idempotency-Key": "job"})
    assert (answer.status_code, answer.json()["items"], answer.json()["added"]) == (202, [], 0)
    name = answer.json()["job"]
    assert later(writable, items, **{"Idempotency-Key": "job"}).json()["job"] == name
    done = until(writable, name, lambda one: one["state"] == "done")
    assert (done["total"], done["added"], done["failed"]) == (24, 20, 4)
    assert [one["key"] for one in done["items"][:20]] == [f"job/{place}" for place in range(20)]
    assert [one["error"]["code"] for one in done["items"][20:]] == [
        *("unreadable_image", "bad_request", "invalid_item", "url_refused")
    ]
    assert found(writable, photos[7].read_bytes(), {"stars": 7}) == ["job/7"]
    assert post(writable, "/jobs/get", {"id": "none"}).json()["error"]["code"] == "job_not_found"
    assert post(writable, "/items/add?wait=maybe", {"items": items[:1]}).status_code == 422
    keys = {"keys": [f"job/{place}" for place in range(20)]}
    assert post(writable, "/items/remove", keys).json()["changed"] == 20


def test_a_job_goes_on_after_a_restart_and_adds_nothing_twice(
    catalogue: Path, photos: list[Path], tmp_path: Path
) -> None:
    folder = copied(catalogue, tmp_path / "copy")
    files = [("images", (f"{place}.jpg", photos[place % 59].read_bytes())) for place in range(100)]
    with serving(folder, tmp_path / "log", **SETTINGS) as server:
        answer = httpx.post(f"{server.url}/items/add?wait=false", files=files, timeout=60)
        name = answer.json()["job"]
        begun = until(server, name, lambda one: one["added"] > 0)
        for process in (psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)):
            process.kill()
    assert begun["added"] < 100
    with serving(folder, tmp_path / "log", **SETTINGS) as server:
        kept = job(server, name)
        assert kept["added"] >= begun["added"]
        done = until(server, name, lambda one: one["state"] == "done")
        assert (done["added"], done["failed"]) == (100, 0)
        assert all(one["replaced"] is None for one in done["items"])
        assert done["items"][: kept["added"]] == kept["items"][: kept["added"]]
    assert list(verify_catalogue(folder)) == []


def test_the_client_of_the_docs_changes_a_catalogue(writable: Server, photos: list[Path]) -> None:
    with BentoLens(writable.url) as lens:
        added, bad = lens.add({"c/1": photos[1], "c/2": b"text"}, {"c/1": {"stars": 4}})
        assert isinstance(added, Added)
        assert isinstance(bad, Refused)
        assert lens.update({"c/1": {"stars": 5}}) == [added.id]
        assert found(writable, photos[1].read_bytes(), {"stars": 5}) == ["c/1"]
        name = lens.add_later({"c/3": photos[3]})
        eventually(lambda: lens.job(name).state == "done", "the job does not end")
        assert [one.key for one in lens.job(name).items if isinstance(one, Added)] == ["c/3"]
        gone, missing = lens.remove(["c/1", "none"])
        assert gone == added.id
        assert isinstance(missing, Refused)
        assert isinstance(lens.remove(["c/3"])[0], int)
