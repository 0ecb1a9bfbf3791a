"""Rows of tables into pictures: each names a file, an object of a store or a URL, and the rest of it is metadata."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from index import InvalidEntry, check_entry
from ingest.sources.content import URL_SCHEMES, Content, Fetch, LocalFile, RemoteFile, UrlFile
from ingest.sources.records import SourceFile, SourceNotFound, Sources, skip
from ingest.sources.stores import is_url, open_store
from ingest.sources.tables import KEY_COLUMN, Row, TableError, as_text, picture_column


@dataclass(frozen=True, slots=True)
class TableFormat:
    """Which columns of a table name the pictures and the items, and how URLs are fetched; None: what is usual."""

    picture_column: str | None = None
    key_column: str | None = None
    fetch: Fetch | None = None
    refetch: bool = False


@dataclass(frozen=True, slots=True)
class TableFolder:
    """Where the relative paths in a table begin: a local folder, or one in a store."""

    path: Path = Path()
    store: Any = None

    def content(self, text: str, form: TableFormat) -> Content:
        """Return what a cell names. Raises SourceNotFound for a store that cannot be opened."""
        if text.lower().startswith(URL_SCHEMES):
            return UrlFile(text, form.fetch, form.refetch)
        if is_url(text):
            return RemoteFile(*open_store(text, form.fetch))
        if self.store is not None:
            return RemoteFile(self.store, (PurePosixPath(self.path.as_posix()) / text).as_posix())
        return LocalFile(self.path / Path(text).expanduser())


def add_rows(
    rows: Iterable[Row], table: str, folder: TableFolder, form: TableFormat, found: Sources, keys: set[str]
) -> None:
    """Put the pictures that a table names into ``found``, and its bad rows into what is skipped; ``keys`` are those taken.

    Raises TableError when no row says where its picture is, or none has the column of keys that is wanted.
    """
    picture: str | None = None
    fault: TableError | None = None
    unkeyed: Row | None = None
    seen: dict[str, int] = {}
    for row in rows:
        place = f"{table}, row {row.number}"
        if row.error:
            found.skipped.append(skip(place, row.error))
            continue
        try:
            picture = picture or picture_column(row.fields, form.picture_column)
        except TableError as error:  # an empty cell is no field: the next row may have it
            fault = fault or error
        if picture is None or picture not in row.fields:
            found.skipped.append(skip(place, f"it names no picture in its column {picture}" if picture else str(fault)))
            continue
        if form.key_column and form.key_column not in row.fields:
            unkeyed = unkeyed or row
            found.skipped.append(skip(place, f"it has no key in its column {form.key_column}"))
            continue
        text = as_text(row.fields[picture])
        key = as_text(row.fields.get(form.key_column or KEY_COLUMN, text))
        if key in keys:
            where = f"row {seen[key]}" if key in seen else "another source"
            tell = f"; a column {KEY_COLUMN} tells items apart" if key in seen else ""
            found.skipped.append(skip(key, f"{where} has this key already{tell}", place))
            continue
        try:
            metadata = _metadata(row, picture, text, form)
            check_entry(key, metadata)
            file = SourceFile(key, folder.content(text, form), _folder_name(text), metadata, place)
        except (InvalidEntry, SourceNotFound) as error:
            found.skipped.append(skip(key, str(error), place))
            continue
        seen[key] = row.number
        keys.add(key)
        found.files.append(file)
    if fault and picture is None:
        raise fault
    if unkeyed and not seen:
        raise TableError(f"it has no column {form.key_column}, only {', '.join(unkeyed.fields)}")


def describing_rows(rows: Iterable[Row], table: str, found: Sources) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield the path, the metadata and the place of each row of a ``metadata.csv`` next to pictures.

    Raises TableError unless it has a column file_name.
    """
    for row in rows:
        place = f"{table}, row {row.number}"
        if row.error:
            found.skipped.append(skip(place, row.error))
        elif FILE_NAME not in row.fields:
            raise TableError(f"it has no column {FILE_NAME}")
        else:
            text = as_text(row.fields[FILE_NAME])
            yield text, {name: value for name, value in row.fields.items() if name != FILE_NAME}, place


FILE_NAME = "file_name"  # of Hugging Face's layout "imagefolder"


def _metadata(row: Row, picture: str, text: str, form: TableFormat) -> dict[str, Any]:
    """Return what a row says besides: also its URL, which leads people to the picture, but no path of this machine."""
    left_out = {form.key_column or KEY_COLUMN} | (set() if text.lower().startswith(URL_SCHEMES) else {picture})
    return {name: value for name, value in row.fields.items() if name not in left_out}


def _folder_name(text: str) -> str:
    return PurePosixPath(text).parent.name
