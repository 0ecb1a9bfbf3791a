"""Check a catalogue folder from end to end: every file's SHA-256, and that all that is in it fits together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.catalogue.database import Reading, codes_file, hash_file, hash_tables, open_database
from index.catalogue.reader import read_info
from index.errors import IndexFault
from index.hnsw.codes import encode, open_codes
from index.hnsw.file import HnswFile, Metric, open_hnsw_file, upper_offsets

CHUNK = 4096  # rows looked at together
UNIT = 1e-3  # how far from 1 the length of a unit vector may be
Progress = Callable[[str, int, int], None]  # stage, done, total


def verify_catalogue(folder: Path, progress: Progress = lambda *_: None) -> Iterator[str]:
    """Look at all of a catalogue, and give each fault as a sentence that begins with the file it is in.

    ``progress`` is told of "hash" (bytes) and "vectors" (rows). Raises CatalogueNotFound or CatalogueMismatch when the
    folder is no catalogue of this format, and DamagedIndex when its database does not say what it is.
    """
    database = Reading(open_database(folder))
    try:
        info = read_info(database, folder)
        yield from _check_files(folder, info.files, progress)
        yield from (f"catalogue.sqlite: {fault}" for fault in _check_database(database, info.tables_sha256))
        if not (folder / info.base).is_file():
            return  # told already
        try:
            file = open_hnsw_file(folder / info.base, info.dim)
        except (IndexFault, OSError) as error:
            yield f"{info.base}: {error}"
            return
        yield from (f"{info.base}: {fault}" for fault in check_index(file, "cosine", progress))
        yield from (f"{info.base}: {fault}" for fault in _check_rows(file, database))
        codes = codes_file(info.base)
        yield from (f"{codes}: {fault}" for fault in check_codes(folder / codes, file, "cosine"))
    finally:
        database.close()


def check_index(file: HnswFile, metric: Metric, progress: Progress = lambda *_: None) -> Iterator[str]:
    """The faults of an index file: its counts, ids, levels, labels and vectors."""
    layout = file.layout
    rows = np.arange(layout.count)
    yield from _check_links(file.links[:, : 1 + layout.max_links0], rows, np.zeros(layout.count, np.int64), 0)
    try:
        upper_at = upper_offsets(file).astype(np.int64)
    except IndexFault as error:
        yield str(error)
    else:
        yield from _check_upper(file, upper_at)
    labels = file.labels()
    if len(np.unique(labels)) < len(labels):
        yield "two elements have the same label"
    vectors = file.vectors[:, layout.vector_word : layout.vector_word + layout.dim]
    for at in range(0, layout.count, CHUNK):
        part = vectors[at : at + CHUNK]
        with np.errstate(all="ignore"):
            lengths = np.linalg.norm(part, axis=1)
        if len(bad := np.flatnonzero(~np.isfinite(lengths))):
            yield f"the vector of element {at + bad[0]} is not of finite numbers"
        elif metric == "cosine" and len(bad := np.flatnonzero(np.abs(lengths - 1) > UNIT)):
            yield f"the vector of element {at + bad[0]} has length {lengths[bad[0]]:.4f}, not 1"
        progress("vectors", at + len(part), layout.count)


def check_codes(path: Path, file: HnswFile, metric: Metric) -> Iterator[str]:
    """The faults of an index file's companion: where it is not what would be made of the file again."""
    layout = file.layout
    try:
        codes = open_codes(path, file, metric)
        upper_at = upper_offsets(file)
    except (IndexFault, OSError) as error:
        yield str(error)
        return
    if codes.deletions != bool(((file.links[:, 0] >> 16) & 1).any()):
        yield "its count of deleted elements is not the index file's"
    vectors = file.vectors[:, layout.vector_word : layout.vector_word + layout.dim]
    for at in range(0, layout.count, CHUNK):
        part = slice(at, at + CHUNK)
        with np.errstate(all="ignore"):
            rows, terms = encode(vectors[part], metric)
        if not np.array_equal(rows, codes.rows[part, : layout.dim]) or codes.rows[part, layout.dim :].any():
            yield f"the codes of elements {at} to {at + len(rows) - 1} are not those of their vectors"
        if not np.allclose(terms, codes.terms[part], rtol=1e-5, equal_nan=True):
            yield f"the scales of elements {at} to {at + len(rows) - 1} are not those of their vectors"
    if not np.array_equal(file.links[:, : 1 + layout.max_links0], codes.links):
        yield "its links are not those of the index file"
    if not np.array_equal(upper_at, codes.upper_at):
        yield "its offsets are not those of the index file"


def _check_files(folder: Path, files: dict[str, str], progress: Progress) -> Iterator[str]:
    sizes = {name: (folder / name).stat().st_size for name in files if (folder / name).is_file()}
    done = 0
    for name, digest in files.items():
        if name not in sizes:
            yield f"{name}: the file is missing"
            continue
        try:
            found = hash_file(folder / name)
        except OSError as error:
            yield f"{name}: the file cannot be read ({error.strerror})"
            continue
        if found != digest:
            yield f"{name}: the file has changed since the build (SHA-256 {found[:12]}, not {digest[:12]})"
        done += sizes[name]
        progress("hash", done, sum(sizes.values()))


def _check_database(database: Reading, digest: str) -> Iterator[str]:
    try:
        if (found := hash_tables(database)) != digest:
            yield f"its tables have changed since the build (SHA-256 {found[:12]}, not {digest[:12]})"
        for (found,) in database.query("PRAGMA integrity_check(10)"):
            if found != "ok":
                yield str(found)
        for what, condition in (
            ("no thumbnail", "id NOT IN (SELECT id FROM thumbnails)"),
            ("metadata that is no JSON object", "NOT json_valid(metadata) OR json_type(metadata) <> 'object'"),
            ("neither a row in the index file nor a vector", "row IS NULL AND vector IS NULL"),
        ):
            ((count,),) = database.query(f"SELECT count(*) FROM items WHERE {condition}")
            if count:
                yield f"{count} items have {what}"
    except IndexFault as error:
        yield str(error)


def _check_rows(file: HnswFile, database: Reading) -> Iterator[str]:
    """Whether each item's row in the index file has the item's id for its label, and each row its item."""
    try:
        rows, ids = (
            database.numbers(f"SELECT {column} FROM items WHERE row IS NOT NULL ORDER BY row")
            for column in ("row", "id")
        )
    except IndexFault as error:
        yield str(error)
        return
    labels = file.labels()
    if not np.array_equal(rows, np.arange(len(labels))) or not np.array_equal(ids, labels):
        yield f"its {len(labels)} labels are not the ids of the catalogue's {len(rows)} items"


def _check_links(
    blocks: NDArray[np.uint32], rows: NDArray[np.int64], levels: NDArray[np.int64], level: int
) -> Iterator[str]:
    """Blocks [n, 1 + places] of links that ``rows`` have on one level: how many, and to whom."""
    for at in range(0, len(blocks), CHUNK):
        part = blocks[at : at + CHUNK].astype(np.int64)
        degrees = part[:, 0] & 0xFFFF
        used = np.arange(part.shape[1] - 1) < degrees[:, None]
        ids = np.where(used, part[:, 1:], rows[at : at + CHUNK, None] - 1)
        lost = (ids >= len(levels)) | (ids == rows[at : at + CHUNK, None])
        low = levels[np.where(lost, 0, ids)] < level
        bad = np.flatnonzero((degrees >= part.shape[1]) | (used & (lost | low)).any(axis=1))
        if len(bad):
            row = rows[at + bad[0]]
            yield f"the links of element {row} on level {level} are too many, or lead to itself or to none on that level"
            return


def _check_upper(file: HnswFile, upper_at: NDArray[np.int64]) -> Iterator[str]:
    layout = file.layout
    if not layout.count:
        return
    block = 1 + layout.max_links
    levels = np.where(upper_at > 0, file.upper[np.maximum(upper_at - 1, 0)] // (4 * block), 0).astype(np.int64)
    if not levels[layout.entry_point] == levels.max() == layout.max_level:
        yield (
            f"the header names element {layout.entry_point} on level {layout.max_level} as the way in; "
            f"it reaches level {levels[layout.entry_point]}, and the highest is {levels.max()}"
        )
    for level in range(1, int(levels.max()) + 1):
        rows = np.flatnonzero(levels >= level)
        starts = upper_at[rows] + (level - 1) * block
        yield from _check_links(file.upper[starts[:, None] + np.arange(block)], rows, levels, level)
