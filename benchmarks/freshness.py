"""How long after an add every worker finds the item: python -m benchmarks.freshness [--quick]

Four workers, each asked on a connection of its own: a picture is added, and once that is answered all four are asked for it
at once, again and again until each has it: with another item for a query, which needs no model, or with its picture, which
each embeds. A filter allows the new item alone. The model is the sample's, and no picture comes twice.
"""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from PIL import Image

from benchmarks.catalogues import SAMPLES
from benchmarks.report import arguments, deliver, table
from tests.serving import ROOT, Server, serving

MODEL = "tf_efficientnet_lite0"
WORKERS = 4
WARM_UP = 5
BY_ITEM, BY_PICTURE = KINDS = "by another item", "by its picture"
SETTINGS = {"LENS_WRITABLE": "1", "LENS_WORKERS": str(WORKERS), "LENS_MAX_QUEUE_SECONDS": "60", "LENS_DEMO": "0"}


def pictures(count: int) -> list[str]:
    """Noise in blocks, as JPEG by base64: no two alike."""
    found = []
    for number in range(count):
        blocks = np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(blocks).resize((320, 240), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
        found.append(base64.b64encode(buffer.getvalue()).decode())
    return found


def built(folder: Path) -> Path:
    """A catalogue of the sample photos."""
    command = [sys.executable, "cli.py", "build", str(SAMPLES), "--out", str(folder), "--model", MODEL]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def connections(server: Server) -> list[httpx.Client]:
    """A connection to each of the workers."""
    workers = {worker.pid for worker in server.workers("ImageSearch")}
    assert len(workers) == WORKERS
    found: dict[int, httpx.Client] = {}
    while len(found) < WORKERS:
        client = httpx.Client(base_url=server.url, timeout=60)
        client.get("/livez").raise_for_status()
        for pid in workers - found.keys():
            if any(one.raddr and one.raddr.port == local_port(client) for one in psutil.Process(pid).net_connections()):
                found[pid] = client
                break
        else:
            client.close()
    return list(found.values())


def local_port(client: httpx.Client) -> int:
    """The port that a client's only connection comes from."""
    (connection,) = client._transport._pool.connections  # type: ignore[attr-defined]
    stream = connection._connection._network_stream
    return int(stream.get_extra_info("client_addr")[1])


def until_found(client: httpx.Client, query: dict[str, Any], key: str) -> tuple[float, int]:
    """When a worker has found an item, and how many of its answers did not have it."""
    missed = 0
    while True:
        answer = client.post("/query", json=query).raise_for_status().json()
        if [hit["key"] for hit in answer["results"][0]["hits"]] == [key]:
            return time.perf_counter(), missed
        missed += 1


def measure(count: int) -> dict[str, Any]:
    """Seconds from an add's request, and from its answer, until all workers have found the item, by either query."""
    some = pictures(2 * (count + WARM_UP))
    found: dict[str, Any] = {kind: {"sent": [], "answered": [], "missed": 0} for kind in KINDS}
    with (
        tempfile.TemporaryDirectory() as temporary,
        serving(built(Path(temporary) / "catalogue"), Path(temporary) / "log", **SETTINGS) as server,
        ThreadPoolExecutor(WORKERS) as pool,
    ):
        clients = connections(server)
        for number, picture in enumerate(some):
            key, kind = f"new/{number}", KINDS[number % 2]
            example = {"image": picture} if kind == BY_PICTURE else {"id": 1}
            query = {"queries": [example], "k": 1, "where": {"path": key}}
            sent = time.perf_counter()
            body = {"items": [{"image": picture, "key": key}]}
            clients[number % WORKERS].post("/items/add", json=body).raise_for_status()
            answered = time.perf_counter()
            ends = [one.result() for one in [pool.submit(until_found, client, query, key) for client in clients]]
            last = max(end for end, _ in ends)
            if number >= 2 * WARM_UP:
                found[kind]["sent"].append(last - sent)
                found[kind]["answered"].append(last - answered)
            found[kind]["missed"] += sum(without for _, without in ends)
        for client in clients:
            client.close()
    return found


def main() -> None:
    options = arguments(__doc__)
    found = measure(20 if options.quick else 300)
    shown = table(f"an item is found by each of {WORKERS} workers", "ms", "p50", "p99", "answers without it")
    for kind, one in found.items():
        for since in ("answered", "sent"):
            parts = (f"{np.percentile(one[since], part) * 1000:.0f}" for part in (50, 99))
            shown.add_row(f"{kind}, since the add was {since}", *parts, str(one["missed"]))
    deliver("freshness", options, [shown], found)


if __name__ == "__main__":
    main()
