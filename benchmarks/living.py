"""A catalogue that changes: queries next to unmerged items, recall, memory: python -m benchmarks.living [--quick]

Queries are asked one a call of Catalogue.search, which looks up the items of its hits too.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import K, clusters
from benchmarks.report import arguments, deliver, table
from index import Catalogue, Entry, LiveWriter, merge_catalogue, open_catalogue, start_catalogue, warm_kernels

PART = 1000
EF = 128
QUERIES = 2200
WARM_UP = 200  # queries
CHILD = "from benchmarks.living import {0}; from pathlib import Path; {0}(Path({1!r}), {2}, {3})"


def entries(vectors: NDArray[np.float32], first: int = 0) -> Iterator[list[Entry]]:
    """Entries of vectors, float32 [n, dim], in parts: numbers for keys, one field with a hundred values."""
    for at in range(0, len(vectors), PART):
        yield [
            Entry(f"{first + n}", vector, {"bucket": (first + n) % 100}, f"{first + n:064x}", b"\xff\xd8", n, n)
            for n, vector in enumerate(vectors[at : at + PART], at)
        ]


def make(folder: Path, vectors: NDArray[np.float32]) -> Path:
    """Build a catalogue of vectors, whose extractor is none."""
    writer = start_catalogue(folder, model="m", fingerprint="f", dim=vectors.shape[1])
    writer.extractor_folder.mkdir()
    for part in entries(vectors):
        writer.add(part)
    writer.build_index()
    writer.publish({})
    return folder


def add(folder: Path, vectors: NDArray[np.float32], first: int) -> None:
    """Add vectors to a catalogue."""
    with closing(LiveWriter(folder)) as writer:
        for part in entries(vectors, first):
            writer.add(part, "f")


def recall(catalogue: Catalogue, queries: NDArray[np.float32]) -> float:
    """recall@10 of a catalogue's search, at the default ef, against its exact answer."""
    found = catalogue.search(queries, K, ef=EF)
    true = catalogue.search_exactly(queries, K)
    pairs = zip(found, true, strict=True)
    return float(np.mean([len({hit.item.id for hit in one} & {n for n, _ in two}) / K for one, two in pairs]))


def by_turns(
    asked: Mapping[str, Callable[[NDArray[np.float32]], object]], queries: NDArray[np.float32]
) -> dict[str, Any]:
    """Seconds that each query takes each way, once each: a query that is repeated finds all that it reads in the caches."""
    dice, seconds = random.Random(0), {way: list[float]() for way in asked}
    for query in queries:
        for way in dice.sample(list(asked), len(asked)):
            begun = time.perf_counter()
            asked[way](query[None])
            seconds[way].append(time.perf_counter() - begun)
    kept = {way: some[WARM_UP:] for way, some in seconds.items()}
    return {"p50": {way: median(some) for way, some in kept.items()}, "seconds": kept}


def unmerged(count: int, dim: int, more: int) -> dict[str, Any]:
    """Seconds of queries with and without unmerged items."""
    queries = clusters(QUERIES, dim, 9)
    with tempfile.TemporaryDirectory() as temporary:
        merged = make(Path(temporary) / "merged", clusters(count, dim, 1))
        ahead = Path(shutil.copytree(merged, Path(temporary) / "ahead"))
        add(ahead, clusters(more, dim, 2), count)
        with closing(open_catalogue(merged)) as one, closing(open_catalogue(ahead)) as two:
            asked = {
                "merged": lambda query: one.search(query, K, ef=EF),
                "unmerged": lambda query: two.search(query, K, ef=EF),
            }
            return by_turns(asked, queries)


def churned(count: int, dim: int) -> dict[str, float]:
    """recall@10 after a fifth was removed and as much added, merged, and of a fresh build of the same items."""
    vectors, more, queries = clusters(count, dim, 1), clusters(count // 5, dim, 2), clusters(1000, dim, 9)
    gone = np.random.default_rng(3).choice(count, count // 5, replace=False)
    kept = np.setdiff1d(np.arange(count), gone)
    with tempfile.TemporaryDirectory() as temporary:
        changed = make(Path(temporary) / "changed", vectors)
        with closing(LiveWriter(changed)) as writer:
            for at in range(0, len(gone), PART):
                writer.remove([str(n) for n in gone[at : at + PART]])
        add(changed, more, count)
        with closing(open_catalogue(changed)) as catalogue:
            before = recall(catalogue, queries)
        merge_catalogue(changed)
        fresh = make(Path(temporary) / "fresh", np.concatenate([vectors[kept], more]))
        with closing(open_catalogue(changed)) as one, closing(open_catalogue(fresh)) as two:
            return {"unmerged": before, "merged": recall(one, queries), "fresh": recall(two, queries)}


def build_many(folder: Path, count: int, dim: int) -> None:
    """Build a catalogue whose vectors are made part by part: what is in memory is the build's own."""
    writer = start_catalogue(folder, model="m", fingerprint="f", dim=dim)
    writer.extractor_folder.mkdir()
    for first in range(0, count, 10_000):
        for part in entries(clusters(min(10_000, count - first), dim, first), first):
            writer.add(part)
    writer.build_index()
    writer.publish({})


def merge_many(folder: Path, count: int, dim: int) -> None:
    """Merge some more into a catalogue."""
    add(folder, clusters(1000, dim, 5), count)
    merge_catalogue(folder)


def peak(what: str, folder: Path, count: int, dim: int) -> int:
    """The most anonymous memory, in bytes, of a process that does something, beyond what importing takes."""
    code = CHILD.format(what, str(folder), count, dim)
    process = subprocess.Popen([sys.executable, "-c", code])
    most = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        if found := re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE):
            most = max(most, int(found[1]) * 1024)
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    assert process.returncode == 0
    return most


def memory(count: int, dim: int) -> dict[str, Any]:
    """The memory of a build and of a merge, over the vectors' bytes."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "catalogue"
        size = count * dim * 4
        found = {what: peak(what, folder, count, dim) for what in ("build_many", "merge_many")}
        return {
            "bytes": found,
            "ratio": {what: most / size for what, most in found.items()},
            "filter": filtered(folder, dim),
        }


def filtered(folder: Path, dim: int) -> dict[str, Any]:
    """Seconds of queries with a filter that keeps 1 %, and that was used before, and without."""
    with closing(open_catalogue(folder)) as catalogue:
        asked = {
            "without": lambda query: catalogue.search(query, K, ef=EF),
            "1 %": lambda query: catalogue.search(query, K, ef=EF, allowed=catalogue.allow({"bucket": 7})),
        }
        return by_turns(asked, clusters(QUERIES, dim, 9))


def main() -> None:
    options = arguments(__doc__)
    warm_kernels()
    small, large = ((5000, 64), (20_000, 32)) if options.quick else ((100_000, 512), (1_000_000, 128))
    more = small[0] // 20
    ahead, recalls, taken = unmerged(*small, more), churned(*small), memory(*large)
    slower = ahead["p50"]["unmerged"] / ahead["p50"]["merged"]
    filtering = taken["filter"]["p50"]["1 %"] / taken["filter"]["p50"]["without"]
    shown = table("a catalogue that changes", "what", "measured")
    for what, measured in (
        (f"query p50, {more:,} unmerged next to {small[0]:,} × {small[1]}, ÷ none", f"{slower:.2f}"),
        ("recall@10, a fifth changed: unmerged, merged, fresh", " ".join(f"{one:.4f}" for one in recalls.values())),
        (f"memory of a build of {large[0]:,} × {large[1]} ÷ the vectors", f"{taken['ratio']['build_many']:.2f}"),
        ("memory of a merge of it ÷ the vectors", f"{taken['ratio']['merge_many']:.2f}"),
        ("query p50 with a filter that keeps 1 % of it ÷ without", f"{filtering:.2f}"),
    ):
        shown.add_row(what, measured)
    deliver("living", options, [shown], {"unmerged": ahead, "recall": recalls, "memory": taken})


if __name__ == "__main__":
    main()
