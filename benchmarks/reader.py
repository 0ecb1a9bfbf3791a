"""The mapped reader beside hnswlib and the exact search: python -m benchmarks.reader [--quick]

One index file, built once by hnswlib; the same queries, ef and one thread for each; the three take turns. Recall@10 is
against the exact search. Opening is timed on a file that is in the page cache, to the first answer.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

import hnswlib
import numpy as np

from benchmarks.report import arguments, deliver, in_turn, ratio, table
from index import Neighbours, build_hnsw, open_index, recall, search_exact

K = 10
QUERIES = 500


def clusters(count: int, dim: int, seed: int) -> np.ndarray:
    """Unit vectors around 200 centres: float32 [count, dim]."""
    centres = np.random.default_rng(0).normal(size=(200, dim))
    rng = np.random.default_rng(seed)
    rows = centres[rng.integers(0, 200, count)] + 0.5 * rng.normal(size=(count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def compare(path: Path, count: int, dim: int, ef: int, rounds: int) -> dict[str, object]:
    """Build one index and time the three on it."""
    vectors, queries = clusters(count, dim, 1), clusters(QUERIES, dim, 2)
    labels = np.arange(count, dtype=np.int64)
    build_hnsw(path, [(labels, vectors)], count, dim, "cosine")

    def load() -> hnswlib.Index:
        index = hnswlib.Index(space="cosine", dim=dim)
        index.load_index(str(path))
        index.set_ef(ef)
        index.set_num_threads(1)
        return index

    ours, theirs = open_index(path, dim, "cosine"), load()
    truth = search_exact(vectors, labels, queries, K, "cosine")
    searches = in_turn(
        {
            "hnswlib": lambda: theirs.knn_query(queries, K, num_threads=1),
            "ours": lambda: ours.search(queries, K, ef),
            "exact": lambda: search_exact(vectors, labels, queries, K, "cosine"),
        },
        rounds,
    )
    opens = in_turn(
        {
            "hnswlib": lambda: load().knn_query(queries[:1], K),
            "ours": lambda: open_index(path, dim, "cosine").search(queries[:1], K, ef),
        },
        rounds,
    )
    found, distances = theirs.knn_query(queries, K)
    judged = [Neighbours(row.astype(np.int64), far) for row, far in zip(found, distances, strict=True)]
    return {
        "count": count,
        "dim": dim,
        "ef": ef,
        "bytes": path.stat().st_size,
        "search_seconds": searches,
        "open_seconds": opens,
        "recall": {"hnswlib": recall(judged, truth), "ours": recall(ours.search(queries, K, ef), truth)},
        "agreement": float(
            np.mean(
                [
                    a.labels.tolist() == b.labels.tolist()
                    for a, b in zip(judged, ours.search(queries, K, ef), strict=True)
                ]
            )
        ),
    }


def main() -> None:
    options = arguments(__doc__)
    cases = (
        [(3000, 256, 128), (3000, 2048, 128)]
        if options.quick
        else [(20_000, 256, 128), (20_000, 1280, 128), (20_000, 2048, 128)]
    )
    rounds = 5 if options.quick else 15
    speeds = table(
        "queries/s, one thread",
        "vectors",
        "hnswlib",
        "ours",
        "ours ÷ hnswlib",
        "exact",
        "recall@10 hnswlib",
        "ours",
        "same answers",
    )
    opening = table("open and answer one query, ms", "vectors", "hnswlib", "ours", "hnswlib ÷ ours")
    raw = []
    with tempfile.TemporaryDirectory() as folder:
        for count, dim, ef in cases:
            one = compare(Path(folder) / "index", count, dim, ef, rounds)
            raw.append(one)
            searches, opens = one["search_seconds"], one["open_seconds"]
            assert isinstance(searches, dict)
            assert isinstance(opens, dict)
            rate = {name: QUERIES / median(times) for name, times in searches.items()}
            judged = one["recall"]
            assert isinstance(judged, dict)
            name = f"{count:,} × {dim}, ef {ef}"
            speeds.add_row(
                name,
                f"{rate['hnswlib']:,.0f}",
                f"{rate['ours']:,.0f}",
                f"{ratio(searches['hnswlib'], searches['ours']):.2f}",
                f"{rate['exact']:,.0f}",
                f"{judged['hnswlib']:.4f}",
                f"{judged['ours']:.4f}",
                f"{one['agreement']:.3f}",
            )
            opening.add_row(
                name,
                f"{median(opens['hnswlib']) * 1000:.1f}",
                f"{median(opens['ours']) * 1000:.2f}",
                f"{ratio(opens['hnswlib'], opens['ours']):.0f}",
            )
    deliver("reader", options, [speeds, opening], {"cases": raw})


if __name__ == "__main__":
    main()
