"""Filters on metadata: typed columns next to SQLite's JSON and DuckDB's columns, in one run: python -m benchmarks.metadata

Items have a label, two numbers, a date, a path and tags. Each filter is new: compiled and evaluated to the rows it allows.
DuckDB is asked where it is installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sqlite3
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.report import arguments, deliver, in_turn, ratio, table
from index.columns.build import TableBuilder
from index.columns.file import ColumnsFile, open_columns, write_columns
from index.filters import compile_filter
from index.row_mask import allow_mask

FILTERS: dict[str, tuple[dict[str, Any], str]] = {
    "1 condition, 1 %": ({"label": "label 7"}, "label = 'label 7'"),
    "1 condition, 50 %": ({"width": {"$lt": 2000}}, "width < 2000"),
    "3 conditions, 1 %": (
        {"width": {"$lt": 2000}, "stars": {"$in": [1, 3]}, "taken": {"$gte": "2020-12-02", "$lt": "2021-01-06"}},
        "width < 2000 AND stars IN (1, 3) AND taken >= '2020-12-02' AND taken < '2021-01-06'",
    ),
    "3 conditions, 50 %": (
        {"width": {"$lt": 3000}, "stars": {"$ne": 4}, "taken": {"$lt": "2023-05"}},
        "width < 3000 AND stars <> 4 AND taken < '2023-05'",
    ),
    "text in the path": ({"path": {"$contains": "0077"}}, "instr(path, '0077') > 0"),
    "within 50 km": ({"$near": {"latitude": 50, "longitude": 8, "km": 50}}, ""),
}


def metadata(count: int) -> list[dict[str, Any]]:
    dice = np.random.default_rng(1)
    labels, widths, stars = dice.integers(0, 100, count), dice.integers(0, 4000, count), dice.integers(0, 5, count)
    days = np.datetime64("2020-01-01") + dice.integers(0, 5 * 365, count)
    places = dice.uniform((40, 0), (60, 20), (count, 2)).round(4)
    return [
        {
            **{"width": int(width), "stars": int(star), "label": f"label {label}", "taken": str(day)},
            **{"path": f"{label:02}/IMG_{n:07}.jpg", "latitude": float(lat), "longitude": float(lon)},
        }
        for n, (label, width, star, day, (lat, lon)) in enumerate(zip(labels, widths, stars, days, places, strict=True))
    ]


def make_columns(folder: Path, items: list[dict[str, Any]]) -> ColumnsFile:
    builder = TableBuilder()
    for row, item in enumerate(items):
        builder.add(row, item)
    write_columns(folder / "base.columns", np.arange(len(items)), builder.build(len(items)))
    return open_columns(folder / "base.columns")


def make_sqlite(folder: Path, items: list[dict[str, Any]]) -> sqlite3.Connection:
    database = sqlite3.connect(folder / "items.sqlite")
    database.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, metadata TEXT)")
    database.executemany("INSERT INTO items VALUES (?, ?)", ((n, json.dumps(item)) for n, item in enumerate(items)))
    database.commit()
    return database


def ask_sqlite(database: sqlite3.Connection, sql: str) -> int:
    for name in ("width", "stars", "label", "taken", "path"):
        sql = (
            sql.replace(name, f"metadata ->> '{name}'")
            if name != "label"
            else sql.replace("label =", "metadata ->> 'label' =")
        )
    return len(database.execute(f"SELECT id FROM items WHERE {sql}").fetchall())


def make_duckdb(items: list[dict[str, Any]]) -> Callable[[str], int] | None:
    if importlib.util.find_spec("duckdb") is None:
        return None
    duckdb: Any = importlib.import_module("duckdb")

    database = duckdb.connect()
    columns = {name: np.array([item[name] for item in items]) for name in items[0]}
    database.execute("CREATE TABLE items AS SELECT row_number() OVER () AS id, * FROM columns")
    del columns
    return lambda sql: len(database.execute(f"SELECT id FROM items WHERE {sql}").fetchnumpy()["id"])


def main() -> None:
    options = arguments(__doc__)
    count, rounds = (100_000, 3) if options.quick else (1_000_000, 7)
    items = metadata(count)
    raw: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        columns, database, duck = make_columns(folder, items), make_sqlite(folder, items), make_duckdb(items)
        size = (folder / "base.columns").stat().st_size
        for name, (where, sql) in FILTERS.items():
            tasks: dict[str, Callable[[], object]] = {
                "columns": lambda where=where: allow_mask(compile_filter(where).rows(columns))  # type: ignore[misc]
            }
            if sql:
                tasks["sqlite"] = partial(ask_sqlite, database, sql)
                if duck:
                    tasks["duckdb"] = partial(duck, sql)
            kept = len(allow_mask(compile_filter(where).rows(columns)))
            if sql:
                assert kept == ask_sqlite(database, sql)
            raw.append({"filter": name, "kept": kept, "seconds": in_turn(tasks, rounds)})
    made = table(
        f"{count:,} items, columns of {size / 2**20:.0f} MiB",
        "filter",
        "kept",
        "ms",
        "SQLite JSON ms",
        "DuckDB ms",
        "SQLite ÷ columns",
    )
    for one in raw:
        seconds = one["seconds"]
        others = [f"{median(seconds[name]) * 1000:,.1f}" if name in seconds else "–" for name in ("sqlite", "duckdb")]
        times = f"{ratio(seconds['sqlite'], seconds['columns']):,.0f}" if "sqlite" in seconds else "–"
        made.add_row(
            one["filter"], f"{one['kept'] / count:.1%}", f"{median(seconds['columns']) * 1000:.2f}", *others, times
        )
    deliver("metadata", options, [made], {"count": count, "filters": raw})


if __name__ == "__main__":
    main()
