"""Four times as many requests as can be served, for a minute: who is refused, who waits, and what is left behind.

    python -m benchmarks.overload [--quick]

ResNet50 with (random) weights from a file, an index of 10,000 × 2048, 500 × 375 JPEGs, no picture twice; the service with its
default settings. Capacity is what 32 connections get that send without pause; "unloaded" is their p99. Then requests come at
four times that rate, whether they are answered or not, and at once after the last of them 32 connections again. Last, the
process that runs the network is killed under load, again and again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.catalogues import catalogue_over, photos_to_send
from benchmarks.data import Case
from benchmarks.report import arguments, deliver, table
from tests.serving import APART, ROOT, Server, serving
from tests.soak.killing import kill_under_load

TIMES = 4
CONNECTIONS = 32


def from_elsewhere(module: str, server: Server, *arguments: object) -> dict[str, Any]:
    """What a load from another process reports."""
    command = [sys.executable, "-m", f"benchmarks.{module}", f"{server.url}/search", "--photos", str(photos_to_send())]
    done = subprocess.run([*command, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def at_capacity(server: Server, requests: int) -> dict[str, Any]:
    """32 connections that send without pause."""
    return from_elsewhere("load", server, "--connections", CONNECTIONS, "--requests", requests)


class Memory(threading.Thread):
    """Notes the memory of all processes of a server, resident and with shared pages counted once, in MB, every second."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._family = [server.main, *server.main.children(recursive=True)]
        self._ended = threading.Event()
        self.rss: list[float] = []
        self.pss: list[float] = []

    def run(self) -> None:
        while not self._ended.wait(1):
            facts = [process.memory_full_info() for process in self._family]
            self.rss.append(sum(one.rss for one in facts) / 2**20)
            self.pss.append(sum(one.pss for one in facts) / 2**20)

    def end(self) -> None:
        """Stop looking."""
        self._ended.set()
        self.join()


def p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98] if len(values) > 1 else float("nan")


def overloaded(server: Server, rate: float, seconds: float) -> dict[str, Any]:
    """Requests at a rate, and the memory meanwhile; then, at once, 32 connections again, second by second."""
    before = Memory(server)
    before.start()
    time.sleep(3.5)
    before.end()
    memory = Memory(server)
    memory.start()
    flood = from_elsewhere("flood", server, "--rate", rate, "--seconds", seconds)
    memory.end()
    at_once = at_capacity(server, max(CONNECTIONS, int(rate / TIMES * 2)))
    after = at_capacity(server, max(CONNECTIONS, int(rate / TIMES * 6)))
    pairs = list(zip(flood["latency"], flood["status"], strict=True))
    admitted = [latency for latency, status in pairs if status == 200]
    refused = [latency for latency, status in pairs if status in (429, 503)]
    return {
        "statuses": {str(status): count for status, count in sorted(Counter(flood["status"]).items())},
        "admitted_per_s": len(admitted) / seconds,
        "admitted_p50_ms": median(admitted) * 1000,
        "admitted_p99_ms": p99(admitted) * 1000,
        "refused_p50_ms": median(refused) * 1000 if refused else None,
        "refused_p99_ms": p99(refused) * 1000 if refused else None,
        "memory": {"before": {"rss": before.rss, "pss": before.pss}, "during": {"rss": memory.rss, "pss": memory.pss}},
        "at_once": at_once,
        "after": after,
    }


def measure(folder: Path, seconds: float, requests: int, kills: int) -> dict[str, Any]:
    """Capacity, overload and recovery; and the network killed where it has a process of its own."""
    with tempfile.TemporaryDirectory() as temporary, serving(folder, Path(temporary) / "log") as server:
        time.sleep(2)  # until what comes after the first answer is there too
        for _ in range(2):
            at_capacity(server, requests)
        capacity = at_capacity(server, requests)
        # Once before it is counted, as the capacity was: what the first of it allocates stays.
        overloaded(server, TIMES * capacity["pictures_per_s"], seconds / 6)
        capacity = at_capacity(server, requests)
        over = overloaded(server, TIMES * capacity["pictures_per_s"], seconds)
    blobs = [photo.read_bytes() for photo in sorted(photos_to_send().glob("*.jpg"))]
    with tempfile.TemporaryDirectory() as temporary, serving(folder, Path(temporary) / "log", **APART) as server:
        killed = kill_under_load(server, blobs, kills)
    return {"capacity": capacity, "overload": over, "killed": killed}


def main() -> None:
    options = arguments(__doc__)
    seconds, requests, kills = (6, 96, 1) if options.quick else (60, 960, 20)
    raw = measure(catalogue_over(Case(1000 if options.quick else 10_000, 2048)), seconds, requests, kills)
    capacity, over, killed = raw["capacity"], raw["overload"], raw["killed"]
    memory = over["memory"]
    growth = {kind: max(memory["during"][kind]) / median(memory["before"][kind]) - 1 for kind in ("rss", "pss")}
    shown = table(f"{TIMES} × capacity for {seconds} s", "what", "measured")
    for name, value in (
        ("capacity: 32 connections, pictures/s", f"{capacity['pictures_per_s']:.1f}"),
        ("p99 at capacity, ms", f"{capacity['p99_ms']:.0f}"),
        ("answers by status", ", ".join(f"{count} × {status}" for status, count in over["statuses"].items())),
        ("admitted, pictures/s ÷ capacity", f"{over['admitted_per_s'] / capacity['pictures_per_s']:.2f}"),
        ("admitted p99, ms", f"{over['admitted_p99_ms']:.0f}"),
        ("   ÷ p99 at capacity", f"{over['admitted_p99_ms'] / capacity['p99_ms']:.2f}"),
        ("refused within, ms (p50, p99)", f"{over['refused_p50_ms'] or 0:.1f}, {over['refused_p99_ms'] or 0:.0f}"),
        ("most memory ÷ before, resident", f"{growth['rss']:+.1%}"),
        ("   with shared pages counted once", f"{growth['pss']:+.1%}"),
        (
            "pictures/s in the two seconds afterwards ÷ capacity",
            f"{over['at_once']['pictures_per_s'] / capacity['pictures_per_s']:.2f}",
        ),
        ("   from then on", f"{over['after']['pictures_per_s'] / capacity['pictures_per_s']:.2f}"),
        ("   refused of these", str(over["at_once"]["not_2xx"] + over["after"]["not_2xx"])),
    ):
        shown.add_row(name, value)
    rest = table(f"the network's process killed {kills} times under load", "what", "measured")
    rest.add_row("answers by status", ", ".join(f"{count} × {status}" for status, count in killed["statuses"].items()))
    rest.add_row(
        "well again after, s (median, worst)", f"{median(killed['seconds']):.2f}, {max(killed['seconds']):.2f}"
    )
    deliver("overload", options, [shown, rest], raw)


if __name__ == "__main__":
    main()
