"""HTTP load from a process of its own: python -m benchmarks.load URL --photos DIR --connections 32 --requests 320

Requests are written out beforehand, so that sending them costs next to nothing. No picture is sent twice: a few bytes after
its end make each another file, which decodes to the same pixels. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import itertools
import json
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import aiohttp

BOUNDARY = b"a-boundary-of-the-benchmark"
UNIQUE = itertools.count(time.time_ns())


def body(blobs: list[bytes]) -> bytes:
    """A multipart form with the pictures in the field ``images``."""
    head = b'\r\nContent-Disposition: form-data; name="images"; filename="p.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    parts = [b"--" + BOUNDARY + head + blob + str(next(UNIQUE)).encode() + b"\r\n" for blob in blobs]
    return b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"


async def load(url: str, blobs: list[bytes], *, connections: int, requests: int, pictures: int) -> dict[str, Any]:
    """Send requests over so many connections at once; what came back."""
    places = iter(range(requests * pictures))
    bodies = iter([body([blobs[next(places) % len(blobs)] for _ in range(pictures)]) for _ in range(requests)])
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
    statuses: collections.Counter[int] = collections.Counter()
    batches: collections.Counter[int] = collections.Counter()
    latencies: list[float] = []

    async def one_connection(session: aiohttp.ClientSession) -> None:
        for data in bodies:
            begun = time.perf_counter()
            async with session.post(url, data=data, headers=headers) as answer:
                text = await answer.read()
            latencies.append(time.perf_counter() - begun)
            statuses[answer.status] += 1
            if answer.status == 200 and isinstance(found := json.loads(text), dict):
                batches.update(result.get("batch_size") or 0 for result in found.get("results", ()))

    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(120)) as session:
        begun = time.perf_counter()
        await asyncio.gather(*(one_connection(session) for _ in range(connections)))
        seconds = time.perf_counter() - begun
    return {
        "pictures_per_s": requests * pictures / seconds,
        "p50_ms": median(latencies) * 1000,
        "p99_ms": quantiles(latencies, n=100)[98] * 1000,
        "not_2xx": sum(count for status, count in statuses.items() if status // 100 != 2),
        "batch_sizes": dict(sorted(batches.items())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--photos", type=Path, required=True)
    for name, default in (("connections", 32), ("requests", 320), ("pictures", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    blobs = [photo.read_bytes() for photo in sorted(options.photos.glob("*.jpg"))]
    shape = {name: getattr(options, name) for name in ("connections", "requests", "pictures")}
    print(json.dumps(asyncio.run(load(options.url, blobs, **shape))))


if __name__ == "__main__":
    main()
