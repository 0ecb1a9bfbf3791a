"""What every benchmark shares: alternating rounds, a table on stdout, and the raw numbers kept by commit."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

SHORTEST = 0.03  # seconds: what takes less is timed several times over, or what ran before it decides
RESULTS = Path(__file__).parent / "results"


def arguments(description: str | None, own: argparse.ArgumentParser | None = None) -> argparse.Namespace:
    """The options that every benchmark takes, and its ``own``."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[own] if own else [],
    )
    parser.add_argument("--quick", action="store_true", help="smaller data and fewer rounds; not for quoting")
    parser.add_argument("--json", action="store_true", help="print the raw numbers instead of tables")
    parser.add_argument(
        "--keep", action="store_true", help="write the raw numbers to benchmarks/results/NAME-COMMIT.json"
    )
    return parser.parse_args()


def in_turn(tasks: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds that each task took in each round.

    The tasks alternate, so that a drifting machine slows all of them; each round in another order, so that none always
    finds the caches as the same other one leaves them.
    """
    dice = random.Random(0)
    times = {name: _times(task) for name, task in tasks.items()}
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name in dice.sample(list(tasks), len(tasks)):
            begun = time.perf_counter()
            for _ in range(times[name]):
                tasks[name]()
            seconds[name].append((time.perf_counter() - begun) / times[name])
    return seconds


def _times(task: Callable[[], object]) -> int:
    """How often a task is to be done in a turn: a short one until SHORTEST has passed. Also its warm-up."""
    task()
    begun = time.perf_counter()
    task()
    return int(SHORTEST / (time.perf_counter() - begun)) + 1


def ratio(slow: list[float], fast: list[float]) -> float:
    """How many times as fast: the median over rounds of slow ÷ fast within a round."""
    return median(one / other for one, other in zip(slow, fast, strict=True))


def deliver(name: str, options: argparse.Namespace, tables: list[Table], raw: dict[str, Any]) -> None:
    """Print the tables, or the raw numbers with --json; with --keep also write those to a file named by the commit."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    raw = {
        "benchmark": name,
        "commit": commit or None,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": options.quick,
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        **raw,
    }
    if options.json:
        print(json.dumps(raw))
    else:
        console = Console(width=120)
        for table in tables:
            console.print(table)
    if options.keep:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}-{commit}.json").write_text(json.dumps(raw, indent=1) + "\n")


def table(title: str, *columns: str) -> Table:
    """A table whose first column is words and whose others are numbers."""
    made = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        made.add_column(column, justify="left" if place == 0 else "right")
    return made
