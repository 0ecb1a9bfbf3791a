"""Filters as vector databases write them, evaluated on typed columns of the items' metadata.

``OPERATORS`` is the one list of operators: tests, error messages, /docs.json and docs/filters.md follow from it.

A filter is an object of conditions that must all hold: ``{"label": "cats", "width": {"$gte": 640}}``. A value by itself
means ``$eq``; an object without operators asks of the fields inside a field. Comparing is between values of one kind:
numbers with numbers, texts with texts (by code point, so that ISO dates come in order), and a field that is not there
equals nothing. Texts are compared in NFC. Negations are exact opposites: ``$ne``, ``$nin`` and ``$not`` hold where their
positives do not, so also where the field is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from index.columns.column import Codes, Scalar, Table, Values
from index.errors import InvalidFilter
from index.filter_values import Near, as_near, as_period, as_scalar, as_text, named

MAX_CONDITIONS = 64  # each is a pass over all rows
MAX_DEPTH = 8

Operand = Literal["scalar", "text", "ordered", "scalars", "boolean", "period", "near", "filters", "filter"]
Parsed = bool | str | Scalar | tuple[Scalar, ...] | tuple[float, float] | Near


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator of filters: what it takes, and what of.

    ``holds`` completes "holds where the field …". ``parse`` checks an operand, given the place of it in the filter;
    ``select`` returns the codes of a column's values that pass. With ``elements``, a list passes by one of its elements that
    equals the operand. ``negates`` names the operator that it is the exact opposite of. An operator with neither joins
    filters.
    """

    name: str
    operand: Operand
    holds: str
    parse: Callable[[Any, str], Parsed] | None = None
    select: Callable[[Values, Any], Codes] | None = None
    elements: bool = False
    negates: str | None = None

    @property
    def of_field(self) -> bool:
        """Whether it stands inside a field."""
        return self.operand != "filters"

    @property
    def of_filters(self) -> bool:
        """Whether it joins filters."""
        return self.operand in ("filters", "filter", "near")


@dataclass(frozen=True, slots=True)
class Condition:
    """What is asked of one field: equal conditions are equal, and can be kept by."""

    path: tuple[str, ...]
    operator: str
    operand: Parsed

    def rows(self, table: Table) -> NDArray[np.bool_]:
        """Return which rows it holds for, bool [table.count]."""
        operator = BY_NAME[self.operator]
        if isinstance(self.operand, Near):
            latitude, longitude = (table.column((*self.path, name)) for name in ("latitude", "longitude"))
            return self.operand.rows(latitude, longitude, table.count)
        found = np.zeros(table.count, bool)
        if operator.select and (column := table.column(self.path)):
            found = column.mask(operator.select(column.values, self.operand))
        if operator.elements and isinstance(self.operand, Scalar) and (elements := table.elements(self.path)):
            found = found | elements.mask(elements.values.equal(self.operand))
        return found


@dataclass(frozen=True, slots=True)
class Joined:
    """Filters that must all hold (``every``), or of which one must; none of them hold for ``negated``."""

    parts: tuple[Condition | Joined, ...]
    every: bool = True
    negated: bool = False

    def rows(self, table: Table) -> NDArray[np.bool_]:
        """Return which rows it holds for, bool [table.count]."""
        found: NDArray[np.bool_] | None = None
        for part in self.parts:
            rows = part.rows(table)
            found = rows if found is None else found & rows if self.every else found | rows
        if found is None:
            found = np.full(table.count, self.every)
        return ~found if self.negated else found


Filter = Condition | Joined


def compile_filter(where: object) -> Filter:
    """Check a filter, and return it ready to be evaluated. Raises InvalidFilter, which points at the place."""
    return _Compiler().filter(where, "where")


class _Compiler:
    """Counts what it has seen, so that no filter is too deep or too long."""

    def __init__(self) -> None:
        self._conditions = 0

    def filter(self, where: object, place: str, depth: int = 0) -> Filter:
        """Compile a whole filter; ``depth`` is how many groups it stands in."""
        if not isinstance(where, dict):
            raise InvalidFilter(f'{place}: a filter is an object, such as {{"label": "cats"}}, not {named(where)}')
        if depth > MAX_DEPTH:
            raise InvalidFilter(f"{place}: the filter is more than {MAX_DEPTH} levels deep")
        self._count(place, 0 if where else 1)
        return _all_of([self._part(name, asked, f"{place}.{name}", depth + 1) for name, asked in where.items()])

    def _part(self, name: str, asked: object, place: str, depth: int) -> Filter:
        if name == "$not":
            return _negated(self.filter(asked, place, depth))
        operator = BY_NAME.get(name)
        if operator and operator.operand == "near":
            return self._asked((), name, asked, place, depth)
        if operator and operator.operand == "filters":
            if not isinstance(asked, list) or not asked:
                raise InvalidFilter(f"{place}: give a list of filters, at least one")
            parts = [self.filter(one, f"{place}[{n}]", depth) for n, one in enumerate(asked)]
            return Joined(tuple(parts), every=name == "$and")
        if name.startswith("$"):
            if operator:
                raise InvalidFilter(f'{place}: {name} is asked of a field, as in {{"width": {{"{name}": …}}}}')
            raise InvalidFilter(f"{place}: there is no operator {name}; there are {', '.join(BY_NAME)}")
        return self._field((name,), asked, place, depth)

    def _field(self, path: tuple[str, ...], asked: object, place: str, depth: int) -> Filter:
        """Compile what is asked of a field, or of the fields inside it; ``path`` has the names on the way to it."""
        if depth > MAX_DEPTH:
            raise InvalidFilter(f"{place}: the filter is more than {MAX_DEPTH} levels deep")
        if not isinstance(asked, dict):
            asked = {"$eq": asked}
        if not asked:
            raise InvalidFilter(f'{place}: say what is asked of the field, as in {{"$gt": 100}}')
        operators = [word.startswith("$") for word in asked]
        if not all(operators):
            if any(operators):
                raise InvalidFilter(f"{place}: operators and fields cannot stand side by side")
            return _all_of(
                [self._field((*path, name), one, f"{place}.{name}", depth + 1) for name, one in asked.items()]
            )
        tests = [self._asked(path, word, operand, f"{place}.{word}", depth) for word, operand in asked.items()]
        return _all_of(tests)

    def _asked(self, path: tuple[str, ...], name: str, operand: Any, place: str, depth: int) -> Filter:
        self._count(place, 1)
        if name == "$not":
            inner = operand if isinstance(operand, dict) else {"$eq": operand}
            return _negated(self._field(path, inner, place, depth + 1))
        asked = BY_NAME.get(name)
        operator = BY_NAME[asked.negates] if asked and asked.negates else asked
        if operator is None or operator.parse is None:
            names = ", ".join(one.name for one in OPERATORS if one.of_field)
            raise InvalidFilter(f"{place}: there is no operator {name}; a field takes {names}")
        stored = tuple(as_text(one, place) for one in path)
        condition = Condition(stored, operator.name, operator.parse(operand, place))
        absent = name == "$exists" and operand is False
        return _negated(condition) if absent or operator is not asked else condition

    def _count(self, place: str, conditions: int) -> None:
        self._conditions += conditions
        if self._conditions > MAX_CONDITIONS:
            raise InvalidFilter(
                f"{place}: a filter has at most {MAX_CONDITIONS} conditions; $in takes any number of values"
            )


def _all_of(parts: list[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else Joined(tuple(parts))


def _negated(part: Filter) -> Filter:
    return Joined((part,), negated=True)


def _ordered(operand: Any, place: str) -> Scalar:
    scalar = as_scalar(operand, place)
    if scalar.kind not in ("number", "text"):
        raise InvalidFilter(f"{place}: compare with a number or a text, not {named(operand)}")
    return scalar


def _scalars(operand: Any, place: str) -> tuple[Scalar, ...]:
    if not isinstance(operand, list):
        raise InvalidFilter(f"{place}: give a list of values, not {named(operand)}")
    return tuple(as_scalar(one, place if len(operand) == 1 else f"{place}[{n}]") for n, one in enumerate(operand))


def _boolean(operand: Any, place: str) -> bool:
    if not isinstance(operand, bool):
        raise InvalidFilter(f"{place}: give true or false, not {named(operand)}")
    return True


def _start(operand: Any, place: str) -> str:
    if not isinstance(operand, str):
        raise InvalidFilter(f"{place}: give a text, not {named(operand)}")
    return as_text(operand, place)


def _compares(sign: str) -> Callable[[Values, Scalar], Codes]:
    return lambda values, scalar: values.compare(sign, scalar)


def _having(values: Values, scalar: Scalar) -> Codes:
    return values.containing(str(scalar.value)) if scalar.kind == "text" else Codes(0, 0)


OPERATORS: tuple[Operator, ...] = (
    Operator("$eq", "scalar", "equals the value; a value by itself means `$eq`", as_scalar, Values.equal),
    Operator("$ne", "scalar", "does not equal the value, or is missing", negates="$eq"),
    Operator("$gt", "ordered", "is a number or a text that comes after the value", _ordered, _compares(">")),
    Operator("$gte", "ordered", "equals the value, or comes after it", _ordered, _compares(">=")),
    Operator("$lt", "ordered", "is a number or a text that comes before the value", _ordered, _compares("<")),
    Operator("$lte", "ordered", "equals the value, or comes before it", _ordered, _compares("<=")),
    Operator("$in", "scalars", "equals one of a list of values", _scalars, Values.any_of),
    Operator("$nin", "scalars", "equals none of a list of values, or is missing", negates="$in"),
    Operator(
        *("$exists", "boolean", "is there (`true`), or is missing (`false`)", _boolean),
        select=lambda values, _: values.there(),
    ),
    Operator(
        *("$contains", "scalar", "is a list that has the value, or a text that has the text in it", as_scalar, _having),
        elements=True,
    ),
    Operator("$prefix", "text", "is a text that begins with the text", _start, Values.beginning_with),
    Operator(
        "$during",
        "period",
        'is a date or time within the ISO 8601 period: `"2024"`, `"2024-05"`, `"2024-05-01"`, or from one to another, the '
        'last one included: `"2024-05-01/2024-06"`; what has no zone is taken as UTC',
        as_period,
        lambda values, period: values.during(*period),
    ),
    Operator(
        "$near",
        "near",
        "is an object whose `latitude` and `longitude` in degrees are within `km` kilometres of others; by itself, it asks "
        'so of those of the item: `{"$near": {"latitude": 52.5, "longitude": 13.4, "km": 10}}`',
        as_near,
    ),
    Operator("$and", "filters", "joins a list of filters that must all hold"),
    Operator("$or", "filters", "joins a list of filters of which one must hold"),
    Operator("$not", "filter", "holds where a filter does not; inside a field, where the field's conditions do not"),
)
BY_NAME = {operator.name: operator for operator in OPERATORS}
