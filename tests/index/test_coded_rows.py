"""Vectors in memory that are searched by their codes give the answers of the exact search."""

from __future__ import annotations

import numpy as np
import pytest

from index import DimensionMismatch, Metric, search_exact
from index.exact import unit_rows
from index.hnsw.coded_rows import CodedRows
from index.metrics import METRICS

K = 10


def rows_of(count: int, dim: int, metric: Metric, noise: float | None = None) -> np.ndarray:
    dice = np.random.default_rng(count + dim)
    rows = dice.standard_normal((count, dim)).astype(np.float32)
    if noise is not None:
        rows = (rows[:1] + noise * rows).astype(np.float32)
    return unit_rows(rows) if METRICS[metric].normalized else rows


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("noise", [None, 0, 1e-4, 0.01, 0.2])
@pytest.mark.parametrize(("count", "dim"), [(1, 16), (9, 16), (3000, 64), (1000, 1280)])
def test_the_answers_are_those_of_the_exact_search(count: int, dim: int, metric: Metric, noise: float | None) -> None:
    vectors = rows_of(count, dim, metric, noise)
    labels = np.arange(count) * 3 + 1
    queries = np.concatenate([vectors[:5], rows_of(20, dim, metric)])
    rows = CodedRows.of(vectors[:0], metric)
    for at in range(0, count, 700):
        rows = rows.having(CodedRows.of(vectors[at : at + 700], metric))
    for allowed in (None, np.arange(count) % 4 == 0):
        kept = slice(None) if allowed is None else allowed
        true = search_exact(vectors[kept], labels[kept], queries, K, metric)
        for one, other in zip(rows.search(labels, queries, K, metric, allowed), true, strict=True):
            assert one.labels.tolist() == other.labels.tolist()
            assert np.allclose(one.distances, other.distances, atol=1e-6)  # the query is scaled by another rounding


def test_rows_that_share_a_buffer_do_not_write_over_each_other() -> None:
    first = CodedRows.of(rows_of(10, 8, "cosine"), "cosine")
    one = first.having(CodedRows.of(rows_of(20, 8, "cosine"), "cosine"))
    two, three = (one.having(CodedRows.of(rows_of(count, 8, "cosine"), "cosine")) for count in (5, 6))
    assert [len(some) for some in (first, one, two, three)] == [10, 30, 35, 36]
    for some, count in ((two, 5), (three, 6)):
        assert np.array_equal(some.vectors[30:], rows_of(count, 8, "cosine"))
        assert np.array_equal(some.codes, CodedRows.of(some.vectors.copy(), "cosine").codes)
    assert len(three.taking(np.array([1, 35]))) == 2


def test_queries_of_another_length_are_refused() -> None:
    rows = CodedRows.of(rows_of(10, 8, "cosine"), "cosine")
    with pytest.raises(DimensionMismatch):
        rows.search(np.arange(10), np.ones((1, 9), np.float32), 3, "cosine")
