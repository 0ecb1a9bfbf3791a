"""Regional vectors: of each item those of a few boxes in its picture, next to the one of the whole.

They have an index of their own, whose labels are ``id * boxes + box``, and are searched as items are: the nearest item is the
one whose nearest box is.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.backend import Neighbours
from index.catalogue.files import region_files
from index.columns.file import ColumnsFile
from index.errors import DamagedIndex
from index.hnsw.mapped_index import MappedIndex, open_index
from index.metrics import Metric
from index.row_mask import Allowed, allow_mask

Box = tuple[float, float, float, float]  # x, y, width and height, in shares of a picture


class MergedRegions:
    """The regional vectors of a generation's items, mapped; any thread may use it."""

    def __init__(self, index: MappedIndex, columns: ColumnsFile) -> None:
        self.index = index
        self.boxes = len(index) // columns.count
        self._columns = columns

    def allow(self, items: Allowed) -> Allowed:
        """Return the rows of the regional index whose items are allowed."""
        return allow_mask(items.mask()[self._item_rows])

    def vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the regional vectors of items that it has, float32 [n, boxes, dim]."""
        labels, order = self._labels
        rows = order[np.searchsorted(labels[order], labels_of(ids, self.boxes))]
        return self.index.vectors()[rows].reshape(len(ids), self.boxes, self.index.dim)

    @functools.cached_property
    def _labels(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        labels = self.index.labels()
        return labels, np.argsort(labels)

    @functools.cached_property
    def _item_rows(self) -> NDArray[np.int64]:
        """The row in the index of items that each of its own rows is of."""
        return self._columns.rows(self._labels[0] // self.boxes)


def open_regions(folder: Path, base: str, dim: int, metric: Metric, columns: ColumnsFile) -> MergedRegions:
    """Map the regional vectors of a generation, whose index file is ``base``. Raises DamagedIndex."""
    path, codes = (folder / name for name in region_files(base))
    index = open_index(path, dim, metric, codes)
    if not len(index) or len(index) % columns.count:
        raise DamagedIndex(f"{path} holds {len(index)} rows for {columns.count} items; restore or rebuild it")
    return MergedRegions(index, columns)


def labels_of(ids: NDArray[np.int64], boxes: int) -> NDArray[np.int64]:
    """Return the labels of all boxes of items, int64 [n * boxes]."""
    return (ids[:, None] * boxes + np.arange(boxes)).reshape(-1)


def nearest_items(found: Neighbours, boxes: int) -> Neighbours:
    """Return the items of neighbours in a regional index, each by its nearest box."""
    ids = found.labels // boxes
    first = np.sort(np.unique(ids, return_index=True)[1])
    return Neighbours(ids[first], found.distances[first])
