"""``/embed`` next to infinity-emb, by HTTP: python -m benchmarks.embed_service [--quick]

Both serve CLIP's ViT-B/32 with random weights: the speed is that of any weights. infinity runs in an environment of its own
(``make infinity``), with torch as it starts by default, and gets pictures as data URLs, the only form that it takes without
fetching them. The pictures are 500 × 375 JPEGs, none is sent twice, and the loads take turns.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from benchmarks.catalogues import photos_to_send
from benchmarks.load import HEADERS, JSON, body, json_body
from benchmarks.pictures import CACHE
from benchmarks.report import arguments, deliver, table
from benchmarks.service import memory_mb
from benchmarks.texts import make_catalogue
from index.catalogue.files import FORMAT_VERSION
from tests.serving import ROOT, Server, begin, end

MODEL, ITEMS = "ViT-B-32", 1000
INFINITY = CACHE / "infinity"  # its environment, and in it the model
LOADS = {"32 connections": (32, 1.0), "1 connection": (1, 0.25)}
PATIENCE = 120


def clip_catalogue() -> Path:
    """A catalogue with the extractor of the model, kept in .cache/bench."""
    folder = CACHE / "bench" / f"catalogue-{MODEL}-{ITEMS}-v{FORMAT_VERSION}"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            make_catalogue(Path(temporary), MODEL, ITEMS, "auto").rename(folder)
    return folder


@contextmanager
def served(command: list[str], first: dict[str, Any], **environment: str) -> Iterator[tuple[Server, float]]:
    """Run a server; it, and the seconds until it answered ``first``, what httpx is to send, with 200."""
    with tempfile.TemporaryDirectory() as temporary:
        begun = time.perf_counter()
        server, process = begin(command, Path(temporary) / "log", ROOT, **environment)
        try:
            yield server, _until_answered(server, process, first, begun)
        finally:
            end(process)


def _until_answered(server: Server, process: Any, first: dict[str, Any], begun: float) -> float:
    while time.perf_counter() - begun < PATIENCE and process.poll() is None:
        try:
            if httpx.post(f"{server.url}/{first['route']}", timeout=60, **first["sent"]).status_code == 200:
                return time.perf_counter() - begun
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    raise RuntimeError(f"no answer:\n{server.log.read_text()[-2000:]}")


def send(server: Server, route: str, load: str, requests: int, *more: str) -> dict[str, Any]:
    """One load on a server, from another process."""
    connections, share = LOADS[load]
    count = max(connections, int(requests * share))
    command = [sys.executable, "-m", "benchmarks.load", f"{server.url}/{route}", "--photos", str(photos_to_send())]
    numbers = ["--connections", str(connections), "--requests", str(count), *more]
    done = subprocess.run([*command, *numbers], cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def measure(rounds: int, requests: int) -> dict[str, Any]:
    """Loads in turn on both, the seconds of a start, and memory."""
    photo = sorted(photos_to_send().glob("*.jpg"))[0].read_bytes()
    ours = {"route": "embed", "sent": {"content": body([photo]), "headers": HEADERS}}
    theirs = {"route": "embeddings", "sent": {"content": json_body("model", [photo]), "headers": JSON}}
    commands: dict[str, tuple[list[str], dict[str, Any]]] = {
        "ours": ([sys.executable, "-m", "bentoml", "serve", "service:ImageSearch"], ours),
        "infinity": ([str(INFINITY / "bin" / "infinity_emb"), "v2", "--model-id", str(INFINITY / "model")], theirs),
    }
    raw: dict[str, Any] = {"start": {}, "memory": {}, "ours": [], "infinity": []}
    more: dict[str, tuple[str, ...]] = {"ours": (), "infinity": ("--json-model", "model")}
    dice = random.Random(0)
    with ExitStack() as stack:
        servers = {}
        for who, (command, first) in commands.items():
            with served(command, first, LENS_CATALOGUE=str(clip_catalogue())):
                pass  # its files into the cache
            running = served(command, first, LENS_CATALOGUE=str(clip_catalogue()), LENS_MAX_QUEUE_SECONDS="60")
            servers[who], raw["start"][who] = stack.enter_context(running)
        for _ in range(rounds + 1):  # the first warms up
            turn: dict[str, dict[str, Any]] = {who: {} for who in servers}
            for load in LOADS:
                for who in dice.sample(list(servers), len(servers)):
                    turn[who][load] = send(servers[who], commands[who][1]["route"], load, requests, *more[who])
            for who, found in turn.items():
                raw[who].append(found)
        for who, server in servers.items():
            raw[who].pop(0)
            raw["memory"][who] = memory_mb(server)
    return raw


def main() -> None:
    """Print the table."""
    options = arguments(__doc__)
    raw = measure(*((1, 32) if options.quick else (5, 320)))
    made = table(f"/embed, {MODEL}", "what", "ours", "infinity", "ratio")

    def row(words: str, load: str, what: str, form: str, *, inverse: bool = False) -> None:
        ours, theirs = ([one[load][what] for one in raw[who]] for who in ("ours", "infinity"))
        pairs = zip(theirs, ours, strict=True) if inverse else zip(ours, theirs, strict=True)
        made.add_row(
            words, format(median(ours), form), format(median(theirs), form), f"{median(a / b for a, b in pairs):.2f}"
        )

    for load in LOADS:
        row(f"{load}: pictures/s", load, "pictures_per_s", ".1f")
        row(f"{load}: p50, ms", load, "p50_ms", ".0f", inverse=True)
        row(f"{load}: p99, ms", load, "p99_ms", ".0f", inverse=True)
    for words, facts in (
        ("start to the first answer, s", raw["start"]),
        ("resident, MB", {who: one["rss"] for who, one in raw["memory"].items()}),
    ):
        made.add_row(
            words, f"{facts['ours']:.1f}", f"{facts['infinity']:.1f}", f"{facts['infinity'] / facts['ours']:.2f}"
        )
    made.add_row(
        "answers that were not 2xx",
        *(str(sum(load["not_2xx"] for one in raw[who] for load in one.values())) for who in ("ours", "infinity")),
        "",
    )
    deliver("embed_service", options, [made], raw)


if __name__ == "__main__":
    main()
