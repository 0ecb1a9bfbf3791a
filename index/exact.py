"""The exact search: slow, certain, and the judge of every approximate answer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from index.hnsw.file import Metric
from index.hnsw.mapped_index import Neighbours, as_queries


def search_exact(
    vectors: NDArray[np.float32],
    labels: NDArray[np.int64],
    queries: NDArray[np.float32],
    k: int,
    metric: Metric,
) -> list[Neighbours]:
    """Compare each query, float32 [n, dim], with every row of ``vectors``, float32 [count, dim].

    Gives up to ``k`` neighbours each, nearest first, equal distances by label. Cosine expects unit ``vectors``. Raises
    DimensionMismatch for queries of another length.
    """
    rows = as_queries(queries, vectors.shape[1])
    if metric == "cosine":
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-30))
    distances = 1 - rows @ vectors.T
    if metric == "l2":
        lengths = (vectors**2).sum(axis=1)[None, :] + (rows**2).sum(axis=1)[:, None]
        distances = np.maximum(lengths + 2 * (distances - 1), 0)
    results = []
    for row in distances.astype(np.float32):
        kept = np.argpartition(row, k - 1)[:k] if k < len(row) else np.arange(len(row))
        kept = kept[np.lexsort((labels[kept], row[kept]))]
        results.append(Neighbours(labels[kept], row[kept]))
    return results


def recall(found: list[Neighbours], truth: list[Neighbours]) -> float:
    """Recall@k: the share of the true neighbours that were found, over all queries."""
    hits = sum(np.isin(right.labels, left.labels).sum() for left, right in zip(found, truth, strict=True))
    return float(hits) / max(1, sum(len(right.labels) for right in truth))
