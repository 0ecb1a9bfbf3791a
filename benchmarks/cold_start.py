"""From the start of the process to the first correct answer: python -m benchmarks.cold_start [--quick]

Ours and the naive service in turn, ResNet50 over 10,000 × 2048; then a small network over an index of 10,000 and one of a
million, for what the index adds. The file cache is warm. A request is sent every 10 ms from the start on; the answer must
be the one that the same work gives in process.
"""

from __future__ import annotations

import http.client
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.catalogues import MODEL, catalogue_over, photos_to_send, weights_of
from benchmarks.data import Case
from benchmarks.load import HEADERS, body
from benchmarks.report import arguments, deliver, ratio, table
from index import open_catalogue
from model import open_engine, read_picture
from tests.serving import ROOT, begin, end

SMALL_MODEL = "xcit_nano_12_p16_224"  # 128-d
PATIENCE = 60


def served(target: str) -> list[str]:
    """BentoML's command for a service of this checkout."""
    return [sys.executable, "-m", "bentoml", "serve", target]


def start(command: list[str], environment: dict[str, str], photo: bytes) -> tuple[float, list[int]]:
    """Start what serves, ask until it answers, end it: the seconds that took, and the ids it found."""
    sent = body([photo])
    with tempfile.TemporaryDirectory() as temporary:
        begun = time.perf_counter()
        server, process = begin(command, Path(temporary) / "log", ROOT, **environment)
        try:
            while time.perf_counter() - begun < PATIENCE:
                try:
                    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=PATIENCE)
                    connection.request("POST", "/search", sent, HEADERS)
                    answer = connection.getresponse()
                    text = answer.read()
                    if answer.status == 200:
                        return time.perf_counter() - begun, found(json.loads(text))
                except OSError:
                    pass
                time.sleep(0.01)
            raise RuntimeError(f"{command} gave no answer in {PATIENCE} s")
        finally:
            end(process)


def found(answer: Any) -> list[int]:
    """The ids in an answer of either service."""
    if isinstance(answer, list):
        return list(answer[0]["ids"])
    return [hit["id"] for hit in answer["results"][0]["hits"]] if "results" in answer else list(answer["ids"])


def expected(folder: Path, photo: bytes) -> list[int]:
    """What the same work gives in process."""
    engine, catalogue = open_engine(folder / "extractor"), open_catalogue(folder)
    look = engine.card.preprocessing
    vectors = engine.embed(look.to_pixels(read_picture(photo, enough=look.enough).image)[None])
    return [hit.item.id for hit in catalogue.search(vectors, 10)[0]]


def main() -> None:
    options = arguments(__doc__)
    rounds = 1 if options.quick else 7
    photo = sorted(photos_to_send().glob("*.jpg"))[0].read_bytes()
    count = 1000 if options.quick else 10_000
    small, large = Case(count, 128), Case(count * (10 if options.quick else 100), 128)
    folders = {
        "ours": catalogue_over(Case(count, 2048)),
        f"ours, {SMALL_MODEL}, {count:,}": catalogue_over(small, SMALL_MODEL),
        f"ours, {SMALL_MODEL}, {large.count:,}": catalogue_over(large, SMALL_MODEL),
    }
    base = folders["ours"] / open_catalogue(folders["ours"]).info.base
    naive = {"NAIVE_MODEL": MODEL, "NAIVE_WEIGHTS": str(weights_of(MODEL)), "NAIVE_INDEX": str(base)}
    services = {
        name: (served("service:ImageSearch"), {"LENS_CATALOGUE": str(folder)}) for name, folder in folders.items()
    }
    services["naive"] = (served("benchmarks.baselines.naive_service:NaiveSearch"), naive)
    wanted = {name: expected(folder, photo) for name, folder in folders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in services}
    for command, environment in () if options.quick else services.values():
        start(command, environment, photo)  # files into the cache
    dice = random.Random(0)
    for _ in range(rounds):
        for name in dice.sample(list(services), len(services)):
            took, ids = start(*services[name], photo)
            if name in wanted:
                assert ids == wanted[name], f"{name}: {ids} in place of {wanted[name]}"
            seconds[name].append(took)
    shown = table("seconds to the first correct answer", "service", "median", "least", "most", "÷ naive")
    for name, all_of in seconds.items():
        share = f"{ratio(all_of, seconds['naive']):.2f}"
        shown.add_row(name, f"{median(all_of):.2f}", f"{min(all_of):.2f}", f"{max(all_of):.2f}", share)
    few, many = (all_of for name, all_of in seconds.items() if SMALL_MODEL in name)
    added = median(b - a for a, b in zip(few, many, strict=True))
    shown.add_row(f"what {large.count:,} add to {count:,}", f"{added:.2f}", "", "", "")
    deliver("cold_start", options, [shown], {"seconds": seconds})


if __name__ == "__main__":
    main()
