"""The model is changed under a service that answers all the while, and changed back."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from benchmarks.random_weights import write_random_weights
from tests.commands.test_cli import run
from tests.server.test_items import add, post
from tests.serving import Server, eventually, serving

NEXT = "resnet18"
BEFORE = "tf_efficientnet_lite0"


def test_no_query_fails_while_the_model_changes_and_every_worker_follows(
    catalogue: Path, photos: list[Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(catalogue, tmp_path / "copy", ignore=shutil.ignore_patterns("*-wal", "*-shm")))
    weights = write_random_weights(NEXT, photos, tmp_path / "weights.safetensors")
    settings = {"LENS_WRITABLE": "1", "LENS_WORKERS": "2", "LENS_MAX_QUEUE_SECONDS": "60", "LENS_DEMO": "0"}
    with serving(folder, tmp_path / "log", **settings) as server:
        done, wrong, models = threading.Event(), list[Any](), list[str]()

        def ask(number: int) -> None:
            place = number
            while not done.is_set():
                place = (place + 7) % len(photos)
                answer = server.search(photos[place].read_bytes(), k=1)
                body = answer.json()
                hits = body["results"][0]["hits"] if answer.status_code == 200 else []
                if not hits or hits[0]["score"] < 0.99 or not is_of(photos[place], hits[0]["key"]):
                    wrong.append((answer.status_code, photos[place].name, body))
                else:
                    models.append(body["model"])

        with ThreadPoolExecutor(4) as pool:
            try:
                asking = [pool.submit(ask, number) for number in range(4)]
                assert run("migrate", folder, "--model", NEXT, "--weights", weights).exit_code == 0
                eventually(lambda: has_only(server, NEXT), "not every worker has the new model")
                answer = add(server, ("new.jpg", photos[0].read_bytes()))
                assert answer.status_code == 200, answer.text
                assert run("rollback", folder).exit_code == 0
                answer = add(server, ("again.jpg", photos[1].read_bytes()))  # at once, perhaps still by the other model
                assert answer.status_code == 200, answer.text
                eventually(lambda: has_only(server, BEFORE), "not every worker has the model before")
            finally:
                done.set()
            for one in asking:
                one.result()
        assert wrong == []
        assert {BEFORE, NEXT} == set(models)
        assert models[0] == models[-1] == BEFORE
        assert post(server, "/items/get", {"keys": ["new.jpg", "again.jpg"]}).status_code == 200
        assert "new.jpg" in {hit["key"] for hit in hits_of(server, photos[0])}
        metrics = httpx.get(f"{server.url}/metrics", timeout=10).text
        assert "bentolens_items 61.0" in metrics


def is_of(photo: Path, key: str) -> bool:
    return photo.as_posix().endswith(key) or key in ("new.jpg", "again.jpg")


def hits_of(server: Server, photo: Path) -> list[dict[str, Any]]:
    return list(server.search(photo.read_bytes(), k=2).json()["results"][0]["hits"])


def has_only(server: Server, model: str) -> bool:
    """Whether many new connections, to all workers, are answered by a model."""
    some = [post(server, "/query", {"queries": [{"id": 1}]}).json()["model"] for _ in range(12)]
    return set(some) == {model}
