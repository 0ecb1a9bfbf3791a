"""The served process under load, beside the same work in one process: python -m benchmarks.serving [--quick]

The catalogue of the sample photos is served as a user would serve it; the load comes from this process over loopback.
"In process" decodes, embeds and searches the same pictures without HTTP, in batches of 16 and one at a time. Its turns
alternate with the server's.
"""

from __future__ import annotations

import asyncio
import collections
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
import numpy as np

from answering import Query, search_answer
from benchmarks.report import arguments, deliver, table
from index import open_catalogue
from model import build_extractor, open_extractor, read_picture
from pipeline import build_catalogue, find_sources
from tests.serving import ROOT, Server, serving

SAMPLES = ROOT / ".cache" / "samples"
MODEL = "tf_efficientnet_lite0"


async def load(server: Server, blobs: list[bytes], *, connections: int, requests: int, pictures: int) -> dict[str, Any]:
    """Send requests over so many connections at once; what came back."""
    statuses: collections.Counter[int] = collections.Counter()
    batches: collections.Counter[int] = collections.Counter()
    latencies: list[float] = []
    waiting = iter(range(requests))

    async def one_connection(client: httpx.AsyncClient) -> None:
        for number in waiting:
            files = [("images", blobs[(number * pictures + place) % len(blobs)]) for place in range(pictures)]
            begun = time.perf_counter()
            answer = await client.post(f"{server.url}/search", files=files)
            latencies.append(time.perf_counter() - begun)
            statuses[answer.status_code] += 1
            for result in answer.json().get("results", ()):
                batches[result.get("batch_size", 0)] += 1

    async with httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=connections)) as client:
        begun = time.perf_counter()
        await asyncio.gather(*(one_connection(client) for _ in range(connections)))
        seconds = time.perf_counter() - begun
    return {
        "pictures_per_s": requests * pictures / seconds,
        "p50_ms": median(latencies) * 1000,
        "p99_ms": quantiles(latencies, n=100)[98] * 1000,
        "not_2xx": sum(count for status, count in statuses.items() if status // 100 != 2),
        "batch_sizes": dict(sorted(batches.items())),
    }


def in_process(folder: Path, blobs: list[bytes], *, batch: int, pictures: int) -> float:
    """Pictures per second of decode, embed and search in this process."""
    catalogue, extractor = open_catalogue(folder), open_extractor(folder / "extractor")
    look = extractor.card.preprocessing

    def work(part: list[bytes]) -> None:
        vectors = extractor.embed(np.stack([look.to_pixels(read_picture(blob).image) for blob in part]))
        search_answer(catalogue, [Query(vector) for vector in vectors], 10, 128, {})

    work([blobs[0]] * batch)
    begun = time.perf_counter()
    for at in range(0, pictures, batch):
        work([blobs[(at + place) % len(blobs)] for place in range(batch)])
    return pictures / (time.perf_counter() - begun)


def resident_mb(log: Path) -> float:
    """Memory that every process of the server holds, in MB, shared pages counted once (PSS)."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(log.parent).encode() in (process / "environ").read_bytes():
                (line,) = [row for row in (process / "smaps_rollup").read_text().splitlines() if row.startswith("Pss:")]
                total += int(line.split()[1])
        except (OSError, ValueError):
            continue
    return total / 1024


def main() -> None:
    options = arguments(__doc__)
    rounds, requests = (1, 200) if options.quick else (3, 320)
    blobs = [photo.read_bytes() for photo in sorted((SAMPLES / "imagenet").glob("*.jpg"))]
    raw: dict[str, Any] = {"model": MODEL, "rounds": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "catalogue"
        begun = time.perf_counter()
        report = build_catalogue(find_sources([SAMPLES]), folder, build_extractor(MODEL))
        raw["build"] = {"pictures": report.added, "seconds": time.perf_counter() - begun, "stages": report.seconds}
        begun = time.perf_counter()
        with serving(folder, Path(temporary) / "log", BENCHMARK=temporary) as server:
            raw["ready_s"] = time.perf_counter() - begun
            asyncio.run(load(server, blobs, connections=4, requests=100, pictures=1))
            for _ in range(rounds):
                raw["rounds"].append(
                    {
                        "1 connection": asyncio.run(
                            load(server, blobs, connections=1, requests=requests // 8, pictures=1)
                        ),
                        "32 connections": asyncio.run(
                            load(server, blobs, connections=32, requests=requests, pictures=1)
                        ),
                        "32 connections, 16 pictures each": asyncio.run(
                            load(server, blobs, connections=32, requests=max(32, requests // 8), pictures=16)
                        ),
                        "in process": {
                            "one at a time": in_process(folder, blobs, batch=1, pictures=requests // 8),
                            "by 16": in_process(folder, blobs, batch=16, pictures=requests // 2),
                        },
                    }
                )
            raw["resident_mb"] = resident_mb(Path(temporary) / "log")
    shown = table(
        "pictures/s",
        "load",
        "served",
        "in process",
        "served ÷ in process",
        "p50 ms",
        "p99 ms",
        "not 2xx",
        "largest batch",
    )
    for load_name, beside in (
        ("1 connection", "one at a time"),
        ("32 connections", "by 16"),
        ("32 connections, 16 pictures each", "by 16"),
    ):
        served = [one[load_name] for one in raw["rounds"]]
        process = [one["in process"][beside] for one in raw["rounds"]]
        shown.add_row(
            load_name,
            f"{median(one['pictures_per_s'] for one in served):.1f}",
            f"{median(process):.1f}",
            f"{median(a['pictures_per_s'] / b for a, b in zip(served, process, strict=True)):.2f}",
            f"{median(one['p50_ms'] for one in served):.0f}",
            f"{median(one['p99_ms'] for one in served):.0f}",
            str(sum(one["not_2xx"] for one in served)),
            str(max(max(one["batch_sizes"]) for one in served)),
        )
    whole = table("the rest", "what", "measured")
    whole.add_row("start to /readyz, s", f"{raw['ready_s']:.1f}")
    whole.add_row("memory of all processes after the load, MB (PSS)", f"{raw['resident_mb']:.0f}")
    stages = raw["build"]["stages"]
    whole.add_row("build, pictures/s (model loaded)", f"{report.added / raw['build']['seconds']:.1f}")
    whole.add_row("build, share of its seconds that the network ran", f"{stages['embed'] / sum(stages.values()):.2f}")
    deliver("serving", options, [shown, whole], raw)


if __name__ == "__main__":
    main()
