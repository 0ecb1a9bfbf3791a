"""Filters as vector databases write them, turned into SQL over the items' metadata.

``OPERATORS`` is the one list of operators: SQL, error messages, /docs.json and docs/filters.md follow from it.

A filter is an object of conditions that must all hold: ``{"label": "cats", "width": {"$gte": 640}}``. A value by itself
means ``$eq``; an object without operators asks of the fields inside a field. Comparing is between values of one kind:
numbers with numbers, texts with texts (by code point, so that ISO dates come in order), and a field that is not there
equals nothing. Texts are compared in NFC. Negations are exact opposites: ``$ne``, ``$nin`` and ``$not`` hold where their
positives do not, so also where the field is missing.
"""

from __future__ import annotations

import itertools
import json
import math
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from index.errors import InvalidFilter

MAX_CONDITIONS = 64  # each may cost half a microsecond for every item
MAX_DEPTH = 8
TYPES = {"text": "= 'text'", "number": "IN ('integer', 'real')"}  # JSON's kinds by SQLite's names


class Condition(NamedTuple):
    """SQL that is 1 or 0, never NULL, and the values for its question marks."""

    sql: str
    values: tuple[str | int | float, ...] = ()


Test = Callable[[str, Any, str], Condition]  # a row of json_each, the operand, and the place of it in the filter
Operand = Literal["scalar", "text", "ordered", "scalars", "boolean", "filters", "filter"]


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator of filters: what it takes, and what of.

    ``holds`` completes "holds where the field …". ``test`` is its SQL; ``negates`` names the operator that it is the exact
    opposite of. An operator with neither joins filters.
    """

    name: str
    operand: Operand
    holds: str
    test: Test | None = None
    negates: str | None = None

    @property
    def of_field(self) -> bool:
        """Whether it stands inside a field."""
        return self.operand != "filters"

    @property
    def of_filters(self) -> bool:
        """Whether it joins filters."""
        return self.operand in ("filters", "filter")


def compile_filter(where: object) -> Condition:
    """Turn a filter into a condition on the column ``metadata``. Raises InvalidFilter, which points at the place."""
    return _Compiler().filter(where, "where")


class _Compiler:
    """Counts what it has seen, so that no filter is too deep or too long for SQLite, and names nested tables apart."""

    def __init__(self) -> None:
        self._conditions = 0
        self._names = (f"f{n}" for n in itertools.count())

    def filter(self, where: object, place: str, depth: int = 0) -> Condition:
        """Compile a whole filter; ``depth`` is how many groups it stands in."""
        if not isinstance(where, dict):
            raise InvalidFilter(f'{place}: a filter is an object, such as {{"label": "cats"}}, not {_named(where)}')
        if depth > MAX_DEPTH:
            raise InvalidFilter(f"{place}: the filter is more than {MAX_DEPTH} levels deep")
        self._count(place, 0 if where else 1)
        return _joined("AND", [self._part(name, asked, f"{place}.{name}", depth + 1) for name, asked in where.items()])

    def _part(self, name: str, asked: object, place: str, depth: int) -> Condition:
        if name == "$not":
            return _negated(self.filter(asked, place, depth))
        operator = BY_NAME.get(name)
        if operator and operator.of_filters:
            if not isinstance(asked, list) or not asked:
                raise InvalidFilter(f"{place}: give a list of filters, at least one")
            parts = [self.filter(one, f"{place}[{n}]", depth) for n, one in enumerate(asked)]
            return _joined(name[1:].upper(), parts)
        if name.startswith("$"):
            if operator:
                raise InvalidFilter(f'{place}: {name} is asked of a field, as in {{"width": {{"{name}": …}}}}')
            raise InvalidFilter(f"{place}: there is no operator {name}; there are {', '.join(BY_NAME)}")
        return self._field((name,), asked, place, depth)

    def _field(self, path: tuple[str, ...], asked: object, place: str, depth: int) -> Condition:
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
            inner = [self._field((*path, name), one, f"{place}.{name}", depth + 1) for name, one in asked.items()]
            return _joined("AND", inner)
        tests = [self._asked(path, word, operand, f"{place}.{word}", depth) for word, operand in asked.items()]
        return _joined("AND", tests)

    def _asked(self, path: tuple[str, ...], operator: str, operand: Any, place: str, depth: int) -> Condition:
        self._count(place, 1)
        if operator == "$not":
            inner = operand if isinstance(operand, dict) else {"$eq": operand}
            return _negated(self._field(path, inner, place, depth + 1))
        found = self._found(path, _positive(operator, place), operand, place)
        absent = operator == "$exists" and operand is False
        return _negated(found) if absent or BY_NAME[operator].negates else found

    def _found(self, path: tuple[str, ...], test: Test, operand: Any, place: str) -> Condition:
        """Compile: there is a field at the end of the path, and it passes the test."""
        rows = [next(self._names) for _ in path]
        condition = test(rows[-1], operand, place)
        for at in reversed(range(len(path))):
            json_of = f"{rows[at - 1]}.value" if at else "metadata"
            row, name = rows[at], _text(path[at], place)
            passes = condition.sql if at == len(path) - 1 else f"{row}.type = 'object' AND {condition.sql}"
            sql = f"EXISTS (SELECT 1 FROM json_each({json_of}) AS {row} WHERE {row}.key = ? AND {passes})"
            condition = Condition(sql, (name, *condition.values))
        return condition

    def _count(self, place: str, conditions: int) -> None:
        self._conditions += conditions
        if self._conditions > MAX_CONDITIONS:
            raise InvalidFilter(
                f"{place}: a filter has at most {MAX_CONDITIONS} conditions; $in takes any number of values"
            )


def _positive(operator: str, place: str) -> Test:
    """Return the test of a field's operator, or that of its opposite. Raises InvalidFilter for one that there is not."""
    found = BY_NAME.get(operator)
    if found and found.negates:
        found = BY_NAME[found.negates]
    if found is None or found.test is None:
        names = ", ".join(one.name for one in OPERATORS if one.of_field)
        raise InvalidFilter(f"{place}: there is no operator {operator}; a field takes {names}")
    return found.test


def _compares(sql: str) -> Test:
    def test(row: str, operand: Any, place: str) -> Condition:
        kind, value = _scalar(operand, place)
        if kind not in TYPES:
            raise InvalidFilter(f"{place}: compare with a number or a text, not {_named(operand)}")
        return Condition(f"{row}.type {TYPES[kind]} AND {row}.atom {sql} ?", (value,))

    return test


def _equals(row: str, operand: Any, place: str) -> Condition:
    return _any_of(row, [operand], place)


def _is_in(row: str, operand: Any, place: str) -> Condition:
    if not isinstance(operand, list):
        raise InvalidFilter(f"{place}: give a list of values, not {_named(operand)}")
    return _any_of(row, operand, place)


def _exists(row: str, operand: Any, place: str) -> Condition:
    if not isinstance(operand, bool):
        raise InvalidFilter(f"{place}: give true or false, not {_named(operand)}")
    return Condition("1")


def _contains(row: str, operand: Any, place: str) -> Condition:
    element = _any_of(f"{row}e", [operand], place)
    within = f"{row}.type = 'array' AND EXISTS (SELECT 1 FROM json_each({row}.value) AS {row}e WHERE {element.sql})"
    if isinstance(operand, str):
        either = f"({within} OR {row}.type = 'text' AND instr({row}.atom, ?) > 0)"
        return Condition(either, (*element.values, _text(operand, place)))
    return Condition(within, element.values)


def _begins_with(row: str, operand: Any, place: str) -> Condition:
    if not isinstance(operand, str):
        raise InvalidFilter(f"{place}: give a text, not {_named(operand)}")
    text = _text(operand, place)
    return Condition(f"{row}.type = 'text' AND substr({row}.atom, 1, length(?)) = ?", (text, text))


def _any_of(row: str, operands: list[Any], place: str) -> Condition:
    """Compile: equal to one of these. Values travel as one JSON list for each kind, so that there may be any number."""
    values: dict[str, list[str | int | float]] = {}
    for n, operand in enumerate(operands):
        kind, value = _scalar(operand, place if len(operands) == 1 else f"{place}[{n}]")
        values.setdefault(kind, []).append(value)
    parts = []
    for kind, some in values.items():
        if kind in TYPES:
            listed = json.dumps(some, ensure_ascii=False)
            equal = f"{row}.type {TYPES[kind]} AND {row}.atom IN (SELECT value FROM json_each(?))"
            parts.append(Condition(equal, (listed,)))
        else:
            parts.append(Condition(f"{row}.type = '{kind}'"))
    return _joined("OR", parts) if parts else Condition("0")


def _scalar(value: Any, place: str) -> tuple[str, str | int | float]:
    """Return a value's kind ('text', 'number', or the SQL name of true, false and null) and itself as SQLite takes it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value), 0
    if isinstance(value, str):
        return "text", _text(value, place)
    if isinstance(value, int | float):
        try:
            if isinstance(value, float) or not -(2**63) <= value < 2**63:
                value = float(value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise InvalidFilter(f"{place}: the number is too large, or is none")
        return "number", value
    raise InvalidFilter(f"{place}: give a text, a number, true, false or null, not {_named(value)}")


def _text(value: str, place: str) -> str:
    if "\0" in value:  # SQLite's JSON ends a text there
        raise InvalidFilter(f"{place}: a text cannot hold a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        place = place.encode("utf-8", "backslashreplace").decode()
        raise InvalidFilter(f"{place}: half a surrogate pair is no text") from None
    return unicodedata.normalize("NFC", value)  # as the catalogue has its texts


def _joined(word: str, parts: list[Condition]) -> Condition:
    if not parts:
        return Condition("1")
    values = itertools.chain.from_iterable(part.values for part in parts)
    return Condition(f"({f' {word} '.join(part.sql for part in parts)})", tuple(values))


def _negated(condition: Condition) -> Condition:
    return Condition(f"NOT {condition.sql}", condition.values)


def _named(value: object) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names = {dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)


OPERATORS: tuple[Operator, ...] = (
    Operator("$eq", "scalar", "equals the value; a value by itself means `$eq`", _equals),
    Operator("$ne", "scalar", "does not equal the value, or is missing", negates="$eq"),
    Operator("$gt", "ordered", "is a number or a text that comes after the value", _compares(">")),
    Operator("$gte", "ordered", "equals the value, or comes after it", _compares(">=")),
    Operator("$lt", "ordered", "is a number or a text that comes before the value", _compares("<")),
    Operator("$lte", "ordered", "equals the value, or comes before it", _compares("<=")),
    Operator("$in", "scalars", "equals one of a list of values", _is_in),
    Operator("$nin", "scalars", "equals none of a list of values, or is missing", negates="$in"),
    Operator("$exists", "boolean", "is there (`true`), or is missing (`false`)", _exists),
    Operator("$contains", "scalar", "is a list that has the value, or a text that has the text in it", _contains),
    Operator("$prefix", "text", "is a text that begins with the text", _begins_with),
    Operator("$and", "filters", "joins a list of filters that must all hold"),
    Operator("$or", "filters", "joins a list of filters of which one must hold"),
    Operator("$not", "filter", "holds where a filter does not; inside a field, where the field's conditions do not"),
)
BY_NAME = {operator.name: operator for operator in OPERATORS}
