"""Write a catalogue: next to its final place, so that it is either whole and there, or resumable and not there."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from index.catalogue.database import Reading, create_database, hash_tables, open_database, read_meta, write_meta
from index.catalogue.files import (
    DATABASE,
    EXTRACTOR,
    FORMAT_VERSION,
    REPORT,
    base_file,
    check_place,
    codes_file,
    flush_folder,
    hash_file,
    hash_files,
)
from index.catalogue.reader import Catalogue, open_catalogue
from index.errors import CatalogueExists, CatalogueMismatch, CatalogueNotFound, DamagedIndex, VectorIndexError
from index.hnsw.build import EF_CONSTRUCTION, M, build_hnsw
from index.hnsw.codes import build_codes
from index.hnsw.file import open_hnsw_file
from index.metrics import Metric

CHUNK = 1024
READER = (
    2  # counts the changes to what a picture's file gives (pixels, metadata): items of an older one are not taken over
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture on its way into a catalogue: the seam between model and index, and what resuming needs."""

    key: str
    vector: NDArray[np.float32]
    metadata: dict[str, Any]
    sha256: str
    thumbnail: bytes
    source_size: int
    source_mtime_ns: int


class CatalogueWriter:
    """A catalogue under construction in ``<folder>.partial``; ``publish`` puts it in place."""

    def __init__(self, folder: Path, partial: Path, connection: sqlite3.Connection, dim: int, metric: Metric) -> None:
        self.folder = folder
        self.partial = partial
        self.dim = dim
        self.metric: Metric = metric
        self._connection = connection
        self._connection.execute("PRAGMA locking_mode=EXCLUSIVE")

    @property
    def extractor_folder(self) -> Path:
        """Where the extractor belongs that makes the vectors."""
        return self.partial / EXTRACTOR

    def __len__(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM items").fetchone()[0])

    def known(self) -> dict[str, tuple[int, int]]:
        """Return the keys that are in already, each with the size and modification time its file had."""
        rows = self._connection.execute("SELECT key, source_size, source_mtime_ns FROM items")
        return {key: (size, mtime) for key, size, mtime in rows}

    def add(self, entries: Sequence[Entry]) -> None:
        """Take in a batch of entries, durably and all at once; an entry whose key is known replaces the older one.

        Keys and metadata are stored in NFC.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._connection:
            self.discard([entry.key for entry in entries])
            for entry in entries:
                self._insert(entry, json.dumps(entry.metadata, ensure_ascii=False), now)

    def take_over(self, files: dict[str, tuple[int, int]]) -> set[str]:
        """Take items from the catalogue that is to be replaced, durably; return their keys.

        They are those whose files, by key, have the size and modification time that they had. A catalogue that is not there,
        is damaged or was made with another extractor, metric, labels or reader gives none.
        """
        if not (self.folder / DATABASE).is_file():
            return set()
        with (
            suppress(VectorIndexError),
            closing(open_catalogue(self.folder)) as old,
            closing(open_database(self.folder)) as database,
        ):
            made, ours = read_meta(Reading(database), self.folder), read_meta(Reading(self._connection), self.folder)
            alike = all(made.get(name) == ours[name] for name in ("fingerprint", "metric", "labelled", "reader"))
            base = old.info.base
            sound = alike and hash_file(self.folder / base) == old.info.files.get(base)
            if sound and hash_tables(Reading(database)) == old.info.tables_sha256:
                with self._connection:
                    return set(self._take_over(old, database, files))
        return set()

    def _take_over(
        self, old: Catalogue, database: sqlite3.Connection, files: dict[str, tuple[int, int]]
    ) -> Iterator[str]:
        rows = database.execute(
            "SELECT key, sha256, metadata, added_at, row, source_size, source_mtime_ns, jpeg "
            "FROM items JOIN thumbnails USING (id) WHERE row IS NOT NULL ORDER BY id"
        )
        for key, sha256, metadata, added_at, row, size, mtime, thumbnail in rows:
            if files.get(key) == (size, mtime):
                entry = Entry(key, old.index.vector(row), {}, sha256, thumbnail, size, mtime)
                self._insert(entry, metadata, added_at)
                yield key

    def _insert(self, entry: Entry, metadata: str, added_at: str) -> None:
        vector = np.ascontiguousarray(entry.vector, np.float32).tobytes()
        key, metadata = normalize("NFC", entry.key), normalize("NFC", metadata)
        facts = (key, entry.sha256, metadata, added_at, vector, entry.source_size, entry.source_mtime_ns)
        cursor = self._connection.execute(
            "INSERT INTO items (key, sha256, metadata, added_at, vector, source_size, source_mtime_ns) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            facts,
        )
        self._connection.execute("INSERT INTO thumbnails VALUES (?, ?)", (cursor.lastrowid, entry.thumbnail))

    def discard(self, keys: Iterable[str]) -> None:
        """Drop items by key, where they are there: a source that has gone since the build was broken off."""
        self._connection.executemany("DELETE FROM items WHERE key = ?", [(normalize("NFC", key),) for key in keys])

    def build_index(self, progress: Callable[[int], None] = lambda _: None) -> None:
        """Build the index file over all vectors; ``progress`` gets how many more are in. OSError: the disk is full."""
        base = self.partial / base_file(1)
        build_hnsw(base, self._vectors(), len(self), self.dim, self.metric, progress=progress)
        try:
            file = open_hnsw_file(base, self.dim)
            build_codes(self.partial / codes_file(base.name), file, self.metric)
        except DamagedIndex as error:  # hnswlib does not say when the disk takes less than it writes
            raise OSError(f"the index file was not written whole ({error}); is the disk full?") from None
        with self._connection:
            rows = enumerate(file.labels().tolist())
            self._connection.executemany("UPDATE items SET row = ?, vector = NULL WHERE id = ?", rows)
            write_meta(self._connection, {"generation": 1, "base": base.name, "count": len(self)})

    def publish(self, report: dict[str, Any]) -> None:
        """Put the finished catalogue in its place, with the report of how it was built."""
        (self.partial / REPORT).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        with self._connection:
            write_meta(self._connection, {"files": hash_files(self.partial)})
            write_meta(self._connection, {"tables_sha256": hash_tables(Reading(self._connection))})
        self._connection.execute("VACUUM")  # the vectors have moved into the index file
        self._connection.close()
        flush_folder(self.partial)
        self._put_in_place()

    def close(self) -> None:
        """Stop here; what was added stays in the partial folder for the next attempt."""
        self._connection.close()

    def abandon(self) -> None:
        """Stop here and leave nothing behind: there is nothing that another attempt could go on with."""
        self._connection.close()
        shutil.rmtree(self.partial)

    def _put_in_place(self) -> None:
        if self.folder.exists():  # --overwrite: the old catalogue leaves only once the new one is whole
            aside = Path(tempfile.mkdtemp(prefix=f".{self.folder.name}.", dir=self.folder.parent))
            self.folder.rename(aside / "old")
            self.partial.rename(self.folder)
            shutil.rmtree(aside)
        else:
            self.partial.rename(self.folder)
        flush_folder(self.folder.parent)

    def _vectors(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        cursor = self._connection.execute("SELECT id, vector FROM items ORDER BY id")
        while rows := cursor.fetchmany(CHUNK):
            vectors = np.frombuffer(b"".join(vector for _, vector in rows), np.float32).reshape(len(rows), self.dim)
            yield np.array([row_id for row_id, _ in rows], np.int64), vectors


def start_catalogue(
    folder: Path,
    *,
    model: str,
    fingerprint: str,
    dim: int,
    metric: Metric = "cosine",
    labelled: bool = False,
    reader: int = 0,
    overwrite: bool = False,
) -> CatalogueWriter:
    """Begin a catalogue that will be ``folder``, or go on with one that was broken off there.

    ``reader`` is the version of what made the entries of the pictures: those of different ones are not mixed.

    Raises CatalogueExists when ``folder`` is there and may not be overwritten (or is not a catalogue), and
    CatalogueMismatch when the broken-off build used another extractor, metric or labels.
    """
    check_place(folder, overwrite=overwrite)
    partial = folder.with_name(folder.name + ".partial")
    connection = _resume(partial, model, fingerprint, dim, metric, labelled, reader)
    if connection is None:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        meta = {
            "format_version": FORMAT_VERSION,
            "model": model,
            "fingerprint": fingerprint,
            "dim": dim,
            "metric": metric,
            "m": M,
            "ef_construction": EF_CONSTRUCTION,
            "labelled": labelled,
            "reader": reader,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        connection = create_database(partial, meta)
    return CatalogueWriter(folder, partial, connection, dim, metric)


def _resume(
    partial: Path, model: str, fingerprint: str, dim: int, metric: Metric, labelled: bool, reader: int
) -> sqlite3.Connection | None:
    """Return the database of a broken-off build, ready to go on with, or None where there is nothing to go on with."""
    if not (partial / DATABASE).is_file():
        return None
    connection = open_database(partial, writable=True)
    try:
        # Locked until close: a second build of the same catalogue gets an error, and cannot write in between.
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("BEGIN IMMEDIATE").connection.rollback()
        found = read_meta(Reading(connection), partial)
        begun = connection.execute("SELECT count(*) FROM items").fetchone()[0]
        if not begun or found.get("reader") != reader:
            connection.close()  # nothing would be lost by starting over, or it is of an older version
            return None
        if found["metric"] != metric:
            raise CatalogueMismatch(
                f"{partial} is a build that was broken off with --metric {found['metric']}, not {metric}; "
                "go on with that metric, or remove the folder to start over"
            )
        if found["fingerprint"] != fingerprint:
            raise CatalogueMismatch(
                f"{partial} is a build that was broken off with {found['model']} ({found['fingerprint'][:12]}), not with "
                f"{model} ({fingerprint[:12]}); go on with that model, or remove the folder to start over"
            )
        if found["labelled"] != labelled:
            raise CatalogueMismatch(
                f"{partial} is a build that was broken off {'with' if found['labelled'] else 'without'} labels from folders; "
                "go on the same way, or remove the folder to start over"
            )
        if "base" in found:
            _take_back_vectors(connection, partial / found["base"], dim)
        return connection
    except CatalogueNotFound:  # broken off before its tables were there
        connection.close()
        return None
    except sqlite3.OperationalError as error:
        connection.close()
        raise CatalogueExists(
            f"{partial} is being built by another process ({error}); wait for it, or end it"
        ) from None
    except BaseException:
        connection.close()
        raise


def _take_back_vectors(connection: sqlite3.Connection, base: Path, dim: int) -> None:
    """Undo the end of a build that was broken off between its index file and its renaming."""
    file = open_hnsw_file(base, dim)
    vectors = file.row_vectors()
    with connection:
        for item_id, row in connection.execute("SELECT id, row FROM items WHERE row IS NOT NULL").fetchall():
            blob = np.ascontiguousarray(vectors[row]).tobytes()
            connection.execute("UPDATE items SET row = NULL, vector = ? WHERE id = ?", (blob, item_id))
        connection.execute("DELETE FROM meta WHERE name IN ('base', 'count', 'files', 'generation', 'tables_sha256')")
