"""Make columns of metadata."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.columns.column import FIRST, KINDS, Column, Texts, Values

MAX_DEPTH = 8  # names on the way to a field that has a column: a filter reaches no deeper
SPARSE = 8  # a column is kept by row where fewer than one row in so many has a value
EXACT = 2**53  # the whole numbers up to this are exact as float64
SHORTEST_DATE, LONGEST_DATE = len("2024-05-01"), len("2024-05-01T10:00:00.000000+02:00")


class ColumnBuilder:
    """Gathers the values of one field, row by row, and makes a column of them."""

    def __init__(self) -> None:
        self._rows = array("I")
        self._codes = array("I")  # provisional: in the order in which values come
        self._numbers: dict[int | float, int] = {}
        self._texts: dict[str, int] = {}
        self._next = FIRST

    def add(self, row: int, value: Any) -> None:
        """Take the value of a row: rows come in ascending order, and once each but for the elements of lists."""
        self._rows.append(row)
        self._codes.append(self._code(value))

    def _code(self, value: Any) -> int:
        if isinstance(value, str):
            known: dict[Any, int] = self._texts
        elif value is None or isinstance(value, bool):
            return KINDS["null" if value is None else "true" if value else "false"]
        elif isinstance(value, int | float):
            known, value = self._numbers, value if -(2**63) <= value < 2**63 else float(value)
        else:
            return KINDS["list" if isinstance(value, list) else "object"]
        if (code := known.get(value)) is None:
            code = known[value] = self._next
            self._next += 1
        return code

    def build(self, count: int) -> Column:
        """Return the column, of ``count`` rows."""
        numbers = self._sorted_numbers()
        texts = sorted(self._texts)  # by code point, which is also the order of UTF-8
        final = np.arange(self._next, dtype=np.uint32)
        final[[self._numbers[one] for one in self._numbers]] = FIRST + np.searchsorted(
            numbers, np.array(list(self._numbers), numbers.dtype)
        )
        final[[self._texts[one] for one in texts]] = FIRST + len(numbers) + np.arange(len(texts))
        values = Values(numbers, _packed(texts), _instants(texts))
        kind = np.min_scalar_type(len(values) - 1)
        codes = final[np.frombuffer(self._codes, np.uint32)].astype(kind)
        rows = np.frombuffer(self._rows, np.uint32).copy()
        if len(rows) * SPARSE < count or len(rows) > count or (len(rows) > 1 and not (np.diff(rows) > 0).all()):
            return Column(values, codes, rows, count)
        dense = np.zeros(count, kind)
        dense[rows] = codes
        return Column(values, dense, None, count)

    def _sorted_numbers(self) -> NDArray[np.int64] | NDArray[np.float64]:
        if all(isinstance(one, int) for one in self._numbers):
            return np.array(sorted(self._numbers), np.int64)
        return np.unique(np.array(list(self._numbers), np.float64))


def _packed(texts: Sequence[str]) -> Texts:
    encoded = [text.encode() for text in texts]
    starts = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(one) for one in encoded], out=starts[1:])
    return Texts(np.frombuffer(b"".join(encoded), np.uint8), starts)


def _instants(texts: Sequence[str]) -> NDArray[np.float64] | None:
    found = np.array([instant(text) for text in texts], np.float64)
    return None if np.isnan(found).all() else found


def instant(text: str) -> float:
    """Return the seconds from 1970 to an ISO 8601 date or time, NaN for another text; without a zone it is taken as UTC."""
    if not (SHORTEST_DATE <= len(text) <= LONGEST_DATE and text[:4].isdigit() and text[4] == "-"):
        return np.nan
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return np.nan
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


class TableBuilder:
    """Makes the columns of all fields of metadata, row by row."""

    def __init__(self) -> None:
        self._columns: dict[tuple[str, ...], ColumnBuilder] = {}
        self._elements: dict[tuple[str, ...], ColumnBuilder] = {}

    def add(self, row: int, metadata: dict[str, Any]) -> None:
        """Take the metadata of a row; rows come in ascending order."""
        self._add(row, (), metadata)

    def _add(self, row: int, path: tuple[str, ...], fields: dict[str, Any]) -> None:
        for name, value in fields.items():
            at = (*path, name)
            self._columns.setdefault(at, ColumnBuilder()).add(row, value)
            if isinstance(value, list):
                add_elements(self._elements.setdefault(at, ColumnBuilder()), row, value)
            elif isinstance(value, dict) and len(at) < MAX_DEPTH:
                self._add(row, at, value)

    def build(self, count: int) -> Iterator[tuple[tuple[str, ...], bool, Column]]:
        """Yield each field's path and column, and whether it is that of its lists' elements; frees them one by one."""
        for of_elements, builders in ((False, self._columns), (True, self._elements)):
            for path in sorted(builders):
                yield path, of_elements, builders.pop(path).build(count)


def add_elements(builder: ColumnBuilder, row: int, elements: Iterable[Any]) -> None:
    """Take the elements of a row's list, each value once."""
    seen = set()
    for value in elements:
        if not isinstance(value, dict | list) and (known := (type(value) is bool, value)) not in seen:
            seen.add(known)
            builder.add(row, value)


class MemoryTable:
    """The columns of some metadata in memory, each made when a filter first asks for it. Fulfils Table."""

    def __init__(self, metadata: Sequence[dict[str, Any]]) -> None:
        self._metadata = metadata
        self._columns: dict[tuple[str, ...], tuple[Column | None, Column | None]] = {}

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self._metadata)

    def column(self, path: Sequence[str]) -> Column | None:
        """Return the column of a field, or None where no row has it."""
        return self._both(tuple(path))[0]

    def elements(self, path: Sequence[str]) -> Column | None:
        """Return the column of the elements of a field's lists, or None where no row has any."""
        return self._both(tuple(path))[1]

    def _both(self, path: tuple[str, ...]) -> tuple[Column | None, Column | None]:
        if path not in self._columns:
            self._columns[path] = self._build(path)
        return self._columns[path]

    def _build(self, path: tuple[str, ...]) -> tuple[Column | None, Column | None]:
        column, elements = ColumnBuilder(), ColumnBuilder()
        there = listed = False
        for row, fields in enumerate(self._metadata):
            value: Any = fields
            for name in path:
                value = value.get(name, self) if isinstance(value, dict) else self
            if value is not self:
                column.add(row, value)
                there = True
                if isinstance(value, list):
                    add_elements(elements, row, value)
                    listed = True
        return column.build(self.count) if there else None, elements.build(self.count) if listed else None
