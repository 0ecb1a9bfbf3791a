"""Requests that come whether the last ones are answered or not: python -m benchmarks.flood URL --photos DIR --rate 280 …

Moments are drawn beforehand (a Poisson process), and latency is counted from the moment that a request was due, so that a
server cannot hide what it does by slowing its clients. Prints one JSON document: for each request its due time and latency
in seconds, and its status; 0 is a connection that was refused or lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from pathlib import Path

import aiohttp

from benchmarks.load import HEADERS, body


async def flood(url: str, blobs: list[bytes], rate: float, seconds: float) -> dict[str, list[float]]:
    """Send them; when each was due, how long it took, and its status."""
    dice = random.Random(0)
    due, latency, status = list[float](), list[float](), list[float]()

    async def one(session: aiohttp.ClientSession, moment: float, place: int) -> None:
        try:
            async with session.post(url, data=body([blobs[place % len(blobs)]]), headers=HEADERS) as answer:
                await answer.read()
                told = answer.status
        except aiohttp.ClientError:
            told = 0
        due.append(round(moment - begun, 4))
        latency.append(round(time.perf_counter() - moment, 5))
        status.append(told)

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(120)) as session:
        running = set()
        begun = moment = time.perf_counter()
        place = 0
        while moment < begun + seconds:
            if (early := moment - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            task = asyncio.create_task(one(session, moment, place))
            running.add(task)
            task.add_done_callback(running.discard)
            moment += dice.expovariate(rate)
            place += 1
        await asyncio.gather(*running)
    return {"due": due, "latency": latency, "status": status}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    blobs = [photo.read_bytes() for photo in sorted(options.photos.glob("*.jpg"))]
    print(json.dumps(asyncio.run(flood(options.url, blobs, options.rate, options.seconds))))


if __name__ == "__main__":
    main()
