"""Vectors that are the same, or nearly so: any number of them must neither hide the others nor themselves."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from index import (
    MappedIndex,
    Metric,
    Neighbours,
    allow_rows,
    build_codes,
    build_hnsw,
    open_hnsw_file,
    open_index,
    search_exact,
)

DIM = 64
WORLDS = {"4000": (295, 1, 4000)} | {f"{size}s": (2000, 10, size) for size in (10, 33, 60, 100, 200, 500)}


def _vectors(others: int, groups: int, size: int, noise: float) -> NDArray[np.float32]:
    """Groups of vectors alike, first, as a folder's name has it, and others in loose clusters."""
    random = np.random.default_rng(3)
    centres = random.standard_normal((30, DIM))
    loose = 0.4 + 0.6 * centres[random.integers(0, 30, others)] + random.standard_normal((others, DIM))
    alike = np.repeat(0.4 + random.standard_normal((groups, DIM)), size, axis=0)
    alike += noise * random.standard_normal(alike.shape)
    return np.concatenate([alike, loose]).astype(np.float32)


CASES = [("4000", 0.0), ("4000", 0.1), ("33s", 0.1), ("200s", 0.0), ("200s", 1e-3)]
MORE = [(world, noise) for world in WORLDS for noise in (0.0, 1e-6, 1e-3, 0.03, 0.1) if (world, noise) not in CASES]


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
@pytest.mark.parametrize(("world", "noise"), [*CASES, *(pytest.param(*one, marks=pytest.mark.soak) for one in MORE)])
def test_alike_vectors_hide_nothing(tmp_path: Path, world: str, noise: float, metric: Metric) -> None:
    others, groups, size = WORLDS[world]
    vectors = _vectors(others, groups, size, noise)
    index, plain = _built(tmp_path, vectors, metric)
    some = np.r_[np.arange(0, groups * size, max(1, groups * size // 200)), np.arange(groups * size, len(vectors))]
    queries = vectors[some]
    truth = search_exact(index.vectors(), index.labels(), queries, 10, metric)
    found, found_plain = index.search(queries, 10), plain.search(queries, 10)
    assert _recall(found, truth, metric) >= 0.99
    assert _recall(found_plain, truth, metric) >= 0.99
    # Every third row is allowed: among them some whose leader is not.
    rows = np.arange(0, len(vectors), 3)
    allowed_truth = search_exact(index.vectors()[rows], index.labels()[rows], queries, 10, metric)
    for one in (index, plain):
        assert _recall(one.search(queries, 10, allowed=allow_rows(rows, len(vectors))), allowed_truth, metric) >= 0.99


def _recall(found: list[Neighbours], truth: list[Neighbours], metric: Metric) -> float:
    """Return recall@k and the share of right first hits, the smaller: another at the same distance, rounded, is as right."""
    shares, firsts = [], []
    for one, true in zip(found, truth, strict=True):
        close = true.distances[-1] + 2e-6 * (1 if metric == "cosine" else 100)
        shares.append(
            np.mean(np.isin(one.labels, true.labels) | (one.distances <= close)) * len(one.labels) / len(true.labels)
        )
        firsts.append(
            one.labels[0] == true.labels[0] or one.distances[0] <= true.distances[0] + close - true.distances[-1]
        )
    return float(min(np.mean(shares), np.mean(firsts)))


def _built(folder: Path, vectors: NDArray[np.float32], metric: Metric) -> tuple[MappedIndex, MappedIndex]:
    labels = np.arange(len(vectors), dtype=np.int64) + 1
    path = folder / "index.hnsw"
    chunks = [(labels[at : at + 1024], vectors[at : at + 1024]) for at in range(0, len(vectors), 1024)]
    build_hnsw(path, chunks, len(vectors), DIM, metric)
    codes = folder / "index.codes"
    build_codes(codes, open_hnsw_file(path, DIM), metric)
    return open_index(path, DIM, metric, codes), open_index(path, DIM, metric)


def test_memory_of_a_build_does_not_grow_with_the_square_of_a_chunk(tmp_path: Path) -> None:
    vectors = np.random.default_rng(4).standard_normal((8000, 4)).astype(np.float32)
    tracemalloc.start()
    build_hnsw(tmp_path / "index", [(np.arange(8000), vectors)], 8000, 4, "l2")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 64 * 2**20
