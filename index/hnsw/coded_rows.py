"""Vectors in memory that are searched by their codes: all of them are compared roughly, and the best by their vectors."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.backend import Neighbours, as_queries
from index.exact import search_exact
from index.hnsw.codes import OFF, encode
from index.hnsw.kernel.loader import kernel, kernel_is_there
from index.hnsw.kernel.types import INNER_PRODUCT, SQUARED_L2, Rotation, Scratch, Vectors
from index.hnsw.rotation import padded_dim
from index.metrics import METRICS, Metric

LEAST_ROOM = 64  # rows


@dataclass(frozen=True, slots=True)
class CodedRows:
    """Vectors, float32 [n, dim], of unit length under cosine; their codes, uint8 [n, padded], and terms, float32 [n, 3]."""

    vectors: NDArray[np.float32]
    codes: NDArray[np.uint8]
    terms: NDArray[np.float32]

    @staticmethod
    def of(vectors: NDArray[np.float32], metric: Metric) -> CodedRows:
        """Encode vectors, float32 [n, dim]."""
        return CodedRows(vectors, *encode(vectors, metric))

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
        rows = np.array(as_queries(queries, self.vectors.shape[1]), order="C")
        (n, dim), k = rows.shape, min(k, len(self))
        found = np.empty((n, k), np.int64), np.empty((n, k), np.float32), np.empty(n, np.int64)
        unit, space = METRICS[metric].normalized, SQUARED_L2 if METRICS[metric].euclidean else INNER_PRODUCT
        words = np.ascontiguousarray(labels).view(np.uint32).reshape(-1, 2)
        vectors = Vectors(self.vectors, words, 0, 0, dim, space, unit)
        places = np.arange(len(self)) if allowed is None else np.flatnonzero(allowed)
        scratch = _scratch(len(places), k, dim)
        coded = self.codes, self.terms, 0, _unrotated(dim)
        kernel().scan_codes(rows, k, OFF, places, *coded, vectors, scratch, *found)
        return [Neighbours(near[:size], far[:size]) for near, far, size in zip(*found, strict=True)]


@functools.cache
def _unrotated(dim: int) -> Rotation:
    """No rotation, about zero."""
    none = np.empty((0, padded_dim(dim)), np.float32)
    return Rotation(np.zeros(dim, np.float32), none.astype(np.uint32), none)


def _scratch(count: int, k: int, dim: int) -> Scratch:
    """Room for a scan of so many rows."""
    return Scratch(
        visited=np.empty(0, np.uint16),
        near=np.empty(count, np.float32),
        near_ids=np.empty(k + 1, np.int64),
        leaders=np.empty(0, np.int64),
        exact=np.empty(k + 1, np.float64),
        found=np.empty(k + 1, np.float32),
        found_ids=np.empty(k + 1, np.int64),
        fresh=np.empty(0, np.int64),
        taken=np.empty(0, np.int64),
        best=np.empty(0, np.int64),
        narrow=np.empty(0, np.int64),
        close=np.empty(0, np.int64),
        query=np.empty(dim, np.float32),
        rotated=np.empty(padded_dim(dim), np.float32),
        other=np.empty(0, np.float32),
        query_codes=np.empty(padded_dim(dim), np.int8),
        planes=np.empty(0, np.uint64),
        factors=np.empty(0, np.float32),
        state=np.empty(0, np.int64),
    )


def _extended(old: NDArray[Any], new: NDArray[Any], room: int | None) -> NDArray[Any]:
    """Return rows and more rows, in the buffer of the old ones, or in a new one with room for so many; free rows are NaN."""
    buffer = old.base
    if room is not None or buffer is None:
        fill = np.nan if old.dtype == np.float32 else 0
        buffer = np.full((room or 0, new.shape[1]), fill, old.dtype)
        buffer[: len(old)] = old
    buffer[len(old) : len(old) + len(new)] = new
    return buffer[: len(old) + len(new)]
