"""Facets: which values a field has among some items, and how often; what controls for filters are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.catalogue.snapshot import Selection, Snapshot
from index.columns.build import MemoryTable
from index.columns.column import FIRST, KINDS, Column, Scalar, Table, Values
from index.filter_values import as_scalar

VALUES = 20  # of a field that are given where no number is named
PLAIN = tuple(KINDS[kind] for kind in ("null", "false", "true"))  # kinds that are values themselves


@dataclass(frozen=True, slots=True)
class Facet:
    """What a field has among some items.

    ``count``: how many of them have it; ``values``: its most frequent values (texts, numbers, true, false, null, and elements
    of lists), each with how many items have it, and ``distinct`` how many there are in all; ``numbers`` and ``texts``: the
    least and the greatest, where there are any.
    """

    path: tuple[str, ...]
    count: int
    distinct: int
    values: list[tuple[Any, int]]
    numbers: tuple[float, float] | None
    texts: tuple[str, str] | None


class _Times(NamedTuple):
    """How many rows have each code of a column, int64 [codes]."""

    values: Values
    times: NDArray[np.int64]

    def codes(self) -> NDArray[np.int64]:
        """Return the codes of values that some row has."""
        found = np.flatnonzero(self.times)
        return found[(found >= FIRST) | np.isin(found, PLAIN)]

    def scalar(self, code: int) -> Scalar:
        value = self.values.scalar(code)
        return Scalar(self.values.kind(code), value if code >= FIRST else 0)  # type: ignore[arg-type]

    def of(self, scalar: Scalar) -> int:
        first, end, _ = self.values.equal(scalar)
        return int(self.times[first]) if first < end else 0

    def most_frequent(self, limit: int) -> Iterator[Scalar]:
        codes = self.codes()
        order = np.lexsort((codes, -self.times[codes]))[:limit]
        yield from (self.scalar(code) for code in codes[order].tolist())

    def ends(self) -> Iterator[Scalar]:
        """Yield the least and the greatest number, and the least and the greatest text."""
        codes = self.codes()
        texts = FIRST + len(self.values.numbers)
        for kind in (codes[(codes >= FIRST) & (codes < texts)], codes[codes >= texts]):
            yield from (self.scalar(int(code)) for code in (kind[:1], kind[-1:]) if len(kind) for code in code)


def count_facets(
    snapshot: Snapshot, selection: Selection | None, paths: Sequence[tuple[str, ...]], limit: int
) -> list[Facet]:
    """Count the values of some fields among a selection, or all items; ``limit``: of how many values. Raises DamagedIndex."""
    base, extra = snapshot.rows_and_extra(selection)
    tables = ((snapshot.base.columns, base), (snapshot.table, extra))
    return [_facet(path, tables, limit) for path in paths]


def count_facets_of(
    metadata: Sequence[dict[str, Any]], paths: Sequence[tuple[str, ...]], limit: int = VALUES
) -> list[Facet]:
    """Count the values of some fields in the metadata of some items; ``limit``: of how many values."""
    table = MemoryTable(metadata)
    return [_facet(path, [(table, np.ones(table.count, bool))], limit) for path in paths]


def count_values(
    snapshot: Snapshot, selection: Selection | None, path: tuple[str, ...], values: Sequence[Any]
) -> list[int]:
    """Return how many items of a selection, or of all, have each of some texts, numbers, true or false in a field."""
    base, extra = snapshot.rows_and_extra(selection)
    parts = [
        _Times(column.values, np.bincount(_codes(column, rows), minlength=len(column.values)))
        for table, rows in ((snapshot.base.columns, base), (snapshot.table, extra))
        if (column := table.column(path))
    ]
    return [sum(part.of(as_scalar(value, "")) for part in parts) for value in values]


def _facet(path: tuple[str, ...], tables: Sequence[tuple[Table, NDArray[np.bool_]]], limit: int) -> Facet:
    count, parts = 0, list[_Times]()
    for table, rows in tables:
        for column, itself in ((table.column(path), True), (table.elements(path), False)):
            if column:
                codes = _codes(column, rows)
                count += int(np.count_nonzero(codes)) if itself else 0
                parts.append(_Times(column.values, np.bincount(codes, minlength=len(column.values))))
    if not parts:
        return Facet(path, 0, 0, [], None, None)
    # The most frequent in all are among the most frequent of the largest part, or in another.
    largest = max(parts, key=lambda part: len(part.times))
    others = Counter(
        scalar for part in parts if part is not largest for scalar in map(part.scalar, part.codes().tolist())
    )
    total = {scalar: sum(part.of(scalar) for part in parts) for scalar in {*others, *largest.most_frequent(limit)}}
    ordered = sorted(total.items(), key=lambda pair: (-pair[1], pair[0].kind, pair[0].value))
    ends = [one for part in parts for one in part.ends()]
    numbers, texts = (sorted(one.value for one in ends if one.kind == kind) for kind in ("number", "text"))
    return Facet(
        path=path,
        count=count,
        distinct=len(largest.codes()) + sum(not largest.of(scalar) for scalar in others),
        values=[(_json(scalar), times) for scalar, times in ordered[:limit]],
        numbers=(numbers[0], numbers[-1]) if numbers else None,
        texts=(texts[0], texts[-1]) if texts else None,
    )


def _codes(column: Column, rows: NDArray[np.bool_]) -> NDArray[Any]:
    return column.codes[rows] if column.rows is None else column.codes[rows[column.rows]]


def _json(scalar: Scalar) -> Any:
    return {"null": None, "true": True, "false": False}.get(scalar.kind, scalar.value)
