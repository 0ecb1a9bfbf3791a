"""Filters find exactly the items that a plain reading of them allows, and a wrong one is refused at its place."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import InvalidFilter, parse_filter
from index.columns.build import MemoryTable, TableBuilder
from index.columns.column import Table
from index.columns.file import open_columns, write_columns
from index.filter_json import field_names
from index.filters import OPERATORS, compile_filter

COMPARISONS = [one.name for one in OPERATORS if one.operand == "ordered"]

ITEMS: list[dict[str, Any]] = [
    {"width": 640, "label": "cats", "tags": ["red", 3, None]},
    {"width": 641.5, "label": "dogs", "tags": []},
    {"width": "640", "label": "Cats and dogs", "camera": {"make": "Canon", "lens": {"f": 1.8}}},
    {"width": True, "label": None, "tags": "red"},
    {"width": None, "camera": {"make": "canon"}},
    {"label": "", 'odd "name"\\.$x': 7, "größe": 2},
    {},
    {"width": 2**62, "taken": "2024-05-01T10:00:00"},
    {"width": -1e300, "taken": "2025-05-01T10:00:00", "camera": "Canon"},
]


def written(folder: Path, items: list[dict[str, Any]]) -> Table:
    builder = TableBuilder()
    for row, item in enumerate(items):
        builder.add(row, item)
    write_columns(folder / "base.columns", np.arange(len(items)), builder.build(len(items)))
    return open_columns(folder / "base.columns")


@pytest.fixture(scope="module", params=["in memory", "mapped", "sparse"])
def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Table:
    """The items' columns: made of them, from a file, and from one that has them among many others without metadata."""
    if request.param == "in memory":
        return MemoryTable(ITEMS)
    return written(tmp_path_factory.mktemp("columns"), ITEMS + [{}] * (1000 if request.param == "sparse" else 0))


def allowed(table: Table, where: object) -> list[int]:
    rows = compile_filter(where).rows(table)
    assert rows.shape == (table.count,)
    return [int(row) for row in np.flatnonzero(rows) if row < len(ITEMS)]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, list(range(9))),
        ({"label": "cats"}, [0]),
        ({"label": {"$eq": "cats"}}, [0]),
        ({"label": {"$ne": "cats"}}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"width": 640}, [0]),
        ({"width": 640.0}, [0]),
        ({"width": "640"}, [2]),
        ({"width": True}, [3]),
        ({"width": 1}, []),
        ({"width": None}, [4]),
        ({"width": {"$gt": 640}}, [1, 7]),
        ({"width": {"$gte": 640, "$lt": 641.6}}, [0, 1]),
        ({"width": {"$lte": 0}}, [8]),
        ({"taken": {"$gte": "2025"}}, [8]),
        ({"width": {"$in": [640, "640", None]}}, [0, 2, 4]),
        ({"width": {"$in": []}}, []),
        ({"label": {"$nin": ["cats", "dogs"]}}, [2, 3, 4, 5, 6, 7, 8]),
        ({"label": {"$exists": False}}, [4, 6, 7, 8]),
        ({"label": {"$exists": True}, "width": {"$exists": True}}, [0, 1, 2, 3]),
        ({"tags": {"$contains": "red"}}, [0, 3]),
        ({"tags": {"$contains": 3}}, [0]),
        ({"tags": {"$contains": None}}, [0]),
        ({"label": {"$contains": "dogs"}}, [1, 2]),
        ({"camera": {"make": "Canon"}}, [2]),
        ({"camera": {"lens": {"f": {"$lt": 2}}}}, [2]),
        ({"camera": {"make": {"$ne": "Canon"}}}, [0, 1, 3, 4, 5, 6, 7, 8]),
        ({"camera": {"make": {"$exists": False}}}, [0, 1, 3, 5, 6, 7, 8]),
        ({"camera": {"make": {"$not": {"$in": ["Canon", "canon"]}}}}, [0, 1, 3, 5, 6, 7, 8]),
        ({"camera": {"make": "Canon", "lens": {"f": {"$gt": 2}}}}, []),
        ({'odd "name"\\.$x': 7}, [5]),
        ({"größe": {"$gt": 1}}, [5]),
        ({"$or": [{"label": "cats"}, {"camera": {"make": {"$exists": True}}}]}, [0, 2, 4]),
        ({"$and": [{"width": {"$gt": 0}}, {"label": "dogs"}]}, [1]),
        ({"$not": {"label": {"$exists": True}}}, [4, 6, 7, 8]),
        ({"label": {"$prefix": "cat"}}, [0]),
        ({"label": {"$prefix": "Cats and"}}, [2]),
        ({"label": {"$prefix": ""}}, [0, 1, 2, 5]),
        ({"width": {"$prefix": "64"}}, [2]),
        ({"camera": {"make": {"$prefix": "Can"}}}, [2]),
        ({"label": {"$not": {"$prefix": "c"}}}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"label": {"$prefix": "%"}}, []),
        ({"gro\u0308\u00dfe": 2}, [5]),
        ({"width": {"$not": {"$gt": 0}}}, [2, 3, 4, 5, 6, 8]),
        ({"label": {"$in": ["'; DROP TABLE items; --"]}}, []),
        ({"width": 2**70}, []),
    ],
    ids=json.dumps,
)
def test_a_filter_allows_what_it_says(table: Table, where: object, expected: list[int]) -> None:
    assert allowed(table, where) == expected


MISSING = object()


def kind(value: Any) -> str:
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def same(one: Any, other: Any) -> bool:
    return kind(one) == kind(other) and one == other


def holds(item: dict[str, Any], where: dict[str, Any]) -> bool:
    """A plain reading of a filter, to judge by."""
    for name, asked in where.items():
        if name == "$and":
            result = all(holds(item, one) for one in asked)
        elif name == "$or":
            result = any(holds(item, one) for one in asked)
        elif name == "$not":
            result = not holds(item, asked)
        else:
            result = all(passes(item.get(name, MISSING), *one) for one in asked.items())
        if not result:
            return False
    return True


def passes(value: Any, operator: str, operand: Any) -> bool:
    if operator in ("$ne", "$nin"):
        return not passes(value, {"$ne": "$eq", "$nin": "$in"}[operator], operand)
    if operator == "$not":
        return not all(passes(value, *one) for one in operand.items())
    if operator == "$exists":
        return (value is not MISSING) is operand
    if value is MISSING:
        return False
    if operator == "$contains":
        within = isinstance(value, list) and any(same(one, operand) for one in value)
        return within or (isinstance(value, str) and isinstance(operand, str) and operand in value)
    if operator == "$prefix":
        return isinstance(value, str) and value.startswith(operand)
    if operator == "$in":
        return any(same(value, one) for one in operand)
    if operator == "$eq":
        return same(value, operand)
    ordered = kind(value) == kind(operand) and kind(value) in ("number", "str")
    compare = {"$gt": "__gt__", "$gte": "__ge__", "$lt": "__lt__", "$lte": "__le__"}[operator]
    return ordered and bool(getattr(float(value) if kind(value) == "number" else value, compare)(operand))


def some_filter(dice: random.Random, depth: int) -> dict[str, Any]:
    if depth and dice.random() < 0.5:
        several = [some_filter(dice, depth - 1) for _ in range(dice.randint(1, 3))]
        return dice.choice([{"$and": several}, {"$or": several}, {"$not": several[0]}])
    values = [640, 641.5, 0.5, "640", "cats", "", "dogs", None, True, False, "red", 3]
    conditions: dict[str, Any] = {}
    for _ in range(dice.randint(1, 2)):
        operator = dice.choice(
            [one.name for one in OPERATORS if one.of_field and one.operand not in ("near", "period")]
        )
        operand: Any = dice.choice(values)
        if operator in COMPARISONS:
            operand = dice.choice([640, 641.5, 0.5, "640", "cats", ""])
        elif operator in ("$in", "$nin"):
            operand = dice.sample(values, dice.randint(0, 4))
        elif operator == "$exists":
            operand = dice.random() < 0.5
        elif operator == "$not":
            operand = {"$gt": 600.0}
        elif operator == "$prefix":
            operand = dice.choice(["640", "64", "cat", "", "re"])
        conditions[operator] = operand
    return {dice.choice(["width", "label", "tags", "none"]): conditions}


def test_random_filters_allow_what_a_plain_reading_allows(table: Table) -> None:
    dice = random.Random(5)
    sizes = set()
    for _ in range(600):
        where = some_filter(dice, 3)
        found = allowed(table, where)
        assert found == [n for n, item in enumerate(ITEMS) if holds(item, where)], where
        sizes.add(len(found))
    assert len(sizes) > 6


def deep(levels: int) -> dict[str, Any]:
    where: dict[str, Any] = {"width": 640}
    for _ in range(levels):
        where = {"$not": where}
    return where


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ([], 'where: a filter is an object, such as {"label": "cats"}, not a list'),
        ("label = cats", "where: a filter is an object, such as .*, not a text"),
        ({"$xor": []}, r"where.\$xor: there is no operator \$xor; there are \$eq, "),
        ({"$gt": 3}, r'where.\$gt: \$gt is asked of a field, as in {"width": {"\$gt": …}}'),
        ({"$and": {"a": 1}}, r"where.\$and: give a list of filters, at least one"),
        ({"$or": []}, r"where.\$or: give a list of filters, at least one"),
        ({"width": {"$prefix": 3}}, r"where.width.\$prefix: give a text, not a number"),
        ({"width": {"$gtt": 3}}, r"where.width.\$gtt: there is no operator \$gtt; a field takes \$eq, "),
        (
            {"$or": [{}, {"width": {"$lt": None}}]},
            r"where.\$or\[1\].width.\$lt: compare with a number or a text, not null",
        ),
        ({"width": {"$gt": [1]}}, r"where.width.\$gt: give a text, a number, true, false or null, not a list"),
        ({"label": ["a", "b"]}, r"where.label.\$eq: give a text, a number, .* not a list"),
        ({"label": {"$in": "cats"}}, r"where.label.\$in: give a list of values, not a text"),
        ({"label": {"$in": ["a", {}]}}, r"where.label.\$in\[1\]: give a text, .* not an object"),
        ({"label": "a\0b"}, r"where.label.\$eq: a text cannot hold a NUL character"),
        ({"a\0b": {"$exists": True}}, "where.a\0b.\\$exists: a text cannot hold a NUL character"),
        ({"$and": [{}] * 65}, r"where.\$and\[64\]: a filter has at most 64 conditions"),
        ({"label": {"$exists": 1}}, r"where.label.\$exists: give true or false, not a number"),
        ({"label": {}}, r"where.label: say what is asked of the field"),
        ({"taken": {"$during": 2024}}, r'where.taken.\$during: give a period such as "2024-05", .* not a number'),
        ({"taken": {"$during": "2024-13"}}, r"where.taken.\$during: '2024-13' is not a period such as"),
        ({"taken": {"$during": "May"}}, r"where.taken.\$during: 'May' is not a period such as"),
        ({"taken": {"$during": "9999"}}, r"where.taken.\$during: '9999' is not a period such as"),
        ({"taken": {"$during": "2024-05/2023"}}, r"where.taken.\$during: the period ends before it begins"),
        ({"place": {"$near": [1, 2]}}, r"where.place.\$near: give an object such as .\"latitude\": 52.5"),
        ({"$near": {"latitude": 1, "longitude": 2, "km": "3"}}, r"where.\$near.km: give a number, not a text"),
        ({"$near": {"latitude": 91, "longitude": 2, "km": 3}}, r"where.\$near: latitude is from -90 to 90"),
        ({"width": {"$gt": 1, "mm": 2}}, "where.width: operators and fields cannot stand side by side"),
        ({"width": float("nan")}, r"where.width.\$eq: the number is too large, or is none"),
        ({"width": 10**400}, r"where.width.\$eq: the number is too large, or is none"),
        ({"\ud800": 1}, r"where.\\ud800.\$eq: half a surrogate pair is no text"),
        ({"label": "\ud800"}, r"where.label.\$eq: half a surrogate pair is no text"),
        (deep(3000), r"where(.\$not){9}: the filter is more than 8 levels deep"),
        (
            {"$or": [{"width": n} for n in range(99)]},
            r"where.\$or\[64\].width.\$eq: a filter has at most 64 conditions",
        ),
    ],
    ids=lambda value: None if isinstance(value, str) else "where",
)
def test_a_wrong_filter_is_refused_at_its_place(where: object, message: str) -> None:
    with pytest.raises(InvalidFilter, match=f"^{message}"):
        compile_filter(where)


def test_a_name_that_is_there_twice_loses_no_condition_silently() -> None:
    assert parse_filter('{"width": {"$gt": 1}, "label": "a"}') == {"width": {"$gt": 1}, "label": "a"}
    many = ", ".join(f'"{n}": 1' for n in range(200_000))
    for text in ('{"a": 1, "a": 2}', '{"b": {"a": 1, "a": 2}}', f'{{{many}, "a": 1, "a": 1}}'):
        with pytest.raises(InvalidFilter, match=r"where: this is not JSON .'a' is there twice in one object"):
            parse_filter(text)


def test_the_largest_filters_that_are_taken_are_taken(table: Table) -> None:
    assert allowed(table, {"$or": [{"width": n} for n in range(600, 664)]}) == [0]
    assert allowed(table, {"width": {"$in": list(range(100_000))}}) == [0]
    assert allowed(table, deep(6)) == [0]
    assert allowed(table, deep(7)) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_the_fields_that_a_filter_asks_of_are_named() -> None:
    where = {"a": 1, "$or": [{"b": {"c": 2}}, {"$not": {"d": {"$gt": 1}}}], "$not": {"a": 2, "o\u0308": 1}}
    assert list(field_names(where)) == ["a", "b", "d", "a", "ö"]
