"""The layout of a stock hnswlib 0.8.0 index file, mapped into memory and checked before anything trusts it.

The file is what ``hnswlib.Index.save_index`` writes: a 96-byte header, then one fixed-size record for each element
(level-0 links, vector, label), then for each element the byte length of its upper-level links and those links. It has
no magic and no checksum, and hnswlib itself reads a damaged one into a crash; so every number here is checked against
the length of the file.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.errors import DamagedIndex, DimensionMismatch
from index.mapped_file import map_file

HEADER = struct.Struct("<QQQQQQiIQQQdQ")
NO_ENTRY = 0xFFFFFFFF  # hnswlib writes (tableint)-1 as the entry point of an empty index
MAX_LEVEL = 64  # a level is drawn as -ln(u)·mult: 64 is out of reach for any real M and count


@dataclass(frozen=True, slots=True)
class Layout:
    """The numbers of an index file's header that a reader needs; sizes are in 4-byte words."""

    count: int
    dim: int
    record_words: int
    vector_word: int
    label_word: int
    max_links: int
    max_links0: int
    max_level: int
    entry_point: int
    ef_construction: int


@dataclass(frozen=True, slots=True)
class HnswFile:
    """A mapped index file of ``size`` bytes: ``links`` and ``vectors`` are two views of the same level-0 records.

    ``links``: uint32 [count, record_words]; ``vectors``: float32 of the same shape, each vector at
    ``[vector_word : vector_word + dim]``; ``upper``: uint32, the words after the records.
    """

    layout: Layout
    links: NDArray[np.uint32]
    vectors: NDArray[np.float32]
    upper: NDArray[np.uint32]
    size: int

    def row_vectors(self) -> NDArray[np.float32]:
        """Return all vectors as a view of the map, float32 [count, dim]."""
        return self.vectors[:, self.layout.vector_word : self.layout.vector_word + self.layout.dim]

    def labels(self, rows: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.int64]:
        """Return the labels of some rows, or of all by row, int64 [n]; touches each: all are not for the path of a query."""
        at = self.layout.label_word
        low, high = self.links[rows, at].astype(np.int64), self.links[rows, at + 1].astype(np.int64)
        return low | (high << 32)


def read_layout(header: bytes, file_size: int, dim: int) -> Layout:
    """Read and check the header of an index of ``dim``-d vectors in a file of ``file_size`` bytes.

    Raises DamagedIndex when a field contradicts another or the file's length, DimensionMismatch when the vectors have
    another length than ``dim``.
    """
    if len(header) < HEADER.size:
        raise DamagedIndex(f"the index file has {file_size} bytes, less than the {HEADER.size} of its header")
    (level0, max_elements, count, record, label_at, vector_at, max_level, entry, m_upper, m_zero, m, _, ef) = (
        HEADER.unpack(header[: HEADER.size])
    )
    if not 2 <= m <= 10_000 or m_upper != m or m_zero != 2 * m or level0 != 0:
        raise DamagedIndex(
            f"the index header's link counts do not fit together (M {m}, maxM {m_upper}, maxM0 {m_zero})"
        )
    if vector_at != 4 + 4 * m_zero or label_at <= vector_at or (label_at - vector_at) % 4 or record != label_at + 8:
        raise DamagedIndex(
            f"the index header's offsets do not fit together (vector {vector_at}, label {label_at}, record {record})"
        )
    if (found := (label_at - vector_at) // 4) != dim:
        raise DimensionMismatch(f"the index holds {found}-d vectors where {dim}-d ones were expected")
    if count > max_elements or HEADER.size + count * (record + 4) > file_size:
        raise DamagedIndex(f"the index header names {count} elements, more than fit in its {file_size} bytes")
    if count and not (0 <= max_level <= MAX_LEVEL and entry < count):
        raise DamagedIndex(f"the index header's entry point {entry} (level {max_level}) is not one of {count} elements")
    if not count and entry != NO_ENTRY:
        raise DamagedIndex(f"the index header names entry point {entry} in an empty index")
    return Layout(
        count=count,
        dim=dim,
        record_words=record // 4,
        vector_word=vector_at // 4,
        label_word=label_at // 4,
        max_links=m,
        max_links0=m_zero,
        max_level=max_level,
        entry_point=entry,
        ef_construction=ef,
    )


def resize_header(header: bytes, count: int) -> bytes:
    """Return the header of an index file, but for ``count`` elements."""
    fields = list(HEADER.unpack(header[: HEADER.size]))
    fields[1] = fields[2] = count
    return HEADER.pack(*fields)


def upper_offsets(file: HnswFile) -> NDArray[np.uint32]:
    """Return where each element's links above level 0 begin in ``file.upper``, or 0: uint32 [count]. Walks through all of it.

    Raises DamagedIndex when that part of the file does not add up.
    """
    from index.hnsw.kernel.search import (
        walk_upper,  # a catalogue has them in its companion, and opens without the kernel
    )

    layout = file.layout
    upper_at = np.empty(layout.count, dtype=np.uint32)
    bad_row = walk_upper(file.upper, 1 + layout.max_links, upper_at)
    if bad_row >= 0:
        raise DamagedIndex(f"the index file's upper links end or break off at element {bad_row} of {layout.count}")
    upper_at.flags.writeable = False
    return upper_at


def open_hnsw_file(path: Path, dim: int) -> HnswFile:
    """Map the index file at ``path`` read-only and check its header against its length; nothing else is read.

    Raises DamagedIndex when it is not a whole hnswlib file, DimensionMismatch when it holds vectors of another length,
    and OSError when it cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        layout = read_layout(file.read(HEADER.size), size, dim)
        if (size - HEADER.size) % 4:
            raise DamagedIndex(f"the index file's {size} bytes are not a whole number of records")
        mapped = map_file(file)
    words = np.frombuffer(mapped, dtype=np.uint32, offset=HEADER.size)
    split = layout.count * layout.record_words
    links = words[:split].reshape(layout.count, layout.record_words)
    return HnswFile(layout, links, links.view(np.float32), words[split:], size)
