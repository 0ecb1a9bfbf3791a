"""Filtered search: our planner next to both pure ways and hnswlib with a Python filter: python -m benchmarks.filters

Random rows are allowed, from half of them to one in a thousand. Recall@10 is against the exact search of the allowed rows.
"The better way" is the faster of walking the graph throughout and comparing every allowed row.
"""

from __future__ import annotations

from functools import partial
from statistics import median
from typing import Any

import hnswlib
import numpy as np
from rich.table import Table

from benchmarks.data import Case, K
from benchmarks.report import arguments, deliver, in_turn, ratio, table
from index import MappedIndex, allow_rows, recall, search_exact
from index.hnsw.planner import UNBOUNDED

EF = 128
SHARES = (0.5, 0.1, 0.01, 0.001)
FULL = (Case(20_000, 2048), Case(50_000, 1280, real=True), Case(100_000, 512), Case(100_000, 128))
QUICK = (Case(20_000, 128),)
HNSWLIB_QUERIES = 20  # its filter is a call of Python for each element that it looks at


def one_way(case: Case, budget: int) -> MappedIndex:
    """An index that goes one way whatever the planner says: budget 0 is the scan, UNBOUNDED the graph."""
    index = case.open(codes=True)
    index._budget = lambda *_: budget  # type: ignore[method-assign]
    return index


def measure(case: Case, share: float, count: int, rounds: int) -> dict[str, Any]:
    """One selectivity of one case."""
    index, queries = case.open(codes=True), case.queries(count)
    rows = np.random.default_rng(3).choice(case.count, max(1, int(case.count * share)), replace=False)
    allowed = allow_rows(rows, case.count)
    few = queries[:HNSWLIB_QUERIES]
    theirs = hnswlib.Index(space="cosine", dim=case.dim)
    theirs.load_index(str(case.hnsw()))
    theirs.set_ef(EF)
    labels = index.file.labels()[allowed.rows()]  # hnswlib puts rows down in the order that its threads finish them
    among = set(labels.tolist())
    truth = search_exact(index.vectors()[allowed.rows()], labels, queries, K, "cosine")
    tasks = {
        "planner": partial(index.search, queries, K, EF, allowed=allowed),
        "graph": partial(one_way(case, UNBOUNDED).search, queries, K, EF, allowed=allowed),
        "scan": partial(one_way(case, 0).search, queries, K, EF, allowed=allowed),
    }
    beside = {
        "planner": partial(index.search, few, K, EF, allowed=allowed),
        "hnswlib": partial(theirs.knn_query, few, min(K, len(rows)), num_threads=1, filter=among.__contains__),
    }
    return {
        "case": case.name,
        "share": share,
        "allowed": len(rows),
        "queries": count,
        "recall": recall(tasks["planner"](), truth),
        "seconds": in_turn(tasks, rounds),
        "beside_hnswlib": in_turn(beside, max(3, rounds // 3)),
    }


def tabled(case: Case, measured: list[dict[str, Any]]) -> Table:
    """What was measured of one case."""
    made = table(
        f"{case.name}, ef {EF}",
        "kept",
        "recall@10",
        "queries/s",
        "graph",
        "scan",
        "÷ the better way",
        "÷ hnswlib's filter",
    )
    for one in measured:
        seconds, beside = one["seconds"], one["beside_hnswlib"]
        better = min(("graph", "scan"), key=lambda way: median(seconds[way]))
        made.add_row(
            f"{one['share']:.1%} ({one['allowed']:,})",
            f"{one['recall']:.4f}",
            *(f"{one['queries'] / median(seconds[way]):,.0f}" for way in ("planner", "graph", "scan")),
            f"{ratio(seconds[better], seconds['planner']):.2f}",
            f"{ratio(beside['hnswlib'], beside['planner']):.1f}",
        )
    return made


def main() -> None:
    options = arguments(__doc__)
    cases, count, rounds = (QUICK, 100, 3) if options.quick else (FULL, 100, 9)
    raw = [[measure(case, share, count, rounds) for share in SHARES] for case in cases]
    tables = [tabled(case, measured) for case, measured in zip(cases, raw, strict=True)]
    deliver("filters", options, tables, {"cases": raw})


if __name__ == "__main__":
    main()
