"""End the process that runs the network, with no warning, while clients search; and see who notices."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from typing import Any

import httpx
import psutil

from tests.serving import Server

CLIENTS = 8
REST_SECONDS = 1.0


def kill_under_load(server: Server, pictures: list[bytes], times: int) -> dict[str, Any]:
    """Kill the Extractor so many times; the statuses of all answers, and the seconds until it was well again each time."""
    statuses: Counter[str] = Counter()
    bodies: list[str] = []
    ended = threading.Event()

    def client(number: int) -> None:
        with httpx.Client(timeout=60) as session:
            turn = number
            while not ended.is_set():
                turn += CLIENTS
                status, text = ask(session, server, pictures[turn % len(pictures)])
                statuses[status] += 1
                if status not in ("200", "429"):
                    bodies.append(text)
                if status == "429":
                    ended.wait(0.1)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    time.sleep(REST_SECONDS)
    seconds = [_kill(server, pictures[0]) for _ in range(times)]
    ended.set()
    for thread in threads:
        thread.join()
    return {"statuses": dict(sorted(statuses.items())), "seconds": seconds, "failed": bodies}


def ask(session: httpx.Client, server: Server, picture: bytes) -> tuple[str, str]:
    """Search with a picture that was never sent before; the status, or the name of what went wrong, and the answer."""
    try:
        answer = session.post(f"{server.url}/search", files={"images": picture + os.urandom(8)})
        return str(answer.status_code), answer.text
    except httpx.TransportError as error:
        return type(error).__name__, str(error)


def _kill(server: Server, picture: bytes) -> float:
    """Seconds from the kill to an answer of the process that came in its place."""
    old = server.workers("Extractor")
    for process in old:
        process.kill()
    begun = time.monotonic()
    with httpx.Client(timeout=60) as session:
        while True:
            status, _ = ask(session, server, picture)
            if status == "200" and not any(map(psutil.pid_exists, (process.pid for process in old))):
                break
            time.sleep(0.02)
    seconds = time.monotonic() - begun
    time.sleep(REST_SECONDS)
    return seconds
