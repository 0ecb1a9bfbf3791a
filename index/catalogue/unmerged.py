"""The items that a generation's index has not, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.catalogue.hashes import as_hashes
from index.catalogue.regions import labels_of
from index.exact import unit_rows
from index.hnsw.coded_rows import CodedRows
from index.metrics import METRICS, Metric


@dataclass(frozen=True, slots=True)
class Unmerged:
    """Items that the index has not: ``ids``, int64 [n], ascending; their vectors and their metadata.

    ``regions`` are the vectors of the boxes in each, ``boxes`` for an item, one item after the other; 0 for none. ``hashes``:
    their perceptual hashes, uint64 [n, 4].
    """

    ids: NDArray[np.int64]
    rows: CodedRows
    metadata: tuple[dict[str, Any], ...]
    regions: CodedRows
    boxes: int
    hashes: NDArray[np.uint64]

    @staticmethod
    def read(
        rows: Sequence[tuple[int, bytes, dict[str, Any], bytes, bytes]], dim: int, boxes: int, metric: Metric
    ) -> Unmerged:
        """Return items as the database has them: ids, vectors, metadata, hashes and regional vectors.

        The bytes of the last two may be empty. Raises DamagedIndex.
        """
        return Unmerged(
            np.array([item_id for item_id, *_ in rows], np.int64),
            _as_rows([vector for _, vector, *_ in rows], len(rows), dim, metric),
            tuple(metadata for _, _, metadata, *_ in rows),
            _as_rows([regions for *_, regions in rows], len(rows) * boxes, dim, metric),
            boxes,
            as_hashes([data for *_, data, _ in rows]),
        )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def vectors(self) -> NDArray[np.float32]:
        """float32 [n, dim], of unit length under cosine."""
        return self.rows.vectors

    @property
    def region_labels(self) -> NDArray[np.int64]:
        """The labels of the boxes of all items, int64 [n * boxes]."""
        return labels_of(self.ids, self.boxes)

    def having(self, more: Unmerged) -> Unmerged:
        """Return these and more, whose ids are larger."""
        if not len(more):
            return self
        return replace(
            self,
            ids=np.append(self.ids, more.ids),
            rows=self.rows.having(more.rows),
            metadata=(*self.metadata, *more.metadata),
            regions=self.regions.having(more.regions) if self.boxes else self.regions,
            hashes=np.concatenate([self.hashes, more.hashes]),
        )

    def lacking(self, ids: set[int]) -> Unmerged:
        """Return these without those of ``ids``."""
        kept = np.array([place for place, one in enumerate(self.ids.tolist()) if one not in ids], np.int64)
        if len(kept) == len(self):
            return self
        return replace(
            self,
            ids=self.ids[kept],
            rows=self.rows.taking(kept),
            metadata=tuple(self.metadata[place] for place in kept),
            regions=self.regions.taking(labels_of(kept, self.boxes)),
            hashes=self.hashes[kept],
        )

    def saying(self, updated: Mapping[int, dict[str, Any]]) -> Unmerged:
        """Return these with other metadata for some."""
        if not any(one in updated for one in self.ids.tolist()):
            return self
        pairs = zip(self.ids.tolist(), self.metadata, strict=True)
        return replace(self, metadata=tuple(updated.get(one, old) for one, old in pairs))


def _as_rows(vectors: Sequence[bytes], count: int, dim: int, metric: Metric) -> CodedRows:
    rows = np.frombuffer(b"".join(vectors), np.float32).reshape(count, dim)
    return CodedRows.of(unit_rows(rows) if METRICS[metric].normalized and len(rows) else rows, metric)
