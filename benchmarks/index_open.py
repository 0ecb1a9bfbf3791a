"""Opening an index and answering one query, small and large: python -m benchmarks.index_open [--quick]

In a process whose kernels are loaded, on files in the page cache; hnswlib's load of the same file next to it.
"""

from __future__ import annotations

from statistics import median
from typing import Any

import hnswlib

from benchmarks.data import Case, K
from benchmarks.report import arguments, deliver, in_turn, table

EF = 128
FULL = (Case(10_000, 128), Case(1_000_000, 128))
QUICK = (Case(1000, 64), Case(10_000, 64))


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Seconds to open and to open and answer, ours and hnswlib's."""
    path, query = case.hnsw(), case.queries(1)

    def load() -> None:
        index = hnswlib.Index(space="cosine", dim=case.dim)
        index.load_index(str(path))
        index.set_ef(EF)
        index.knn_query(query, K, num_threads=1)

    def answer(codes: bool) -> None:
        case.open(codes=codes).search(query, K, EF)

    tasks = {
        "open": lambda: case.open(codes=True),
        "open and answer": lambda: answer(True),
        "open and answer, without the companion": lambda: answer(False),
        "hnswlib's load and answer": load,
    }
    return {"case": case.name, "bytes": path.stat().st_size, "seconds": in_turn(tasks, rounds)}


def main() -> None:
    options = arguments(__doc__)
    raw = [measure(case, 5 if options.quick else 9) for case in (QUICK if options.quick else FULL)]
    made = table("milliseconds", "what", *(one["case"] for one in raw), "difference")
    for what in raw[0]["seconds"]:
        small, large = (median(one["seconds"][what]) * 1000 for one in raw)
        made.add_row(what, f"{small:,.2f}", f"{large:,.2f}", f"{large - small:,.2f}")
    deliver("index_open", options, [made], {"cases": raw})


if __name__ == "__main__":
    main()
