"""A catalogue is changed and merged under thirty-two connections that query it: each answer is of what was written before."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from index import Entry, LiveWriter, merge_catalogue, open_catalogue, verify_catalogue
from tests.serving import ROOT, serving

CONNECTIONS = 32
SWITCHES = 24  # of which each eighth is a rollback
FILLERS = 2000  # items, so that a merge takes seconds
SETTINGS = {"LENS_WRITABLE": "1", "LENS_WORKERS": "2", "LENS_MAX_QUEUE_SECONDS": "60", "LENS_DEMO": "0"}


def fill(folder: Path) -> None:
    """Add items that are no pictures."""
    with closing(open_catalogue(folder)) as catalogue, closing(LiveWriter(folder)) as writer:
        rows = np.random.default_rng(15).standard_normal((FILLERS, catalogue.info.dim)).astype(np.float32)
        for at in range(0, FILLERS, 500):
            some = [Entry(f"filler/{n}", rows[n], {}, f"{n:064x}", b"\xff\xd8", n, n) for n in range(at, at + 500)]
            writer.add(some, catalogue.info.fingerprint)
    merge_catalogue(folder)


def altered(photo: Path, number: int) -> str:
    """A picture that only one connection has: a part of a photo, by base64."""
    with Image.open(photo) as picture:
        width, height = picture.size
        part = picture.convert("RGB").crop((number % 8 * 4, number // 8 * 4, width - 40, height - 30))
    buffer = io.BytesIO()
    part.save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode()


class Connection:
    """One of those who query: it has a picture and a key of its own, so that it knows what must be found."""

    def __init__(self, url: str, photo: Path, number: int) -> None:
        self.client = httpx.Client(base_url=url, timeout=120)
        self.picture = altered(photo, number)
        self.key = f"own/{number}"
        self.there = False
        self.generation = 0
        self.wrong: list[Any] = []
        self.answers = 0

    def post(self, path: str, body: Any) -> Any:
        answer = self.client.post(path, json=body)
        if answer.status_code != 200:
            self.wrong.append((path, answer.status_code, answer.text[:300]))
            return None
        return answer.json()

    def change(self) -> None:
        if self.there:
            done = self.post("/items/remove", {"keys": [self.key]})
        else:
            done = self.post("/items/add", {"items": [{"image": self.picture, "key": self.key}]})
        self.there = not self.there if done else self.there

    def ask(self) -> None:
        body = self.post("/query", {"queries": [{"image": self.picture}], "k": 5})
        if body is None:
            return
        hits = body["results"][0]["hits"]
        keys, scores = [hit["key"] for hit in hits], [hit["score"] for hit in hits]
        found = self.key in keys and scores[keys.index(self.key)] > 0.999
        if found != self.there or len(set(keys)) != 5 or scores != sorted(scores, reverse=True):
            self.wrong.append((self.key, self.there, list(zip(keys, scores, strict=True))))
        if body["generation"] < self.generation:
            self.wrong.append((self.key, self.generation, body["generation"]))
        self.generation = body["generation"]
        self.answers += 1

    def run(self, done: threading.Event) -> None:
        with self.client:
            while not done.is_set():
                self.change()
                for _ in range(8):
                    self.ask()


def test_no_answer_fails_or_is_wrong_while_generations_switch(
    catalogue: Path, photos: list[Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(catalogue, tmp_path / "copy", ignore=shutil.ignore_patterns("*-wal", "*-shm")))
    fill(folder)
    with serving(folder, tmp_path / "log", **SETTINGS) as server:
        connections = [Connection(server.url, photos[n], n) for n in range(CONNECTIONS)]
        done = threading.Event()
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            asking = [pool.submit(one.run, done) for one in connections]
            try:
                for n in range(SWITCHES):
                    verb = "rollback" if n % 8 == 7 else "compact"
                    command = [sys.executable, "cli.py", verb, str(folder)]
                    switched = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
                    assert switched.returncode == 0, switched.stderr
            finally:
                done.set()
            for one in asking:
                one.result()
        wrong = [fault for one in connections for fault in one.wrong]
        print(
            json.dumps({"switches": SWITCHES, "answers": sum(one.answers for one in connections), "wrong": len(wrong)})
        )
        assert wrong == [], wrong[:3]
        assert max(one.generation for one in connections) >= SWITCHES
        assert min(one.answers for one in connections) > SWITCHES
    assert list(verify_catalogue(folder)) == []
