"""HTTP load from a process of its own: python -m benchmarks.load URL --photos DIR --connections 32 --requests 320

Requests are written out beforehand, so that sending them costs next to nothing. No picture is sent twice: a few bytes after
its end make each another file, which decodes to the same pixels. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import collections
import http.client
import itertools
import json
import time
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit

import aiohttp

BOUNDARY = b"a-boundary-of-the-benchmark"
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
JSON = {"Content-Type": "application/json"}
UNIQUE = itertools.count(time.time_ns())


def body(blobs: list[bytes]) -> bytes:
    """A multipart form with the pictures in the field ``images``."""
    head = b'\r\nContent-Disposition: form-data; name="images"; filename="p.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    parts = [b"--" + BOUNDARY + head + blob + str(next(UNIQUE)).encode() + b"\r\n" for blob in blobs]
    return b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"


def json_body(model: str, blobs: list[bytes]) -> bytes:
    """What infinity takes, in the form of OpenAI's embeddings: pictures as data URLs."""
    unique = (base64.b64encode(blob + str(next(UNIQUE)).encode()).decode() for blob in blobs)
    urls = [f"data:image/jpeg;base64,{data}" for data in unique]
    return json.dumps({"model": model, "modality": "image", "input": urls}).encode()


def alone(url: str, bodies: list[bytes], headers: dict[str, str], *, requests: int, pictures: int) -> dict[str, Any]:
    """Send requests one after the other, with as little between them as Python has."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port)
    latencies, statuses = [], []
    for data in bodies:
        begun = time.perf_counter()
        connection.request("POST", where.path, data, headers)
        answer = connection.getresponse()
        answer.read()
        latencies.append(time.perf_counter() - begun)
        statuses.append(answer.status)
    return summary(latencies, sum(latencies), requests * pictures, statuses) | {"batch_sizes": {1: requests}}


def summary(latencies: list[float], seconds: float, pictures: int, statuses: list[int]) -> dict[str, Any]:
    """What the tables are made of."""
    return {
        "pictures_per_s": pictures / seconds,
        "p50_ms": median(latencies) * 1000,
        "p99_ms": quantiles(latencies, n=100)[98] * 1000,
        "not_2xx": sum(status // 100 != 2 for status in statuses),
    }


async def load(
    url: str, bodies: list[bytes], headers: dict[str, str], *, connections: int, requests: int, pictures: int
) -> dict[str, Any]:
    """Send requests over so many connections at once; what came back."""
    waiting = iter(bodies)
    statuses: list[int] = []
    batches: collections.Counter[int] = collections.Counter()
    latencies: list[float] = []

    async def one_connection(session: aiohttp.ClientSession) -> None:
        for data in waiting:
            begun = time.perf_counter()
            async with session.post(url, data=data, headers=headers) as answer:
                text = await answer.read()
            latencies.append(time.perf_counter() - begun)
            statuses.append(answer.status)
            if answer.status == 200 and isinstance(found := json.loads(text), dict):
                batches.update(result.get("batch_size") or 0 for result in found.get("results", ()))

    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(120)) as session:
        begun = time.perf_counter()
        await asyncio.gather(*(one_connection(session) for _ in range(connections)))
        seconds = time.perf_counter() - begun
    found = summary(latencies, seconds, requests * pictures, statuses)
    return found | {"batch_sizes": dict(sorted(batches.items()))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--photos", type=Path, required=True)
    for name, default in (("connections", 32), ("requests", 320), ("pictures", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json-model", metavar="NAME", help="send JSON with data URLs, as infinity takes it")
    options = parser.parse_args()
    blobs = [photo.read_bytes() for photo in sorted(options.photos.glob("*.jpg"))]
    shape = {name: getattr(options, name) for name in ("connections", "requests", "pictures")}
    write = partial(json_body, options.json_model) if options.json_model else body
    headers = JSON if options.json_model else HEADERS
    turns = itertools.cycle(blobs)
    bodies = [write([next(turns) for _ in range(options.pictures)]) for _ in range(options.requests)]
    if shape.pop("connections") == 1:
        print(json.dumps(alone(options.url, bodies, headers, **shape)))
    else:
        print(json.dumps(asyncio.run(load(options.url, bodies, headers, connections=options.connections, **shape))))


if __name__ == "__main__":
    main()
