"""Open a catalogue folder and search it."""

from __future__ import annotations

import functools
import itertools
import json
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from index.backend import DEFAULT_EF
from index.catalogue.database import Reading, open_database, read_meta
from index.catalogue.files import DATABASE, EXTRACTOR, FORMAT_VERSION, codes_file
from index.errors import CatalogueMismatch, CatalogueNotFound, DamagedIndex
from index.exact import search_exact
from index.filter_json import field_names
from index.filters import Condition, compile_filter
from index.hnsw.mapped_index import MappedIndex, open_index
from index.metrics import METRICS, Metric
from index.row_mask import Allowed, allow_rows

THREADS = os.cpu_count() or 1
KEPT_FILTERS = 16  # whose rows are cached: a bit for each row of the index, and half a megabyte at most
WITH_FIELD = "SELECT 1 FROM items, json_each(metadata) AS field WHERE field.key = ?"
FIELDS = "SELECT DISTINCT field.key FROM (SELECT metadata FROM items LIMIT 1000), json_each(metadata) AS field LIMIT 50"
LONGEST_KEPT = 10_000  # characters of a filter's values: a longer filter is looked up each time


@dataclass(frozen=True, slots=True)
class CatalogueInfo:
    """What a catalogue says of itself. ``fingerprint`` is that of the extractor whose vectors it holds, ``files`` has the
    SHA-256 of each of its files but the database."""

    format_version: int
    model: str
    fingerprint: str
    dim: int
    metric: Metric
    m: int
    ef_construction: int
    labelled: bool
    generation: int
    base: str
    files: dict[str, str]
    tables_sha256: str
    created_at: str
    count: int


_INFO = TypeAdapter(CatalogueInfo)


@dataclass(frozen=True, slots=True)
class Item:
    """A picture in the catalogue. ``key`` is the name its owner gave it; ``metadata`` is JSON-ready."""

    id: int
    key: str
    sha256: str
    added_at: str
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Hit:
    """An item found by a search; a higher ``score`` is closer: METRICS says what it means for each metric."""

    item: Item
    score: float


class Catalogue:
    """An open catalogue: reads only, from any thread; many processes can hold the same one."""

    def __init__(self, folder: Path, database: Reading, info: CatalogueInfo, index: MappedIndex) -> None:
        self.folder = folder
        self.info = info
        self.index = index
        self._database = database
        # A filter may look at every item: it must not hold up those who only want to know what their hits are called.
        self._filtered = Reading(open_database(folder))
        paths = [folder / name for name in (DATABASE, info.base, codes_file(info.base))]
        self._files = {path: (path.stat().st_ino, path.stat().st_size) for path in paths}
        self._allowed = functools.lru_cache(KEPT_FILTERS)(self._read_allowed)

    @property
    def extractor_folder(self) -> Path:
        """Where the extractor is that made this catalogue's vectors."""
        return self.folder / EXTRACTOR

    def __len__(self) -> int:
        return self.info.count

    def fault(self) -> str | None:
        """Return why the files can no longer be read, or None: they are gone, or were cut short. It costs little."""
        try:
            for path, (number, size) in self._files.items():
                now = path.stat()
                if now.st_ino == number and now.st_size < size:  # another file is another catalogue, to be opened later
                    return f"{path} was cut short from {size:,} to {now.st_size:,} bytes; restore it, and start again"
            self._select("id", [1])
            self._filtered.query("SELECT 1 FROM items LIMIT 1")
        except OSError as error:
            return f"the catalogue's files are gone ({error.filename}: {error.strerror}); restore them, and start again"
        except DamagedIndex as error:
            return str(error)
        return None

    def check_made_with(self, fingerprint: str) -> None:
        """Raise CatalogueMismatch unless the extractor with this fingerprint made this catalogue's vectors."""
        if fingerprint != self.info.fingerprint:
            raise CatalogueMismatch(
                f"the catalogue {self.folder} was made with {self.info.model} ({self.info.fingerprint[:12]}), not with the "
                f"extractor at hand ({fingerprint[:12]}): model, weights and preprocessing must be the same; build it again"
            )

    def allow(self, where: object) -> Allowed:
        """Return the rows that a filter on the metadata allows (docs: index/filters.py); those of recent filters are kept.

        Raises InvalidFilter, which points at the place, and DamagedIndex when the database cannot be read.
        """
        condition = compile_filter(where)
        long = sum(len(str(value)) for value in condition.values) > LONGEST_KEPT
        return self._read_allowed(condition) if long else self._allowed(condition)

    def hint(self, where: object) -> str | None:
        """Return which fields of a filter no item has, and which there are, or None where there is nothing to say."""
        asked = dict.fromkeys(field_names(where))
        lacking = [name for name in asked if not self._filtered.query(f"{WITH_FIELD} LIMIT 1", (name,))]
        if not lacking:
            return None
        there = sorted(name for (name,) in self._filtered.query(FIELDS))
        wrong = ", ".join(json.dumps(name, ensure_ascii=False) for name in lacking)
        return f"no item has the field {wrong}; there are: {', '.join(there) or 'none'}"

    def search(
        self,
        vectors: NDArray[np.float32],
        k: int,
        *,
        ef: int = DEFAULT_EF,
        allowed: Allowed | None = None,
        without: Sequence[int | None] = (),
    ) -> list[list[Hit]]:
        """Find up to ``k`` nearest items of each query, float32 [n, dim], among those that ``allowed`` allows.

        ``without`` names for each query an item that is not to be its hit. Raises DimensionMismatch for queries of another
        length, DamagedIndex when the index file is broken.
        """
        more = int(any(item is not None for item in without))
        found = self.index.search(vectors, k + more, max(ef, k + more), allowed=allowed, threads=THREADS)
        kept = [
            [pair for pair in zip(one.labels.tolist(), self._scores(one.distances), strict=True) if pair[0] != left_out]
            for one, left_out in itertools.zip_longest(found, without)
        ]
        items = self.items(list({label for pairs in kept for label, _ in pairs[:k]}))
        return [[Hit(items[label], score) for label, score in pairs[:k] if label in items] for pairs in kept]

    def search_exactly(self, vectors: NDArray[np.float32], k: int) -> list[list[tuple[int, float]]]:
        """Return the true ``k`` nearest of each query, by comparing with every vector: pairs of item id and score."""
        found = search_exact(self.index.vectors(), self.index.labels(), vectors, k, self.info.metric)
        return [list(zip(one.labels.tolist(), self._scores(one.distances), strict=True)) for one in found]

    def _scores(self, distances: NDArray[np.float32]) -> list[float]:
        scores: list[float] = METRICS[self.info.metric].score(distances.astype(np.float64)).tolist()
        return scores

    def items(self, ids: Sequence[int]) -> dict[int, Item]:
        """Return the items with these ids; those that are not there are left out."""
        return {item.id: item for item in self._select("id", ids)}

    def items_by_key(self, keys: Sequence[str]) -> dict[str, Item]:
        """Return the items with these keys, which are compared in NFC; those that are not there are left out."""
        stored = {key: unicodedata.normalize("NFC", key) for key in keys}
        found = {item.key: item for item in self._select("key", list(set(stored.values())))}
        return {key: found[name] for key, name in stored.items() if name in found}

    def vector(self, item_id: int) -> NDArray[np.float32] | None:
        """Return the vector of an item, float32 [dim], or None when there is no such item."""
        rows = self._database.query("SELECT row FROM items WHERE id = ?", (item_id,))
        if not rows:
            return None
        ((row,),) = rows
        if not isinstance(row, int) or not 0 <= row < len(self.index):
            raise DamagedIndex(
                f"the catalogue has item {item_id} in row {row} of {len(self.index)}; restore or rebuild it"
            )
        return self.index.vector(row)

    def thumbnail(self, item_id: int) -> bytes | None:
        """Return the item's thumbnail as JPEG bytes, or None when there is no such item."""
        rows = self._database.query("SELECT jpeg FROM thumbnails WHERE id = ?", (item_id,))
        if not rows:
            return None
        if not isinstance(rows[0][0], bytes):
            raise DamagedIndex(f"the thumbnail of item {item_id} is no picture; restore or rebuild the catalogue")
        return rows[0][0]

    def copy_database(self, folder: Path) -> None:
        """Write a consistent, self-contained copy of the database into ``folder``, whoever else is writing to it."""
        self._database.copy_to(folder / DATABASE)

    def close(self) -> None:
        """Let go of the database; the map goes with the last reference to it."""
        self._database.close()
        self._filtered.close()

    def _read_allowed(self, condition: Condition) -> Allowed:
        sql = f"SELECT row FROM items WHERE row IS NOT NULL AND {condition.sql}"
        return allow_rows(self._filtered.numbers(sql, condition.values), len(self.index))

    def _select(self, column: str, values: Sequence[int] | Sequence[str]) -> list[Item]:
        rows: list[Any] = []
        for at in range(0, len(values), 500):  # SQLite takes a bounded number of parameters
            part = values[at : at + 500]
            marks = ", ".join("?" * len(part))
            rows += self._database.query(
                f"SELECT id, key, sha256, added_at, metadata FROM items WHERE {column} IN ({marks})", part
            )
        return [_item(*row) for row in rows]


def _item(item_id: int, key: Any, sha256: Any, added_at: Any, metadata: Any) -> Item:
    try:
        described = json.loads(metadata)
    except (TypeError, ValueError, RecursionError):
        described = None
    if not isinstance(described, dict) or not all(isinstance(text, str) for text in (key, sha256, added_at)):
        raise DamagedIndex(f"item {item_id} of the catalogue cannot be read; restore or rebuild it")
    return Item(item_id, key, sha256, added_at, described)


def open_catalogue(folder: Path) -> Catalogue:
    """Open the catalogue in ``folder``. Raises CatalogueNotFound, CatalogueMismatch (its format) or DamagedIndex."""
    check_readable(folder)
    database = Reading(open_database(folder))
    try:
        info = read_info(database, folder)
        base = folder / info.base
        codes = folder / codes_file(info.base)
        for path in (base, codes):
            if not path.is_file():
                raise DamagedIndex(f"the catalogue's index file {path} is missing; restore or rebuild the catalogue")
        index = open_index(base, info.dim, info.metric, codes)
        if len(index) != info.count:
            raise DamagedIndex(
                f"{base} holds {len(index)} vectors, the catalogue {info.count} items; restore or rebuild it"
            )
        return Catalogue(folder, database, info, index)
    except BaseException:
        database.close()
        raise


def check_readable(folder: Path) -> None:
    """Raise CatalogueNotFound where this user may not read all of a catalogue, as happens to one that is mounted."""
    for path in (folder, *folder.rglob("*")) if folder.is_dir() else ():
        if not os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK):
            raise CatalogueNotFound(
                f"{path} is there, but user {os.getuid()} may not read it; let all read it: chmod -R a+rX {folder}"
            )


def read_info(database: Reading, folder: Path) -> CatalogueInfo:
    """Return what the database in ``folder`` says of its catalogue.

    Raises CatalogueNotFound, CatalogueMismatch (another format) or DamagedIndex.
    """
    meta = read_meta(database, folder)
    if "base" not in meta:
        raise CatalogueNotFound(f"{folder} is an unfinished build; run the same build command again to go on with it")
    if (found := meta.get("format_version")) != FORMAT_VERSION:
        raise CatalogueMismatch(
            f"{folder} is a catalogue of format {found}; this version reads format {FORMAT_VERSION}; "
            "build it again with --overwrite"
        )
    try:
        info = _INFO.validate_json(json.dumps(meta), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
        raise DamagedIndex(
            f"{folder / DATABASE} does not say what the catalogue is ({what}); restore or rebuild it"
        ) from None
    if strange := [name for name in (info.base, *info.files) if Path(name).is_absolute() or ".." in Path(name).parts]:
        raise DamagedIndex(
            f"{folder / DATABASE} names {strange[0]}, which is not in the catalogue; restore or rebuild it"
        )
    return info
