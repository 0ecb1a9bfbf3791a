"""The served process under load, next to the same work in one process and the naive service.

    python -m benchmarks.service [--quick]

ResNet50 with (random) weights from a file, an index of 10,000 × 2048, 500 × 375 JPEGs, no picture twice. Each service is
started as a user would; the load comes from a process of its own over loopback. "In process" decodes on all cores while
it embeds, and searches, without HTTP. All take turns, each in another order.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np

from benchmarks.catalogues import MODEL, catalogue_over, photos_to_send, weights_of
from benchmarks.data import Case
from benchmarks.report import arguments, deliver, table
from index import open_catalogue
from model import open_engine, read_picture
from search import Found, FoundHit, SearchResult
from server.api.schemas import search_answer
from tests.serving import ROOT, Server, running, serving

# connections, pictures in a request, and the share of the requests that are sent
LOADS = {"1 connection": (1, 1, 0.25), "32 connections": (32, 1, 1.0), "32 connections, 16 each": (32, 16, 0.25)}
ALONE = "1 connection"


@contextmanager
def naive(folder: Path) -> Iterator[Server]:
    """The naive service, over the same weights and the same index file."""
    environment = {
        "NAIVE_MODEL": MODEL,
        "NAIVE_WEIGHTS": str(weights_of(MODEL)),
        "NAIVE_INDEX": str(folder / open_catalogue(folder).info.base),
    }
    command = [sys.executable, "-m", "bentoml", "serve", "benchmarks.baselines.naive_service:NaiveSearch"]
    with (
        tempfile.TemporaryDirectory() as temporary,
        running(command, Path(temporary) / "log", ROOT, **environment) as server,
    ):
        yield server


def send(server: Server, name: str, requests: int) -> dict[str, Any]:
    """One load on a server, from another process."""
    connections, pictures, share = LOADS[name]
    count = max(connections, int(requests * share))
    command = [sys.executable, "-m", "benchmarks.load", f"{server.url}/search", "--photos", str(photos_to_send())]
    numbers = ["--connections", connections, "--requests", count, "--pictures", pictures]
    done = subprocess.run([*command, *map(str, numbers)], cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


class InProcess:
    """The same work without HTTP."""

    def __init__(self, folder: Path) -> None:
        self._catalogue = open_catalogue(folder)
        self._engine = open_engine(folder / "extractor")
        self._pool = ThreadPoolExecutor()
        self._blobs = [photo.read_bytes() for photo in sorted(photos_to_send().glob("*.jpg"))]

    def run(self, pictures: int, batch: int) -> dict[str, Any]:
        """Pictures per second; with a batch of one, one after the other, and milliseconds for each."""
        took = []
        begun = time.perf_counter()
        if batch == 1:
            for place in range(pictures):
                first = time.perf_counter()
                self._answer([self._pixels(place)])
                took.append(time.perf_counter() - first)
        else:
            ready = self._decode(0, batch)
            for at in range(0, pictures, batch):
                pixels = [one.result() for one in ready]
                ready = self._decode(at + batch, batch)  # the next are decoded while these are embedded
                self._answer(pixels)
        seconds = time.perf_counter() - begun
        return {"pictures_per_s": pictures / seconds, "p50_ms": median(took) * 1000 if took else None}

    def _decode(self, at: int, count: int) -> list[Any]:
        return [self._pool.submit(self._pixels, place) for place in range(at, at + count)]

    def _pixels(self, place: int) -> np.ndarray:
        look = self._engine.card.preprocessing
        return look.to_pixels(read_picture(self._blobs[place % len(self._blobs)], enough=look.enough).image)

    def _answer(self, pixels: list[np.ndarray]) -> None:
        hits = self._catalogue.search(self._engine.embed(np.stack(pixels)), 10, ef=128)
        search_answer(
            SearchResult([Found([FoundHit(one.item, one.score) for one in some], None) for some in hits], 1, MODEL, {})
        )


def memory_mb(server: Server) -> dict[str, float]:
    """Memory of all processes of a server: resident (RSS, summed) and proportional (PSS, shared pages once)."""
    import psutil

    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    facts = [process.memory_full_info() for process in family]
    return {"rss": sum(one.rss for one in facts) / 2**20, "pss": sum(one.pss for one in facts) / 2**20}


def measure(folder: Path, rounds: int, requests: int) -> dict[str, Any]:
    """Loads in turn on ours and the naive service, and the same work in process."""
    raw: dict[str, Any] = {"ours": [], "naive": [], "in process": []}
    dice = random.Random(0)
    inside = InProcess(folder)
    with ExitStack() as stack, tempfile.TemporaryDirectory() as temporary:
        servers = {"ours": stack.enter_context(serving(folder, Path(temporary) / "log", LENS_MAX_QUEUE_SECONDS="60"))}
        servers["naive"] = stack.enter_context(naive(folder))
        for server in servers.values():
            for name in LOADS:
                if server is servers["ours"] or "each" not in name:
                    send(server, name, 32)
        inside.run(64, 16)
        time.sleep(2)
        for _ in range(rounds):
            turn: dict[str, dict[str, Any]] = {"ours": {}, "naive": {}, "in process": {}}
            for name in dice.sample(list(LOADS), len(LOADS)):
                for who in dice.sample(list(turn), len(turn)):
                    if who == "in process":
                        turn[who][name] = inside.run(
                            requests // (4 if name == ALONE else 1), 1 if name == ALONE else 16
                        )
                    elif who == "ours":
                        turn[who][name] = send(servers[who], name, requests)
                    elif "each" not in name:  # its route takes one picture
                        turn[who][name] = send(servers[who], name, requests // 4)
            for who, found in turn.items():
                raw[who].append(found)
        raw["memory"] = {who: memory_mb(server) for who, server in servers.items()}
        raw["metrics"] = [
            line
            for line in httpx.get(f"{servers['ours'].url}/metrics").text.splitlines()
            if "bentolens_pictures" in line
        ]
    return raw


def main() -> None:
    options = arguments(__doc__)
    rounds, requests = (1, 64) if options.quick else (3, 480)
    raw = measure(catalogue_over(Case(1000 if options.quick else 10_000, 2048)), rounds, requests)
    shown = table(
        "pictures/s",
        "load",
        "served",
        "in process",
        "naive",
        "÷ in process",
        "÷ naive",
        "p50 ms",
        "p99 ms",
        "naive's p99",
    )

    def middle(who: str, name: str, what: str) -> float:
        return float(median(one[name][what] for one in raw[who]))

    def against(who: str, name: str) -> float:
        pairs = zip(raw["ours"], raw[who], strict=True)
        return float(median(a[name]["pictures_per_s"] / b[name]["pictures_per_s"] for a, b in pairs))

    for name in LOADS:
        compared = name in raw["naive"][0]
        shown.add_row(
            name,
            f"{middle('ours', name, 'pictures_per_s'):.1f}",
            f"{middle('in process', name, 'pictures_per_s'):.1f}",
            f"{middle('naive', name, 'pictures_per_s'):.1f}" if compared else "",
            f"{against('in process', name):.2f}",
            f"{against('naive', name):.2f}" if compared else "",
            f"{middle('ours', name, 'p50_ms'):.1f}",
            f"{middle('ours', name, 'p99_ms'):.1f}",
            f"{middle('naive', name, 'p99_ms'):.0f}" if compared else "",
        )
    rest = table("the rest", "what", "measured")
    over = median(a[ALONE]["p50_ms"] - b[ALONE]["p50_ms"] for a, b in zip(raw["ours"], raw["in process"], strict=True))
    rest.add_row("p50 at one connection, more than in process, ms", f"{over:.1f}")
    rest.add_row(
        "answers that were not 2xx, ours", str(sum(load["not_2xx"] for one in raw["ours"] for load in one.values()))
    )
    rest.add_row("the same, naive", str(sum(load["not_2xx"] for one in raw["naive"] for load in one.values())))
    ours, theirs = raw["memory"]["ours"], raw["memory"]["naive"]
    for kind in ("rss", "pss"):
        rest.add_row(f"memory of all processes ({kind}), MB", f"{ours[kind]:.0f}")
        rest.add_row("   ÷ naive", f"{ours[kind] / theirs[kind]:.2f}")
    deliver("service", options, [shown, rest], raw)


if __name__ == "__main__":
    main()
