"""A service that nobody asks anything uses next to no CPU, the page having been opened or not."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import psutil

from tests.serving import serving

SECONDS = 30
MOST = 0.005  # of a core, for each worker


def used(processes: list[psutil.Process]) -> list[float]:
    return [sum(one.cpu_times()[:2]) for one in processes]


def test_an_idle_worker_uses_no_cpu_after_the_page_was_opened(catalogue: Path, tmp_path: Path) -> None:
    with serving(catalogue, tmp_path / "log") as server:
        assert httpx.get(f"{server.url}/demo/", timeout=60).status_code == 200
        time.sleep(5)  # what follows the first answer: the kernel is loaded
        workers = [*server.workers("ImageSearch"), *server.workers("Extractor")]
        before = used(workers)
        time.sleep(SECONDS)
        shares = [(after - first) / SECONDS for first, after in zip(before, used(workers), strict=True)]
        assert max(shares) <= MOST, shares
