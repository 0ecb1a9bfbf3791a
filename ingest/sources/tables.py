"""Tables of pictures: CSV, TSV, JSON lines and Parquet files whose rows name a picture and say something of it."""

from __future__ import annotations

import csv
import datetime
import decimal
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import PurePosixPath
from typing import IO, Any
from unicodedata import normalize

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
# Columns that may name the picture, the first that a table has; and the one that names the item.
PICTURE_COLUMNS = (
    *("file_name", "filename", "file", "path", "file_path", "filepath", "image", "image_path", "image_file"),
    *("url", "image_url", "uri", "image_uri", "link"),
)
KEY_COLUMN = "key"
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")  # JSON's: 007 and +49 stay texts
BOOLEANS = {"true": True, "false": False}
LONGEST_NUMBER = 17  # characters: what has more digits than a float tells apart is a text, as codes of products are
LONGEST_CELL = 1024**2  # characters


class TableError(Exception):
    """A table cannot be read, or does not say where its pictures are."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: its number as an editor or pandas shows it, and its fields, or why it cannot be read."""

    number: int
    fields: Mapping[str, Any]
    error: str = ""


def is_table(name: str) -> bool:
    """Return whether a file name stands for a table."""
    return name.lower().endswith(SUFFIXES)


def read_table(name: str, file: IO[bytes]) -> Iterator[Row]:
    """Yield the rows of a table, whose format its name tells; a cell that is empty is left out.

    CSV and TSV have a line of names first; a column all of whose cells are numbers, or true and false, is one of numbers or
    of booleans. Raises TableError.
    """
    suffix = PurePosixPath(name.lower()).suffix
    try:
        if suffix == ".parquet":
            yield from _parquet(file)
        elif suffix in (".jsonl", ".ndjson"):
            yield from read_json_lines(TextIOWrapper(file, "utf-8-sig"))
        else:
            yield from _separated(TextIOWrapper(file, "utf-8-sig", newline=""), "\t" if suffix == ".tsv" else None)
    except UnicodeDecodeError:
        raise TableError("it is not UTF-8 text") from None


def read_json_lines(lines: Iterable[str]) -> Iterator[Row]:
    """Yield rows of one JSON object a line."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Row(number, {}, f"it is not JSON ({error})")
            continue
        if not isinstance(fields, dict):
            yield Row(number, {}, "it is not a JSON object")
            continue
        yield Row(number, {name: value for name, value in fields.items() if value is not None})


def _separated(text: TextIOWrapper, delimiter: str | None) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_CELL)
    sample = text.read(64 * 1024)
    text.seek(0)
    first = sample.partition("\n")[0]
    delimiter = delimiter or max(",;\t", key=first.count)  # a spreadsheet of some countries writes semicolons
    rows = csv.reader(text, delimiter=delimiter, strict=True)
    try:
        names = [name.strip() for name in next(rows, [])]
        if len(set(names)) < len(names):
            raise TableError("two of its columns have the same name")
        kinds = _kinds(names, rows)
        text.seek(0)
        rows = csv.reader(text, delimiter=delimiter, strict=True)
        next(rows)
        for cells in rows:
            number = rows.line_num
            if len(cells) != len(names):
                if cells:
                    yield Row(number, {}, f"it has {len(cells)} cells, and the table {len(names)} columns")
                continue
            pairs = zip(names, cells, kinds, strict=True)
            yield Row(number, {name: kind(cell) for name, cell, kind in pairs if name and cell.strip()})
    except csv.Error as error:
        raise TableError(f"line {rows.line_num} is not CSV ({error})") from None
    except StopIteration:
        raise TableError("it is empty") from None


def _kinds(names: Sequence[str], rows: Iterable[list[str]]) -> list[Any]:
    """Return for each column what makes a value of a cell."""
    numbers, booleans = [True] * len(names), [True] * len(names)
    for cells in rows:
        for place, cell in enumerate(cells[: len(names)]):
            if text := cell.strip():
                numbers[place] = numbers[place] and _is_number(text)
                booleans[place] = booleans[place] and text.lower() in BOOLEANS
    pairs = zip(numbers, booleans, strict=True)
    return [json.loads if number else _boolean if boolean else str for number, boolean in pairs]


def _is_number(text: str) -> bool:
    return NUMBER.fullmatch(text) is not None and len(text) <= LONGEST_NUMBER and math.isfinite(float(text))


def _boolean(text: str) -> bool:
    return BOOLEANS[text.strip().lower()]


def _parquet(file: IO[bytes]) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise TableError("Parquet files are read with pyarrow, which is not installed: pip install pyarrow") from None
    try:
        batches = parquet.ParquetFile(file).iter_batches(1024)
        rows: Iterator[dict[str, Any]] = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
        for number, fields in enumerate(rows):
            try:
                values = {name: _json_ready(value) for name, value in fields.items()}
            except ValueError as error:
                yield Row(number, {}, str(error))
                continue
            yield Row(number, {name: value for name, value in values.items() if value is not None})
    except (ArrowException, OSError, ValueError) as error:
        raise TableError(f"it is not a Parquet file, or damaged ({str(error).splitlines()[0]})") from None


def _json_ready(value: Any) -> Any:
    """Return a Parquet value as JSON has it; dates as ISO 8601. Raises ValueError."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(name): _json_ready(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_json_ready(inner) for inner in value]
    raise ValueError(f"a value of type {type(value).__name__} is neither text, number, date, list nor object")


def picture_column(columns: Iterable[str], wanted: str | None = None) -> str:
    """Return the column that names the pictures: the one wanted, or the first of PICTURE_COLUMNS. Raises TableError."""
    there = list(columns)
    if wanted is not None:
        if wanted in there:
            return wanted
        raise TableError(f"it has no column {wanted}, only {', '.join(there)}")
    lower = {name.lower(): name for name in reversed(there)}
    found = next((lower[name] for name in PICTURE_COLUMNS if name in lower), None)
    if found is None:
        raise TableError(
            f"no column is known to name pictures ({', '.join(there) or 'it has none'}); name it with --picture-column"
        )
    return found


def as_text(value: Any) -> str:
    """Return a cell as a path, a URL or a key, in NFC."""
    return normalize("NFC", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
