"""The companion file of an index that has its items' metadata as typed columns, mapped like the index itself.

Next to ``base-000001.hnsw`` lies ``base-000001.columns``: a header, the arrays one after the other, the names of the columns
as sorted texts, and a descriptor of each column, so that opening reads the header alone however many fields there are. It
also has the ids of all rows in order, and the row of each: which row of the index an item is in.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from index.columns.column import Column, Texts, Values
from index.errors import DamagedIndex
from index.mapped_file import forget_pages, map_file

MAGIC = b"LENSCOLS"
VERSION = 1
HEADER = struct.Struct(
    "<8sIIQQQQQQ"
)  # magic, version, none, rows, columns, then where ids, rows, names, descriptors begin
ALIGNED = 8  # bytes
KINDS = (np.uint8, np.uint16, np.uint32)
# A descriptor's words: width of a code, codes, rows or -1, how many codes, float64 or not, numbers, how many, texts' bytes,
# how many bytes, texts' starts, how many texts, instants or -1. All places are bytes from the file's beginning.
WORDS = 12


class ColumnsFile:
    """A mapped file of columns: fulfils Table. Every place that it names is checked before it is used."""

    def __init__(self, mapped: memoryview, count: int, columns: int, places: Sequence[int]) -> None:
        self.count = count
        self._bytes = np.frombuffer(mapped, np.uint8)
        ids, rows, names, descriptors = places
        self.ids: NDArray[np.int64] = self._array(ids, np.int64, count)
        self.rows_of_ids: NDArray[np.uint32] = self._array(rows, np.uint32, count)
        self._descriptors = self._array(descriptors, np.int64, columns * WORDS).reshape(columns, WORDS)
        starts = self._array(names, np.int64, columns + 1)
        end = names + starts.nbytes
        self._names = Texts(self._array(end, np.uint8, descriptors - end), starts)
        self._known: dict[str, Column] = {}

    def __len__(self) -> int:
        """Return how many columns there are, those of elements included."""
        return len(self._descriptors)

    def column(self, path: Sequence[str]) -> Column | None:
        """Return the column of a field, or None where no row has it. Raises DamagedIndex."""
        return self._find(path, of_elements=False)

    def elements(self, path: Sequence[str]) -> Column | None:
        """Return the column of the elements of a field's lists, or None where no row has any. Raises DamagedIndex."""
        return self._find(path, of_elements=True)

    def paths(self) -> Iterable[tuple[str, ...]]:
        """Yield the paths of all fields, in order. Raises DamagedIndex."""
        for place in range(len(self._names)):
            try:
                path, of_elements = json.loads(self._names[place])
            except ValueError:
                raise DamagedIndex("the file of columns has a name that is none; restore or rebuild it") from None
            if not of_elements:
                yield tuple(path)

    def rows(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of items, int64 [n], or -1 for ids that are not there. Raises DamagedIndex."""
        if not self.count:
            return np.full(len(ids), -1)
        places = np.minimum(np.searchsorted(self.ids, ids), self.count - 1)
        rows = np.where(self.ids[places] == ids, self.rows_of_ids[places].astype(np.int64), -1)
        if len(rows) and rows.max() >= self.count:
            raise DamagedIndex("the file of columns names a row that is not there; restore or rebuild the catalogue")
        return rows

    def _find(self, path: Sequence[str], *, of_elements: bool) -> Column | None:
        if (name := _name(path, of_elements)) not in self._known:
            place, end = self._names.place(name)
            if place == end:
                return None
            self._known[name] = self._read(self._descriptors[place].tolist())
        return self._known[name]

    def _read(self, words: list[int]) -> Column:
        width, codes, rows, count, fractions, numbers, n_numbers, data, size, starts, n_texts, instants = words
        if width not in range(len(KINDS)) or (rows < 0 and count != self.count):
            raise DamagedIndex("the file of columns holds a column that is none; restore or rebuild the catalogue")
        kind = np.float64 if fractions else np.int64
        texts = Texts(self._array(data, np.uint8, size), self._array(starts, np.int64, n_texts + 1))
        dates = None if instants < 0 else self._array(instants, np.float64, n_texts)
        values = Values(self._array(numbers, kind, n_numbers), texts, dates)
        found = self._array(codes, KINDS[width], count)
        where = None if rows < 0 else self._array(rows, np.uint32, count)
        if count and (int(found.max()) >= len(values) or (where is not None and int(where.max()) >= self.count)):
            raise DamagedIndex("the file of columns holds a code that is none; restore or rebuild the catalogue")
        return Column(values, found, where, self.count)

    def _array(self, at: int, kind: Any, count: int) -> NDArray[Any]:
        size = np.dtype(kind).itemsize * count
        if at < 0 or count < 0 or at + size > len(self._bytes) or at % np.dtype(kind).itemsize:
            raise DamagedIndex("the file of columns is not whole; restore or rebuild the catalogue")
        return self._bytes[at : at + size].view(kind)


def write_columns(
    path: Path, labels: NDArray[np.int64], columns: Iterable[tuple[tuple[str, ...], bool, Column]]
) -> None:
    """Write the columns of an index whose rows have these labels, int64 [rows]: next to ``path``, flushed, renamed.

    OSError: the disk is full.
    """
    unfinished = path.with_name(path.name + ".new")
    with unfinished.open("wb") as out:
        out.write(bytes(HEADER.size))
        order = np.argsort(labels)
        ids, rows = _write(out, labels[order]), _write(out, order.astype(np.uint32))
        described = {_name(names, elements): _write_column(out, column) for names, elements, column in columns}
        names = sorted(described)
        encoded = [name.encode() for name in names]
        names_at = _write(out, np.cumsum([0, *map(len, encoded)], dtype=np.int64))
        out.write(b"".join(encoded))
        descriptors = _write(out, np.array([described[name] for name in names], np.int64).reshape(-1))
        out.seek(0)
        places = (ids, rows, names_at, descriptors)
        out.write(HEADER.pack(MAGIC, VERSION, 0, len(labels), len(names), *places))
        forget_pages(out)
    unfinished.replace(path)


def _name(path: Sequence[str], of_elements: bool) -> str:
    return json.dumps([list(path), of_elements], ensure_ascii=False, separators=(",", ":"))


def _write_column(out: BinaryIO, column: Column) -> list[int]:
    values, texts = column.values, column.values.texts
    return [
        KINDS.index(column.codes.dtype.type),
        _write(out, column.codes),
        -1 if column.rows is None else _write(out, column.rows),
        len(column.codes),
        int(values.numbers.dtype == np.float64),
        _write(out, values.numbers),
        len(values.numbers),
        _write(out, texts.data),
        len(texts.data),
        _write(out, texts.starts),
        len(texts),
        -1 if values.instants is None else _write(out, values.instants),
    ]


def _write(out: BinaryIO, values: NDArray[Any]) -> int:
    out.write(bytes(-out.tell() % ALIGNED))
    at = out.tell()
    out.write(values.tobytes())
    return at


def open_columns(path: Path) -> ColumnsFile:
    """Map a file of columns, of which only the header is read. Raises DamagedIndex, or OSError when it cannot be read."""
    with path.open("rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        header = opened.read(HEADER.size)
        if len(header) < HEADER.size or header[:8] != MAGIC:
            raise DamagedIndex(f"{path.name} is not a file of columns; restore or rebuild the catalogue")
        _, version, _, count, columns, *places = HEADER.unpack(header)
        if version != VERSION or count > size or columns > size or any(place > size for place in places):
            raise DamagedIndex(f"{path.name} is not a whole file of columns; restore or rebuild the catalogue")
        mapped = map_file(opened)
    return ColumnsFile(memoryview(mapped), count, columns, places)
