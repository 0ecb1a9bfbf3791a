"""Write a catalogue: next to its final place, so that it is either whole and there, or resumable and not there."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from index.catalogue.base import Base
from index.catalogue.database import Reading, begin, create_database, open_database, read_meta
from index.catalogue.files import (
    BASE,
    DATABASE,
    EXTRACTOR,
    FORMAT_VERSION,
    REPORT,
    base_file,
    check_place,
    flush_folder,
    hash_file,
    hash_files,
    original_file,
    write_original,
)
from index.catalogue.generation import Generation, read_generation, write_generation
from index.catalogue.merge import Progress, build_generation, prune, stored_vectors
from index.catalogue.regions import Box
from index.catalogue.rows import (
    SIGNATURE,
    Entry,
    Signature,
    delete_items,
    encode_metadata,
    ids_of_keys,
    insert_entry,
    now,
    write_metadata,
)
from index.catalogue.verify import check_database
from index.errors import CatalogueBusy, CatalogueExists, CatalogueMismatch, CatalogueNotFound, VectorIndexError
from index.hnsw.build import EF_CONSTRUCTION, M
from index.metrics import Metric


class CatalogueWriter:
    """A catalogue under construction in ``<folder>.partial``; ``publish`` puts it in place."""

    def __init__(self, folder: Path, partial: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self.partial = partial
        self._connection = connection
        self._made: Generation | None = None
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
        with begin(self._connection):
            delete_items(self._connection, ids_of_keys(self._connection, [entry.key for entry in entries]).values())
            for entry in entries:
                if entry.original is not None:
                    write_original(self.partial, entry.sha256, entry.original)
                insert_entry(self._connection, entry, encode_metadata(entry.metadata), now())

    def take_over(self, files: dict[str, tuple[int, int]]) -> set[str]:
        """Take items from the catalogue that is to be replaced, durably; return their keys.

        They are those whose files, by key, have the size and modification time that they had. A catalogue that is not there,
        is damaged or was made with another extractor, metric, labels or reader gives none.
        """
        if not (self.folder / DATABASE).is_file():
            return set()
        with suppress(VectorIndexError), closing(open_database(self.folder)) as database:
            made, ours = read_meta(Reading(database), self.folder), read_meta(Reading(self._connection), self.folder)
            meta, generation = read_generation(Reading(database), self.folder)
            alike = all(made.get(name) == ours[name] for name in ("metric", "labelled", "originals", "reader"))
            alike &= made.get("regions", []) == ours["regions"]
            alike &= generation.fingerprint == ours["fingerprint"]
            sound = alike and hash_file(self.folder / generation.base) == generation.files.get(generation.base)
            if sound and not any(check_database(Reading(database), generation)):
                with begin(self._connection):
                    return set(self._take_over(Base(self.folder, generation, meta.metric), database, files))
        return set()

    def _take_over(self, old: Base, database: sqlite3.Connection, files: dict[str, tuple[int, int]]) -> Iterator[str]:
        rows = database.execute(
            "SELECT id, key, sha256, metadata, added_at, source_size, source_mtime_ns, source, jpeg, "
            f"{SIGNATURE} FROM items JOIN thumbnails USING (id) LEFT JOIN signatures USING (id) ORDER BY id"
        )
        for item_id, key, sha256, metadata, added_at, size, mtime, source, thumbnail, *facts in rows:
            if files.get(key) == (size, mtime):
                vector, regions = stored_vectors(database, old, item_id)
                signature = None if facts[0] is None else Signature(*facts)
                entry = Entry(key, vector, {}, sha256, thumbnail, size, mtime, source, None, regions, signature)
                insert_entry(self._connection, entry, metadata, added_at)
                if (original := original_file(self.folder, sha256)).is_file():
                    write_original(self.partial, sha256, original.read_bytes())
                yield key

    def describe(self, keys: Sequence[str], describe: Callable[[str, dict[str, Any]], dict[str, Any]]) -> None:
        """Give items, by key, the metadata that ``describe`` makes of their keys and the metadata they have."""
        with begin(self._connection):
            for key, item_id in ids_of_keys(self._connection, keys).items():
                ((text,),) = self._connection.execute("SELECT metadata FROM items WHERE id = ?", (item_id,))
                write_metadata(self._connection, item_id, encode_metadata(describe(key, json.loads(text))))

    def discard(self, keys: Iterable[str]) -> None:
        """Drop items by key, where they are there: a source that has gone since the build was broken off."""
        with begin(self._connection):
            delete_items(self._connection, ids_of_keys(self._connection, list(keys)).values())

    def build_index(self, progress: Progress = lambda *_: None) -> None:
        """Build the index file over all vectors; ``progress`` gets "index" (items). OSError: the disk is full."""
        meta = read_meta(Reading(self._connection), self.partial)
        planned = Generation(
            1, base_file(1), 0, 0, 0, "", EXTRACTOR, meta["model"], meta["fingerprint"], meta["dim"], {}
        )
        boxes = len(meta["regions"])
        self._made = build_generation(
            self.partial, self._connection, planned, meta["metric"], None, progress, boxes=boxes
        )

    def publish(self, report: dict[str, Any]) -> None:
        """Put the finished catalogue, whose index is built, in its place, with the report of how it was built."""
        assert self._made is not None
        (self.partial / REPORT).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        made = replace(self._made, files=hash_files(self.partial) | self._made.files)
        with begin(self._connection):
            write_generation(self._connection, made)
        self._connection.close()
        flush_folder(self.partial)
        self._put_in_place()
        with closing(open_database(self.folder, writable=True)) as connection:
            prune(self.folder, connection, made)
            connection.execute("VACUUM")  # the vectors have moved into the index file

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


def start_catalogue(
    folder: Path,
    *,
    model: str,
    fingerprint: str,
    dim: int,
    metric: Metric = "cosine",
    labelled: bool = False,
    originals: bool = False,
    regions: tuple[Box, ...] = (),
    reader: int = 0,
    overwrite: bool = False,
) -> CatalogueWriter:
    """Begin a catalogue that will be ``folder``, or go on with one that was broken off there.

    ``originals``: whether it keeps the pictures' own files. ``regions``: the boxes that entries have
    vectors of. ``reader`` is the version of what made the entries of the pictures: those of different ones are not mixed.

    Raises CatalogueExists when ``folder`` is there and may not be overwritten (or is not a catalogue), and
    CatalogueMismatch when the broken-off build used another extractor, metric or labels.
    """
    check_place(folder, overwrite=overwrite)
    partial, boxes = folder.with_name(folder.name + ".partial"), [list(box) for box in regions]
    connection = _resume(partial, model, fingerprint, metric, labelled, [reader, FORMAT_VERSION, originals, boxes])
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
            "originals": originals,
            "regions": boxes,
            "reader": reader,
            "created_at": now(),
            "id": uuid.uuid4().hex,
        }
        connection = create_database(partial, meta)
    return CatalogueWriter(folder, partial, connection)


def _resume(
    partial: Path, model: str, fingerprint: str, metric: Metric, labelled: bool, kind: list[Any]
) -> sqlite3.Connection | None:
    """Return the database of a broken-off build, ready to go on with, or None where there is nothing to go on with.

    That of another ``kind`` (reader, format, originals, regions) is none.
    """
    if not (partial / DATABASE).is_file():
        return None
    try:
        connection = open_database(partial, writable=True, seconds=1)
    except CatalogueBusy:
        raise CatalogueExists(f"{partial} is being built by another process; wait for it, or end it") from None
    try:
        # Locked until close: a second build of the same catalogue gets an error, and cannot write in between.
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("BEGIN IMMEDIATE").connection.rollback()
        found = read_meta(Reading(connection), partial)
        begun = connection.execute("SELECT count(*) FROM items").fetchone()[0]
        if not begun or kind != [found.get(name) for name in ("reader", "format_version", "originals", "regions")]:
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
        with begin(connection):  # where it was broken off between its index file and its renaming
            connection.execute("DELETE FROM generations")
            connection.execute("DELETE FROM meta WHERE name = 'generation'")
        for path in partial.glob(f"{BASE}*"):
            path.unlink()
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
