"""Every backend keeps the contract of index/backend.py: the same tests run over the mapped index and the exact one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from index import (
    METRICS,
    DimensionMismatch,
    ExactIndex,
    IndexBackend,
    Metric,
    UnsupportedOperation,
    allow_rows,
    build_codes,
    build_hnsw,
    open_hnsw_file,
    open_index,
    recall,
    search_exact,
)
from tests.index.test_mapped_index import clusters

COUNT, DIM, K = 1000, 24, 10
LABELS = np.arange(COUNT, dtype=np.int64) * 3 + 7
Make = Callable[[np.ndarray, Metric], IndexBackend]


def mapped(folder: Path, *, codes: bool) -> Make:
    def make(vectors: np.ndarray, metric: Metric) -> IndexBackend:
        path = folder / f"{metric}.hnsw"
        build_hnsw(path, [(LABELS[: len(vectors)], vectors)], len(vectors), DIM, metric)
        if codes:
            build_codes(path.with_suffix(".codes"), open_hnsw_file(path, DIM), metric)
        return open_index(path, DIM, metric, path.with_suffix(".codes") if codes else None)

    return make


def exact(vectors: np.ndarray, metric: Metric) -> IndexBackend:
    index = ExactIndex(DIM, metric)
    for part in np.array_split(np.arange(len(vectors)), 3):
        index.add(LABELS[part], vectors[part])
    return index


@pytest.fixture(params=["mapped by codes", "mapped by vectors", "exact"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """A maker of one of the backends."""
    return exact if request.param == "exact" else mapped(tmp_path, codes=request.param == "mapped by codes")


@pytest.fixture(params=get_args(Metric))
def index(request: pytest.FixtureRequest, make: Make) -> IndexBackend:
    """A backend over vectors of different lengths, under each metric."""
    return make(clusters(COUNT, DIM) * np.linspace(0.5, 2, COUNT, dtype=np.float32)[:, None], request.param)


def test_it_says_what_it_holds(index: IndexBackend) -> None:
    assert (index.dim, index.counts()) == (DIM, (COUNT, COUNT))
    assert sorted(index.labels().tolist()) == LABELS.tolist()
    assert index.vectors().shape == (COUNT, DIM)
    lengths = np.linalg.norm(index.vectors(), axis=1)
    assert np.allclose(lengths, 1, atol=1e-5) == METRICS[index.metric].normalized


def test_it_finds_what_an_exact_search_finds(index: IndexBackend) -> None:
    queries = clusters(100, DIM, 1)
    truth = search_exact(index.vectors(), index.labels(), queries, K, index.metric)
    found = index.search(queries, K, 200)
    assert recall(found, truth) >= 0.99
    for one in found:
        assert (np.diff(one.distances) >= 0).all()
        scores = METRICS[index.metric].score(one.distances.astype(np.float64))
        assert (np.diff(scores) <= 0).all(), "a higher score is closer"


@pytest.mark.parametrize("share", [0.5, 0.01])
def test_a_filter_keeps_its_hits(index: IndexBackend, share: float) -> None:
    assert "filter" in index.capabilities
    rows = np.random.default_rng(2).choice(COUNT, int(COUNT * share), replace=False)
    queries = clusters(50, DIM, 1)
    found = index.search(queries, K, 200, allowed=allow_rows(rows, COUNT))
    truth = search_exact(index.vectors()[rows], index.labels()[rows], queries, K, index.metric)
    assert [len(one.labels) for one in found] == [min(K, len(rows))] * len(queries)
    assert recall(found, truth) >= 0.99


def test_a_score_means_what_the_table_says(index: IndexBackend) -> None:
    query = clusters(1, DIM, 1)[0]
    (found,) = index.search(query[None], 1, 200)
    vector = index.vectors()[index.labels().tolist().index(int(found.labels[0]))]
    score = METRICS[index.metric].score(found.distances.astype(np.float64))[0]
    expected = {
        "cosine": vector @ query / np.linalg.norm(query),
        "ip": vector @ query,
        "l2": -np.linalg.norm(vector - query),
    }[index.metric]
    assert score == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_what_it_cannot_do_is_refused_by_name(index: IndexBackend) -> None:
    fresh, vector = np.array([1], np.int64), np.ones((1, DIM), np.float32)
    if "add" not in index.capabilities:
        with pytest.raises(UnsupportedOperation, match="build its file again"):
            index.add(fresh, vector)
    if "remove" not in index.capabilities:
        with pytest.raises(UnsupportedOperation, match="build its file again"):
            index.remove(fresh)
    with pytest.raises(DimensionMismatch):
        index.search(np.ones((1, DIM + 1), np.float32), K)
    with pytest.raises(ValueError, match="at least 1"):
        index.search(vector, 0)


@pytest.mark.parametrize("metric", get_args(Metric))
@pytest.mark.parametrize("make_writable", [exact])  # every maker whose backend says that it adds and removes
def test_what_is_added_is_found_and_what_is_removed_is_not(make_writable: Make, metric: Metric) -> None:
    index = make_writable(clusters(COUNT, DIM), metric)
    assert {"add", "remove"} <= index.capabilities
    far = np.full((1, DIM), 50, np.float32)
    index.add(np.array([1]), far)
    assert index.search(far, 1)[0].labels.tolist() == [1]
    index.add(np.array([1]), -far)  # the same label again replaces
    assert index.counts().rows == COUNT + 1
    assert index.search(-far, 1)[0].labels.tolist() == [1]
    assert index.remove(np.array([1, 2])) == 1
    assert index.search(-far, 1)[0].labels.tolist() != [1]
    with pytest.raises(DimensionMismatch):
        index.add(np.array([1]), np.ones((1, 3), np.float32))


def test_an_empty_index_finds_nothing(make: Make) -> None:
    if make is exact:
        index = make(np.empty((0, DIM), np.float32), "cosine")
        assert index.search(np.ones((2, DIM), np.float32), K)[1].labels.tolist() == []
    one = make(np.ones((1, DIM), np.float32), "cosine")
    assert [found.labels.tolist() for found in one.search(np.ones((2, DIM), np.float32), K)] == [[7], [7]]
