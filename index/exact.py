"""The exact search: slow, certain, and the judge of every approximate answer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from index.backend import DEFAULT_EF, Capability, Counts, Neighbours, as_queries, check_widths
from index.metrics import METRICS, Metric
from index.row_mask import Allowed

ROUNDING = np.float32(1e-5)  # of a distance, by far: what float32 may get wrong in a matrix product
TINY = np.float32(1e-30)  # a vector of zeros is left as it is


class ExactIndex:
    """An index that compares each query with every vector of a float32 matrix; recall is 1 by definition."""

    capabilities: frozenset[Capability] = frozenset({"filter", "add", "remove"})

    def __init__(self, dim: int, metric: Metric) -> None:
        """Make an empty index of ``dim``-d vectors."""
        self.dim = dim
        self.metric: Metric = metric
        self._labels = np.empty(0, np.int64)
        self._vectors = np.empty((0, dim), np.float32)

    def counts(self) -> Counts:
        """Count its rows; none is deleted, since removed rows are dropped."""
        return Counts(len(self._labels), len(self._labels))

    def labels(self) -> NDArray[np.int64]:
        """Return all labels by row, int64 [rows]."""
        return self._labels

    def vectors(self) -> NDArray[np.float32]:
        """Return all vectors by row, float32 [rows, dim]; of unit length where the metric is cosine."""
        return self._vectors

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        ef: int = DEFAULT_EF,
        *,
        allowed: Allowed | None = None,
        threads: int = 1,
    ) -> list[Neighbours]:
        """Find the ``k`` nearest of each query, float32 [n, dim], among the rows ``allowed``; ``ef`` changes nothing.

        Raises DimensionMismatch for queries of another shape, ValueError for a k or ef below 1.
        """
        check_widths(k, ef)
        rows = slice(None) if allowed is None else allowed.rows()
        return search_exact(self._vectors[rows], self._labels[rows], queries, k, self.metric)

    def add(self, labels: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add vectors, float32 [n, dim]; a label that is there already gets the new vector. Raises DimensionMismatch."""
        rows = as_queries(vectors, self.dim)
        if METRICS[self.metric].normalized:
            rows = unit_rows(rows)
        self.remove(labels)
        self._labels = np.concatenate([self._labels, np.asarray(labels, np.int64)])
        self._vectors = np.concatenate([self._vectors, rows])

    def remove(self, labels: NDArray[np.int64]) -> int:
        """Remove labels, and return how many were there; later rows move up."""
        kept = ~np.isin(self._labels, labels)
        self._labels, self._vectors = self._labels[kept], self._vectors[kept]
        return int((~kept).sum())


def search_exact(
    vectors: NDArray[np.float32],
    labels: NDArray[np.int64],
    queries: NDArray[np.float32],
    k: int,
    metric: Metric,
) -> list[Neighbours]:
    """Compare each query, float32 [n, dim], with every row of ``vectors``, float32 [count, dim].

    Returns up to ``k`` neighbours each, nearest first, equal distances by label. Cosine expects unit ``vectors``. Raises
    DimensionMismatch for queries of another length.
    """
    rows = as_queries(queries, vectors.shape[1])
    if METRICS[metric].normalized:
        rows = unit_rows(rows)
    distances = 1 - rows @ vectors.T
    scale = np.ones(len(rows), np.float32)
    if METRICS[metric].euclidean:
        scale = (rows**2).sum(axis=1)
        lengths = (vectors**2).sum(axis=1)[None, :] + scale[:, None]
        distances = np.maximum(lengths + 2 * (distances - 1), 0)
    elif not METRICS[metric].normalized:
        scale = np.abs(distances).max(axis=1, initial=1)
    results = []
    for query, row, one in zip(rows, distances, scale, strict=True):
        kept = np.arange(len(row))
        if k < len(row):
            kept = np.flatnonzero(row <= np.partition(row, k - 1)[k - 1] + ROUNDING * one)
        exact = exact_distances(query, vectors[kept], metric)
        order = np.lexsort((labels[kept], exact))[:k]
        results.append(Neighbours(labels[kept][order], exact[order].astype(np.float32)))
    return results


def exact_distances(query: NDArray[np.float32], vectors: NDArray[np.float32], metric: Metric) -> NDArray[np.float64]:
    """Return the distances of one query in float64: equal for equal vectors, as those of a matrix product are not."""
    if METRICS[metric].euclidean:
        return np.square(vectors - query.astype(np.float64)).sum(axis=1)
    return 1 - (vectors * query.astype(np.float64)).sum(axis=1)


def recall(found: list[Neighbours], truth: list[Neighbours]) -> float:
    """Return recall@k: the share of the true neighbours that were found, over all queries."""
    hits = sum(np.isin(right.labels, left.labels).sum() for left, right in zip(found, truth, strict=True))
    return float(hits) / max(1, sum(len(right.labels) for right in truth))


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows, float32 [n, dim], to unit length; zeros stay zeros."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), TINY)
