"""Memory of four processes that share an index: python -m benchmarks.index_memory [--quick]

Each process imports, loads the kernels and waits; then opens the index and answers 1,000 queries. What it cost is the growth
of the sum of their proportional set sizes (PSS: shared pages count once over all), over the bytes of the files they read.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.data import Case
from benchmarks.report import arguments, deliver, table

PROCESSES = 4
FULL = (Case(20_000, 2048), Case(1_000_000, 128))
QUICK = (Case(10_000, 64),)
CHILD = """
import sys
import hnswlib
from benchmarks.data import K, Case
from index import warm_kernels
warm_kernels()
count, dim, what = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
case = Case(count, dim)
queries = case.queries(1000)
print("ready", flush=True); input()
if what == "hnswlib":
    index = hnswlib.Index(space="cosine", dim=dim)
    index.load_index(str(case.hnsw()))
    index.set_ef(128)
    index.knn_query(queries, K, num_threads=1)
else:
    index = case.open(codes=what == "codes")
    index.search(queries, K, 128)
print("done", flush=True); input()
"""


def pss(process: subprocess.Popen[str]) -> int:
    """A process's proportional set size in bytes."""
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{process.pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def measure(case: Case, what: str) -> dict[str, Any]:
    """The sum of PSS before and after, in bytes, of processes that all do the same."""
    files = [case.hnsw()] + ([case.path("codes")] if what == "codes" else [])
    command = [sys.executable, "-c", CHILD, str(case.count), str(case.dim), what]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)
    ]
    sums = []
    try:
        for _ in range(2):
            for process in started:
                assert process.stdout
                assert process.stdout.readline()
            sums.append(sum(pss(process) for process in started))
            for process in started:
                assert process.stdin
                process.stdin.write("\n")
                process.stdin.flush()
    finally:
        for process in started:
            process.kill()
            process.wait()
    size = sum(path.stat().st_size for path in files)
    return {"case": case.name, "what": what, "file_bytes": size, "pss_before": sums[0], "pss_after": sums[1]}


def main() -> None:
    options = arguments(__doc__)
    cases = QUICK if options.quick else FULL
    raw = [measure(case, what) for case in cases for what in ("codes", "plain", "hnswlib")]
    made = table(f"{PROCESSES} processes, MB", "index", "files", "PSS before", "PSS after", "growth ÷ files")
    for one in raw:
        growth = one["pss_after"] - one["pss_before"]
        sizes = (f"{one[name] / 1e6:,.0f}" for name in ("file_bytes", "pss_before", "pss_after"))
        made.add_row(f"{one['case']}: {one['what']}", *sizes, f"{growth / one['file_bytes']:.2f}")
    deliver("index_memory", options, [made], {"processes": PROCESSES, "cases": raw})


if __name__ == "__main__":
    main()
