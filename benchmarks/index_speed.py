"""Our index next to its peers at recall@k >= 0.99: python -m benchmarks.index_speed [--quick] [--case N ...]

Each index is given the least effort that reaches the recall; then all take turns on the same batch of queries, one thread
each (the exact search: as many as its BLAS takes). Indexes are built once, which takes
minutes, and up to an hour at 200,000 vectors; ``make data`` fetches the pictures.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.coded_peers import CODED
from benchmarks.data import Case, K
from benchmarks.peers import PLAIN, Searcher
from benchmarks.report import arguments, deliver, in_turn, ratio, table
from index import Neighbours

RECALL = 0.99
FULL = (
    *(Case(50_000, 1280, real=True), Case(50_000, 512, real=True)),
    *(Case(200_000, 1280, real=True), Case(200_000, 512, real=True)),
    *(Case(20_000, 2048), Case(100_000, 512), Case(100_000, 128)),
)
QUICK = (Case(3000, 256),)
OURS = ("BentoLens, codes", "BentoLens, plain")
SINGLES = 200  # queries that are asked one at a time
LARGE = 100_000  # vectors from which on only peers that were near ours at fewer are built
NEAR = (
    "BentoLens, codes",
    "hnswlib",
    "faiss HNSW SQ8",
    "faiss HNSW SQ8, refine",
    "rabitqlib HNSW, 8 bits",
    "LoRANN, 8 bits",
)


@njit(nogil=True)
def spin(steps: int) -> float:
    """A loop that touches no memory, to see what a second thread is worth on this machine."""
    value = 0.5
    for _ in range(steps):
        value = value * 1.0000001 + 1e-9 * value * value
    return value


def spin_on(threads: int) -> None:
    """The same work on one thread or shared by two."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(spin, [5_000_000] * 8))


def recall_of(labels: NDArray[np.int64], truth: list[Neighbours]) -> float:
    """Recall@k: the share of the true neighbours that were found."""
    return float(np.mean([np.isin(one.labels, found).mean() for one, found in zip(truth, labels, strict=True)]))


def least_effort(index: Searcher, queries: NDArray[np.float32], k: int, truth: list[Neighbours]) -> tuple[Any, float]:
    """The effort that reaches the recall in the least time, and that recall; the dearest one where none does."""
    best: tuple[float, Any, float] | None = None
    reached, effort = 0.0, index.efforts[0][0]
    for line in index.efforts:
        for effort in line:
            begun = time.perf_counter()
            found = index.search(queries, k, effort)
            seconds = time.perf_counter() - begun
            if (reached := recall_of(found, truth)) >= RECALL:
                best = min(best or (np.inf, None, 0.0), (seconds, effort, reached), key=lambda one: one[0])
                break
    return (effort, reached) if best is None else best[1:]


def makers(case: Case) -> dict[str, Callable[[Case], Searcher]]:
    """What is compared on a case."""
    every = PLAIN | CODED
    return {name: every[name] for name in NEAR} if case.count > LARGE else every


def measure(case: Case, k: int, count: int, rounds: int) -> dict[str, Any]:
    """All indexes on one case: for each its effort, recall and the seconds of each round; and ours on two threads."""
    queries = case.queries(count)
    truth = case.truth(queries, k)
    indexes = {name: make(case) for name, make in makers(case).items()}
    chosen = {name: least_effort(index, queries, k, truth) for name, index in indexes.items()}
    tasks = {name: partial(index.search, queries, k, chosen[name][0]) for name, index in indexes.items()}
    exact = {name: tasks.pop(name) for name in ("exact, numpy",) if name in tasks}
    slow = {name for name, (_, reached) in chosen.items() if reached < RECALL}
    seconds = in_turn({name: task for name, task in tasks.items() if name not in slow}, rounds)
    seconds |= in_turn(exact, 2)
    ours = case.open(codes=True)
    threads = in_turn(
        {f"{n} threads": partial(ours.search, queries, k, chosen[OURS[0]][0], threads=n) for n in (1, 2)}
        | {f"{n} spinning": partial(spin_on, n) for n in (1, 2)},
        rounds,
    )

    def one_at_a_time(name: str) -> None:
        for n in range(SINGLES):
            indexes[name].search(queries[n : n + 1], k, chosen[name][0])

    alone = [name for name in indexes if name not in slow and name != "exact, numpy"]
    singles = in_turn({name: partial(one_at_a_time, name) for name in alone}, rounds)
    return {
        "case": case.name,
        "queries": count,
        "k": k,
        "effort": {name: effort for name, (effort, _) in chosen.items()},
        "recall": {name: reached for name, (_, reached) in chosen.items()},
        "seconds": seconds,
        "threads": threads,
        "one_at_a_time": singles,
    }


def tabled(one: dict[str, Any]) -> Table:
    """What was measured of one case."""
    count, seconds, threads, singles = one["queries"], one["seconds"], one["threads"], one["one_at_a_time"]
    title = f"{one['case']}, k {one['k']}"
    made = table(
        title, "index", "effort", f"recall@{one['k']}", "queries/s", "÷ hnswlib", "codes ÷ it", "a call", "codes ÷ it"
    )
    for name in sorted(seconds, key=lambda name: median(seconds[name])):
        times = seconds[name]
        theirs, best = (seconds.get(other, [0.0] * len(times))[: len(times)] for other in ("hnswlib", OURS[0]))
        rates = f"{count / median(times):,.0f}", f"{ratio(theirs, times):.2f}", f"{ratio(times, best):.2f}"
        single = ("", "")
        if name in singles:
            single = f"{SINGLES / median(singles[name]):,.0f}", f"{ratio(singles[name], singles[OURS[0]]):.2f}"
        made.add_row(name, str(one["effort"][name]), f"{one['recall'][name]:.4f}", *rates, *single)
    for name in one["recall"].keys() - seconds.keys():
        made.add_row(name, str(one["effort"][name]), f"{one['recall'][name]:.4f}", *[""] * 5)
    made.add_section()
    for words, kind in (
        (f"codes, batch of {count}: 2 threads ÷ 1", "threads"),
        ("a loop without memory: 2 threads ÷ 1", "spinning"),
    ):
        made.add_row(words, *[""] * 4, f"{ratio(threads[f'1 {kind}'], threads[f'2 {kind}']):.2f}", "", "")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--case", type=int, action="append", help="measure only this one of the cases, from 0 on")
    options = arguments(__doc__, parser)
    cases: tuple[Case, ...] = QUICK if options.quick else FULL
    count, rounds = (300, 3) if options.quick else (1000, 11)
    if options.case is not None:
        cases = tuple(cases[place] for place in options.case)
    raw = [measure(case, k, count, rounds) for case in cases for k in (K, 100)]
    deliver("index_speed", options, [tabled(one) for one in raw], {"cases": raw})


if __name__ == "__main__":
    main()
