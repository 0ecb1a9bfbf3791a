"""Our index next to its peers at recall@10 >= 0.99: python -m benchmarks.index_speed [--quick]

Each index is given the smallest ef that reaches the recall; then all take turns on the same batch of queries, one thread
each (the exact search: as many as its BLAS takes). Ours and hnswlib search the same file.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.data import Case, K
from benchmarks.peers import Searcher, peers
from benchmarks.report import arguments, deliver, in_turn, ratio, table
from index import Neighbours
from index.hnsw.mapped_index import SPARE

RECALL = 0.99
EFS = (*range(10, 34, 2), *range(36, 68, 4), 72, 80, 96, 112, 128, 160, 192, 256, 384, 512)
FULL = (Case(20_000, 2048), Case(20_000, 1280, real=True), Case(100_000, 512), Case(100_000, 128))
QUICK = (Case(3000, 256),)
OURS = ("BentoLens, codes", "BentoLens, plain")
SINGLES = 200  # queries that are asked one at a time


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
    """Recall@10: the share of the true neighbours that were found."""
    return float(np.mean([np.isin(one.labels, found).mean() for one, found in zip(truth, labels, strict=True)]))


def smallest_ef(index: Searcher, queries: NDArray[np.float32], truth: list[Neighbours]) -> tuple[int, float]:
    """The smallest ef whose recall is high enough, and that recall; the largest ef where none is."""
    reached = 0.0
    for ef in EFS:
        if (reached := recall_of(index.search(queries, ef), truth)) >= RECALL:
            return ef, reached
    return EFS[-1], reached


def measure(case: Case, count: int, rounds: int) -> dict[str, Any]:
    """All indexes on one case: for each its ef, recall and the seconds of each round; and ours on two threads."""
    queries = case.queries(count)
    truth = case.truth(queries)
    indexes = peers(case)
    chosen = {name: smallest_ef(index, queries, truth) for name, index in indexes.items()}
    tasks = {name: partial(index.search, queries, chosen[name][0]) for name, index in indexes.items()}
    exact = {name: tasks.pop(name) for name in ("exact, numpy",)}
    seconds = in_turn(tasks, rounds) | in_turn(exact, 2)
    ours = case.open(codes=True)
    ef = chosen["BentoLens, codes"][0]
    threads = in_turn(
        {f"{n} threads": partial(ours.search, queries, K, ef, threads=n) for n in (1, 2)}
        | {f"{n} spinning": partial(spin_on, n) for n in (1, 2)},
        rounds,
    )

    def one_at_a_time(name: str) -> None:
        for n in range(SINGLES):
            indexes[name].search(queries[n : n + 1], chosen[name][0])

    singles = in_turn({name: partial(one_at_a_time, name) for name in (*OURS, "hnswlib")}, rounds)
    return {
        "case": case.name,
        "queries": count,
        "k": K,
        "ef": {name: ef for name, (ef, _) in chosen.items()},
        "recall": {name: reached for name, (_, reached) in chosen.items()},
        "seconds": seconds,
        "threads": threads,
        "one_at_a_time": singles,
    }


def tabled(one: dict[str, Any]) -> Table:
    """What was measured of one case."""
    count, seconds, threads, singles = one["queries"], one["seconds"], one["threads"], one["one_at_a_time"]
    made = table(one["case"], "index", "ef", "recall@10", "queries/s", "÷ hnswlib", "codes ÷ it")
    for name, times in seconds.items():
        theirs, best = (seconds[other][: len(times)] for other in ("hnswlib", OURS[0]))
        least = K + SPARE if name == OURS[0] else 0  # a walk by codes is never narrower
        ef = "" if name.startswith("exact") else str(max(one["ef"][name], least))
        rates = f"{count / median(times):,.0f}", f"{ratio(theirs, times):.2f}", f"{ratio(times, best):.2f}"
        made.add_row(name, ef, f"{one['recall'][name]:.4f}", *rates)
    made.add_section()
    spread = f"{ratio(threads['1 threads'], threads['2 threads']):.2f}"
    made.add_row(f"codes, batch of {count}: 2 threads ÷ 1", "", "", "", "", spread)
    made.add_row(
        "a loop without memory: 2 threads ÷ 1",
        "",
        "",
        "",
        "",
        f"{ratio(threads['1 spinning'], threads['2 spinning']):.2f}",
    )
    for name in OURS:
        rate = f"{SINGLES / median(singles[name]):,.0f}"
        made.add_row(f"{name}, one call a query", "", "", rate, f"{ratio(singles['hnswlib'], singles[name]):.2f}")
    return made


def main() -> None:
    options = arguments(__doc__)
    cases, count, rounds = (QUICK, 300, 3) if options.quick else (FULL, 1000, 11)
    raw = [measure(case, count, rounds) for case in cases]
    deliver("index_speed", options, [tabled(one) for one in raw], {"cases": raw})


if __name__ == "__main__":
    main()
