"""Vectors in memory that are searched by their codes: all of them are compared roughly, and the best by their vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.backend import Neighbours, as_queries
from index.exact import exact_distances, search_exact, unit_rows
from index.hnsw.codes import encode
from index.hnsw.kernel.loader import kernel, kernel_is_there
from index.metrics import METRICS, Metric

LEAST_ROOM = 64  # rows
# A code is off by a part of its scale that is uniform, so a product with a query by ‖q‖·scale/√12, about normally. What is
# this many of these beyond the k-th is beyond it by its vector too, but for one row in a million at that very place.
DEVIATIONS = 7


@dataclass(frozen=True, slots=True)
class CodedRows:
    """Vectors, float32 [n, dim], of unit length under cosine, with their codes, int8 [n, dim], and terms, float32 [n, 2]."""

    vectors: NDArray[np.float32]
    codes: NDArray[np.int8]
    terms: NDArray[np.float32]

    @staticmethod
    def of(vectors: NDArray[np.float32], metric: Metric) -> CodedRows:
        """Encode vectors, float32 [n, dim]."""
        codes, terms = (
            encode(vectors, metric) if len(vectors) else (vectors.astype(np.int8), np.empty((0, 2), np.float32))
        )
        return CodedRows(vectors, codes, terms)

    def __len__(self) -> int:
        return len(self.vectors)

    def having(self, more: CodedRows) -> CodedRows:
        """Return these rows and more. They share buffers with room at their ends, so that a few more cost only themselves.

        A buffer's next rows are written once: whoever has fewer rows of it never looks there.
        """
        count, total = len(self), len(self) + len(more)
        first = self.vectors.base
        free = isinstance(first, np.ndarray) and first.ndim == 2 and len(first) > total and np.isnan(first[count, 0])
        room = None if free else max(LEAST_ROOM, 2 * total)
        return CodedRows(
            _extended(self.vectors, more.vectors, room),
            _extended(self.codes, more.codes, room),
            _extended(self.terms, more.terms, room),
        )

    def taking(self, places: NDArray[np.int64]) -> CodedRows:
        """Return some of these rows."""
        return CodedRows(self.vectors[places], self.codes[places], self.terms[places])

    def search(
        self,
        labels: NDArray[np.int64],
        queries: NDArray[np.float32],
        k: int,
        metric: Metric,
        allowed: NDArray[np.bool_] | None = None,
    ) -> list[Neighbours]:
        """Find up to ``k`` nearest rows of each query, float32 [n, dim], among those ``allowed``, bool [rows], or all.

        Raises DimensionMismatch for queries of another length.
        """
        if not kernel_is_there():
            kept = slice(None) if allowed is None else allowed
            return search_exact(self.vectors[kept], labels[kept], queries, k, metric)
        rows = as_queries(queries, self.vectors.shape[1])
        unit = METRICS[metric].normalized
        if unit:
            rows = unit_rows(rows)
        rough = np.empty((len(rows), len(self)), np.float32)
        dim = rows.shape[1]
        room = (np.empty(dim, np.float32), np.empty(dim, np.int16))
        kernel().scan_codes(np.array(rows, order="C"), unit, self.codes, self.terms, *room, rough)
        off = DEVIATIONS / np.sqrt(12) * float(np.abs(self.terms[:, 1]).max(initial=0)) * np.linalg.norm(rows, axis=1)
        return [
            self._nearest(labels, query, distances, k, metric, allowed, margin)
            for query, distances, margin in zip(rows, rough, off.tolist(), strict=True)
        ]

    def _nearest(
        self,
        labels: NDArray[np.int64],
        query: NDArray[np.float32],
        rough: NDArray[np.float32],
        k: int,
        metric: Metric,
        allowed: NDArray[np.bool_] | None,
        margin: float,
    ) -> Neighbours:
        places = np.arange(len(rough)) if allowed is None else np.flatnonzero(allowed)
        some = rough if allowed is None else rough[places]
        if k < len(some):
            places = places[some <= np.partition(some, k - 1)[k - 1] + margin]
        exact = exact_distances(query, self.vectors[places], metric)
        order = np.lexsort((labels[places], exact))[:k]
        return Neighbours(labels[places][order], exact[order].astype(np.float32))


def _extended(old: NDArray[Any], new: NDArray[Any], room: int | None) -> NDArray[Any]:
    """Return rows and more rows, in the buffer of the old ones, or in a new one with room for so many; free rows are NaN."""
    buffer = old.base
    if room is not None or buffer is None:
        fill = np.nan if old.dtype == np.float32 else 0
        buffer = np.full((room or 0, new.shape[1]), fill, old.dtype)
        buffer[: len(old)] = old
    buffer[len(old) : len(old) + len(new)] = new
    return buffer[: len(old) + len(new)]
