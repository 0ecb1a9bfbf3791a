"""One generation's files, open: the index, its companion of codes, the columns of its items' metadata, and their regions."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from index.catalogue.files import base_files, region_files
from index.catalogue.generation import Generation
from index.catalogue.hashes import open_hashes
from index.catalogue.regions import open_regions
from index.columns.file import open_columns
from index.errors import DamagedIndex
from index.filters import Filter
from index.hnsw.mapped_index import open_index
from index.metrics import Metric
from index.row_mask import Allowed, allow_mask

KEPT_FILTERS = 16  # whose rows are cached: a bit for each row of the index, and half a megabyte at most


Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """The last values that were asked for. Unlike functools.lru_cache of a method it does not keep its owner alive."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[Key, Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """Return a value, made if need be."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        value = make()
        with self._lock:
            self._kept[key] = value
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return value


class Base:
    """The mapped files of a generation; they stay readable when they are unlinked, until the last reader has gone.

    Raises DamagedIndex when one is missing or is none, FileNotFoundError where it went away meanwhile.
    """

    def __init__(self, folder: Path, generation: Generation, metric: Metric) -> None:
        self.generation = generation
        more = [name for name in region_files(generation.base) if name in generation.files]
        self.paths = [folder / name for name in (*base_files(generation.base), *more)]
        for path in self.paths:
            if not path.is_file():
                raise DamagedIndex(f"the catalogue's index file {path} is missing; restore or rebuild the catalogue")
        self.sizes = [path.stat().st_size for path in self.paths]
        base, codes, columns, hashes = self.paths[:4]
        self.index = open_index(base, generation.dim, metric, codes)
        self.columns = open_columns(columns)
        for path, rows in ((base, len(self.index)), (columns, self.columns.count)):
            if rows != generation.count:
                raise DamagedIndex(
                    f"{path} holds {rows} rows, the generation {generation.count} items; restore or rebuild it"
                )
        self.hashes = open_hashes(hashes, generation.count)
        dim = generation.dim
        self.regions = open_regions(folder, generation.base, dim, metric, self.columns) if more else None
        self._recent: Recent[Filter, Allowed] = Recent(KEPT_FILTERS)

    def allow(self, condition: Filter) -> Allowed:
        """Return which rows of the index a filter allows; those of recent filters are kept. Raises DamagedIndex."""
        return self._recent.get(condition, lambda: self.read_allowed(condition))

    def read_allowed(self, condition: Filter) -> Allowed:
        """Return which rows of the index a filter allows. Raises DamagedIndex."""
        return allow_mask(condition.rows(self.columns))

    def find_vectors(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Return which items it has, bool [n], and the vectors of those, float32 [has, dim]."""
        rows = self.columns.rows(ids)
        return rows >= 0, self.index.vectors()[rows[rows >= 0]]

    def find_regions(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Return which items it has, bool [n], and the regional vectors of those, float32 [has, boxes * dim]."""
        assert self.regions
        has = self.columns.rows(ids) >= 0
        return has, self.regions.vectors(ids[has]).reshape(-1, self.regions.boxes * self.generation.dim)

    def vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of items that it has, float32 [n, dim]."""
        return self.index.vectors()[self.columns.rows(ids)]
