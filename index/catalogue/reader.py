"""Open a catalogue folder and search it."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from index.backend import DEFAULT_EF
from index.catalogue.database import Reading, open_database
from index.catalogue.files import DATABASE
from index.catalogue.follow import CatalogueFollower
from index.catalogue.generation import CatalogueInfo
from index.catalogue.signatures import SignatureTable
from index.catalogue.snapshot import Selection, Snapshot
from index.errors import CatalogueMismatch, CatalogueNotFound, DamagedIndex
from index.filter_json import field_names
from index.filters import compile_filter
from index.hnsw.mapped_index import MappedIndex

FIELDS = 50  # that a hint names at most
LONGEST_KEPT = 10_000  # characters of a filter: the rows of a longer one are not kept
TRIES = 4  # of a search whose hits are removed before they are looked up


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


Found = TypeVar("Found")
Lookup = Callable[[Sequence[int]], dict[int, Item]]


class Catalogue:
    """An open catalogue: reads only, from any thread; it sees what any process writes to it as soon as that is committed."""

    def __init__(self, folder: Path, database: Reading, follower: CatalogueFollower) -> None:
        self.folder = folder
        self.signatures = SignatureTable(database)
        self._database = database
        self._follower = follower
        self._path = folder / DATABASE
        self._inode, self._size = self._path.stat().st_ino, self._path.stat().st_size

    def snapshot(self) -> Snapshot:
        """Return the catalogue's state now, with all that was committed before; it can be searched, and never changes.

        Raises DamagedIndex when the database cannot be read.
        """
        return self._follower.current()

    @property
    def superseded(self) -> bool:
        """Whether another extractor made the vectors that the catalogue has now: this one shows it as it was before."""
        self.snapshot()
        return self._follower.superseded

    @property
    def info(self) -> CatalogueInfo:
        """What the catalogue says of itself now."""
        snapshot, meta = self.snapshot(), self._follower.meta
        generation = snapshot.generation
        return CatalogueInfo(
            format_version=meta.format_version,
            model=generation.model,
            fingerprint=generation.fingerprint,
            dim=generation.dim,
            metric=meta.metric,
            m=meta.m,
            ef_construction=meta.ef_construction,
            labelled=meta.labelled,
            originals=meta.originals,
            generation=generation.generation,
            base=generation.base,
            extractor=generation.extractor,
            files=generation.files,
            created_at=meta.created_at,
            merged_at=generation.created_at,
            count=len(snapshot),
            unmerged=len(snapshot.unmerged),
            regions=meta.regions,
        )

    @property
    def index(self) -> MappedIndex:
        """The index of the current generation; it lacks the unmerged items, and has the removed ones."""
        return self.snapshot().base.index

    @property
    def extractor_folder(self) -> Path:
        """Where the extractor is that made this catalogue's vectors."""
        return self.folder / self.snapshot().generation.extractor

    def __len__(self) -> int:
        return len(self.snapshot())

    def fault(self) -> str | None:
        """Return why the files can no longer be read, or None: they are gone, or were cut short. It costs little."""
        try:
            status = self._path.stat()  # another file is another catalogue, to be opened later
            if status.st_ino == self._inode and status.st_size < self._size:
                if self._is_cut():
                    return _cut_short(self._path, self._size, status.st_size)
                self._size = status.st_size
            snapshot = self.snapshot()
            sizes = zip(snapshot.base.paths, snapshot.base.sizes, strict=True)
            for path, size in sizes if status.st_ino == self._inode else ():
                if (now := path.stat().st_size) < size:
                    return _cut_short(path, size, now)
            self._select("id", [1])
        except OSError as error:
            return f"the catalogue's files are gone ({error.filename}: {error.strerror}); restore them, and start again"
        except DamagedIndex as error:
            return str(error)
        return None

    def check_made_with(self, fingerprint: str) -> None:
        """Raise CatalogueMismatch unless the extractor with this fingerprint made this catalogue's vectors."""
        info = self.info
        if fingerprint != info.fingerprint:
            raise CatalogueMismatch(
                f"the catalogue {self.folder} was made with {info.model} ({info.fingerprint[:12]}), not with the "
                f"extractor at hand ({fingerprint[:12]}): model, weights and preprocessing must be the same; build it again"
            )

    def allow(self, where: object) -> Selection:
        """Return the items that a filter on the metadata allows (docs: index/filters.py), as of now.

        Raises InvalidFilter, which points at the place, and DamagedIndex when the database cannot be read.
        """
        condition = compile_filter(where)
        snapshot = self.snapshot()
        long = len(repr(condition)) > LONGEST_KEPT
        return snapshot.select_uncached(condition) if long else snapshot.select(condition)

    def hint(self, where: object) -> str | None:
        """Return which fields of a filter no item has, and which there are, or None where there is nothing to say."""
        there = self.snapshot().fields()
        lacking = [name for name in dict.fromkeys(field_names(where)) if name not in there]
        if not lacking:
            return None
        wrong, known = ", ".join(json.dumps(name, ensure_ascii=False) for name in lacking), sorted(there)[:FIELDS]
        return f"no item has the field {wrong}; there are: {', '.join(known) or 'none'}"

    def search(
        self,
        vectors: NDArray[np.float32],
        k: int,
        *,
        ef: int = DEFAULT_EF,
        allowed: Selection | None = None,
        without: Sequence[int | None] = (),
    ) -> list[list[Hit]]:
        """Find up to ``k`` nearest items of each query, float32 [n, dim], among those that ``allowed`` has.

        ``without`` names for each query an item that is not to be its hit. Raises DimensionMismatch for queries of another
        length, DamagedIndex when the index file is broken.
        """
        excluded = list(without) or [None] * len(vectors)
        more = int(any(item is not None for item in excluded))

        def find(snapshot: Snapshot, lookup: Lookup) -> list[list[Hit]]:
            kept = []
            for found, left_out in zip(snapshot.search(vectors, k + more, ef, allowed), excluded, strict=True):
                pairs = zip(found.labels.tolist(), snapshot.scores(found), strict=True)
                kept.append([pair for pair in pairs if pair[0] != left_out][:k])
            items = lookup([label for pairs in kept for label, _ in pairs])
            return [[Hit(items[label], score) for label, score in pairs if label in items] for pairs in kept]

        return self.in_one_state(find, allowed)[0]

    def in_one_state(
        self, find: Callable[[Snapshot, Lookup], Found], allowed: Selection | None = None
    ) -> tuple[Found, int]:
        """Return what ``find`` finds in one state of the catalogue, that of ``allowed`` or the one now, and its generation.

        It is given a snapshot and what looks items up by id, and called again where some were removed meanwhile.
        """
        for _ in range(TRIES):
            snapshot = self.snapshot() if allowed is None else allowed.snapshot
            gone = 0

            def lookup(ids: Sequence[int]) -> dict[int, Item]:
                nonlocal gone
                items = self.items(wanted := list(set(ids)))
                gone += len(wanted) - len(items)
                return items

            found = find(snapshot, lookup)
            if not gone or allowed is not None:
                break
        return found, snapshot.generation.generation

    def search_exactly(self, vectors: NDArray[np.float32], k: int) -> list[list[tuple[int, float]]]:
        """Return the true ``k`` nearest of each query, by comparing with every vector: pairs of item id and score."""
        snapshot = self.snapshot()
        found = snapshot.search_exactly(vectors, k)
        return [list(zip(one.labels.tolist(), snapshot.scores(one), strict=True)) for one in found]

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
        return self.snapshot().vector(item_id)

    def thumbnail(self, item_id: int) -> bytes | None:
        """Return the item's thumbnail as JPEG bytes, or None when there is no such item."""
        rows = self._database.query("SELECT jpeg FROM thumbnails WHERE id = ?", (item_id,))
        if not rows:
            return None
        if not isinstance(rows[0][0], bytes):
            raise DamagedIndex(f"the thumbnail of item {item_id} is no picture; restore or rebuild the catalogue")
        return rows[0][0]

    def close(self) -> None:
        """Let go of the database; the map goes with the last reference to it."""
        self._database.close()
        self._follower.close()

    def _is_cut(self) -> bool:
        """Return whether the database lacks pages; else it has been vacuumed."""
        try:
            with closing(Reading(open_database(self.folder))) as fresh:
                return fresh.query("PRAGMA quick_check(1)") != [("ok",)]
        except (DamagedIndex, CatalogueNotFound):
            return True

    def _select(self, column: str, values: Sequence[int] | Sequence[str]) -> list[Item]:
        sql = f"SELECT id, key, sha256, added_at, metadata FROM items WHERE {column} IN ({{}})"
        return [_item(*row) for row in self._database.query_in(sql, values)]


def _cut_short(path: Path, size: int, now: int) -> str:
    return f"{path} was cut short from {size:,} to {now:,} bytes; restore it, and start again"


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
    with ExitStack() as stack:
        database = stack.enter_context(closing(Reading(open_database(folder))))
        # What follows the catalogue has a connection of its own: its reads are transactions.
        followed = stack.enter_context(closing(Reading(open_database(folder))))
        catalogue = Catalogue(folder, database, CatalogueFollower(folder, followed))
        stack.pop_all()
        return catalogue


def check_readable(folder: Path) -> None:
    """Raise CatalogueNotFound where this user may not read all of a catalogue, as happens to one that is mounted."""
    for path in (folder, *folder.rglob("*")) if folder.is_dir() else ():
        if path.exists() and not os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK):
            raise CatalogueNotFound(
                f"{path} is there, but user {os.getuid()} may not read it; let all read it: chmod -R a+rX {folder}"
            )
