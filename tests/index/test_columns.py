"""Columns hold what metadata says: dates, places and numbers, in memory and in a mapped file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from index.columns.build import MemoryTable
from tests.index.test_filters import allowed, written

DATES = [
    "2024-05-01",
    "2024-05-31T23:59:59",
    "2024-06-01T00:00:00",
    "2024-06-01T01:00:00+02:00",
    "2024-05-01T10:30:15.250",
    "2024",
    "May 2024",
    None,
    20240501,
]


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        ("2024", [0, 1, 2, 3, 4]),
        ("2024-05", [0, 1, 3, 4]),
        ("2024-05-01", [0, 4]),
        ("2024-05-01T10:30", [4]),
        ("2024-05-01T10:30:15", [4]),
        ("2024-05-01T10:30:16", []),
        ("2024-05-31T23:00:00Z/2024-05-31T23:00:00Z", [3]),
        ("2024-05-02/2024-06", [1, 2, 3]),
        ("2023-12", []),
    ],
)
def test_a_period_has_the_dates_within_it(period: str, expected: list[int], tmp_path: Path) -> None:
    items = [{"taken": date} for date in DATES]
    for table in (MemoryTable(items), written(tmp_path, items)):
        assert allowed(table, {"taken": {"$during": period}}) == expected


def test_places_within_a_distance_are_found_across_the_date_line_and_the_poles(tmp_path: Path) -> None:
    places = [(52.52, 13.405), (48.857, 2.352), (0, 179.9), (0, -179.9), (89.9, 0), (89.9, 180), (None, 3), ("52", 13)]
    items = [{"latitude": one, "longitude": other} for one, other in places]
    nested: list[dict[str, Any]] = [{"place": item} for item in items]
    for (latitude, longitude, km), expected in {
        (52.5, 13.4, 10): [0],
        (52.5, 13.4, 880): [0, 1],  # from Berlin to Paris are 877 km
        (52.5, 13.4, 870): [0],
        (0, 180, 12): [2, 3],  # a tenth of a degree of the equator is 11.1 km
        (0, 179.9, 22): [2],
        (90, 0, 12): [4, 5],
        (0, 0, 20_100): [0, 1, 2, 3, 4, 5],
        (52.52, 13.405, 0): [0],
    }.items():
        near = {"$near": {"latitude": latitude, "longitude": longitude, "km": km}}
        for table in (MemoryTable(items), written(tmp_path, items)):
            assert allowed(table, near) == expected
        assert allowed(MemoryTable(nested), {"place": near}) == expected
        assert allowed(MemoryTable(nested), {"$not": {"place": near}}) == sorted(set(range(8)) - set(expected))


def test_numbers_that_float64_cannot_hold_are_told_apart(tmp_path: Path) -> None:
    ids = [2**53, 2**53 + 1, 2**62 + 1, 2**62 + 2, -(2**63)]
    table = written(tmp_path, [{"id": one} for one in ids])
    assert [allowed(table, {"id": one}) for one in ids] == [[0], [1], [2], [3], [4]]
    assert allowed(table, {"id": {"$gt": 2**53}}) == [1, 2, 3]
    assert allowed(table, {"id": {"$lt": 0.5}}) == [4]
    assert allowed(table, {"id": {"$gte": 1e300}}) == []
