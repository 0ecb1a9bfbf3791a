"""Tables as sources: which column names the pictures, what becomes of the others, and rows that are wrong."""

from __future__ import annotations

import csv
import datetime
import json
import shutil
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from index import LiveWriter, open_catalogue
from ingest import SourceNotFound, Sources, TableFormat, add_sources, build_catalogue, find_sources
from model import Extractor, Limits

ROWS: list[dict[str, Any]] = [
    {"file_name": "0.jpg", "price": 12, "name": "Größe 7", "sold": True, "code": "007"},
    {"file_name": "1.jpg", "price": 1.5, "name": 'a, b\n"c"', "sold": False, "code": "12"},
    {"file_name": "2.jpg", "price": None, "name": "c", "sold": None, "code": "x"},
]
FIELDS = list(ROWS[0])


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.fixture
def shop(photos: list[Path], tmp_path: Path) -> Path:
    for place in range(3):
        shutil.copy(photos[place], tmp_path / f"{place}.jpg")
    return tmp_path


def described(found: Sources) -> dict[str, dict[str, Any]]:
    return {file.key: dict(file.metadata) for file in found.files}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_rows_name_pictures_and_their_values_keep_their_types(suffix: str, shop: Path) -> None:
    found = find_sources([write(shop / f"list{suffix}", ROWS)])
    assert described(found) == {
        row["file_name"]: {name: row[name] for name in FIELDS[1:] if row[name] is not None} for row in ROWS
    }
    assert all(file.content.read(Limits())[0] == (shop / file.key).read_bytes() for file in found.files)


def test_parquet_dates_numbers_and_nested_values_become_json(shop: Path) -> None:
    when = datetime.datetime(2024, 5, 1, 12, 30)
    row = {"path": "0.jpg", "at": when, "day": when.date(), "nan": float("nan"), "tags": ["a", "b"], "in": {"x": 1}}
    (fields,) = described(find_sources([write(shop / "list.parquet", [row])])).values()
    assert fields == {"at": "2024-05-01T12:30:00", "day": "2024-05-01", "tags": ["a", "b"], "in": {"x": 1}}
    bad = {"path": ["0.jpg", "1.jpg"], "raw": [b"\0", b"\1"]}
    parquet.write_table(pa.table(bad), shop / "list.parquet")
    with pytest.raises(Exception, match="a value of type bytes"):
        find_sources([shop / "list.parquet"])


def test_bad_rows_are_skipped_with_their_place_and_the_rest_goes_on(shop: Path, extractor: Extractor) -> None:
    lines = [
        json.dumps({"image": "0.jpg", "sku": "a"}),
        "{broken",
        "[1]",
        "",
        json.dumps({"image": "none.jpg", "sku": "b"}),
        json.dumps({"sku": "c"}),
        json.dumps({"image": "1.jpg", "sku": "a"}),
        json.dumps({"image": "1.jpg", "sku": "e\u0000"}),
        json.dumps({"image": "https://example.com/a.jpg", "sku": "f"}),
        json.dumps({"image": "2.jpg", "sku": "g", "n": 1}),
        '{"image": "2.jpg", "sku": "h", "n": NaN}',
        json.dumps({"image": "nosuch://x/a.jpg", "sku": "i"}),
    ]
    path = shop / "list.jsonl"
    path.write_text("\n".join(lines))
    report = build_catalogue(find_sources([path], form=TableFormat(key_column="sku")), shop / "out", extractor)
    places = {(one.get("place") or one["key"]).rpartition(" ")[2]: one["reason"] for one in report.skipped}
    assert report.added == 2
    assert set(places) == {"2", "3", "5", "6", "7", "8", "9", "11", "12"}
    assert places["2"].startswith("it is not JSON")
    assert places["3"] == "it is not a JSON object"
    assert "No such file" in places["5"]
    assert "no picture in its column image" in places["6"]
    assert places["7"].startswith("row 1 has this key already")
    assert places["9"] == "URLs are not fetched here"
    with closing(open_catalogue(shop / "out")) as catalogue:
        assert set(catalogue.items_by_key(["a", "g"])) == {"a", "g"}
        assert catalogue.items_by_key(["g"])["g"].metadata["n"] == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "x,y\n1,2\n", "no column is known to name pictures (x, y); name it with --picture-column"),
        ("b.csv", "path,path\n1,2\n", "two of its columns have the same name"),
        ("c.csv", "", "it is empty"),
        ("d.csv", 'path,b\n"0.jpg"x,2\n', "line 2 is not CSV"),
        ("e.csv", "p\xe4th,b\n", "it is not UTF-8 text"),
        ("f.parquet", "PAR1", "it is not a Parquet file, or damaged"),
    ],
)
def test_a_table_that_cannot_be_read_is_told_in_one_line(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="latin-1")
    with pytest.raises(SourceNotFound) as caught:
        find_sources([tmp_path / name])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_columns_are_found_by_name_and_semicolons_are_cells(shop: Path) -> None:
    (shop / "list.csv").write_text("Titel;Image_Path;key\nx;0.jpg;1\ny;1.jpg;2\nz\n")
    found = find_sources([shop / "list.csv"])
    assert described(found) == {"1": {"Titel": "x"}, "2": {"Titel": "y"}}
    assert found.skipped[0]["reason"] == "it has 1 cells, and the table 3 columns"
    found = find_sources([shop / "list.csv"], form=TableFormat("Titel", "Image_Path"))
    assert described(found) == {"0.jpg": {"key": 1}, "1.jpg": {"key": 2}}
    with pytest.raises(SourceNotFound, match="it has no column z, only Titel, Image_Path, key"):
        find_sources([shop / "list.csv"], form=TableFormat("z"))
    with pytest.raises(SourceNotFound, match="it has no column z, only Titel, Image_Path, key"):
        find_sources([shop / "list.csv"], form=TableFormat(key_column="z"))
    (shop / "list.csv").write_text("sku,file\na,0.jpg\n,1.jpg\n")
    found = find_sources([shop / "list.csv"], form=TableFormat(key_column="sku"))
    assert list(described(found)) == ["a"]
    assert found.skipped == [{"key": f"{shop / 'list.csv'}, row 3", "reason": "it has no key in its column sku"}]


def test_metadata_next_to_pictures_describes_them(shop: Path, photos: list[Path]) -> None:
    (shop / "in").mkdir()
    shutil.copy(photos[5], shop / "in/5.jpg")
    (shop / "in/metadata.jsonl").write_text(json.dumps({"file_name": "5.jpg", "text": "five"}) + "\n{}\n")
    (shop / "metadata.csv").write_text("file_name,stars\n0.jpg,5\nin/5.jpg,4\nnone.jpg,3\n")
    found = find_sources([shop])
    assert described(found) == {
        "0.jpg": {"stars": 5},
        "1.jpg": {},
        "2.jpg": {},
        "in/5.jpg": {"stars": 4, "text": "five"},
    }
    assert found.skipped == [
        {"key": "none.jpg", "reason": "there is no such picture", "place": "metadata.csv, row 4"},
        {"key": "in/metadata.jsonl", "reason": "it has no column file_name"},
    ]
    assert found.others == []


def test_paths_and_objects_come_through_stdin(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)
    assert described(find_sources(["-"], lines=["0.jpg\n", f"{shop}/1.jpg\n", "\n", "0.jpg\n"])) == {
        "0.jpg": {},
        f"{shop}/1.jpg": {},
    }
    lines = [json.dumps(row) + "\n" for row in ROWS[:2]]
    assert set(described(find_sources(["-"], lines=lines))) == {"0.jpg", "1.jpg"}
    found = find_sources(["-"], lines=["2.jpg\n", *lines[:1], "{broken\n", "ftp://x/y.jpg\n", "k" * 5000])
    assert described(found) == {"0.jpg": described(find_sources(["-"], lines=lines))["0.jpg"], "2.jpg": {}}
    assert [one.get("place", one["key"]) for one in found.skipped] == ["stdin, row 3", "stdin, row 4", "stdin, row 5"]


def test_a_file_of_an_odd_name_is_escaped_and_stops_nothing(shop: Path, extractor: Extractor) -> None:
    shutil.copy(shop / "0.jpg", shop / "tab\there.jpg")
    with zipfile.ZipFile(shop / "odd.zip", "w") as archive:
        archive.write(shop / "0.jpg", "a\nb.jpg")
        archive.write(shop / "1.jpg", f"{'k' * 5000}.jpg")
    build_catalogue(find_sources([shop / "0.jpg"]), shop / "out", extractor)
    found = find_sources([shop / "tab\there.jpg", shop / "odd.zip"])
    with closing(LiveWriter(shop / "out")) as writer:
        report = add_sources(found, writer, extractor)
    assert sorted(file.key for file in found.files) == ["odd.zip/a\\nb.jpg", "tab\\there.jpg"]
    assert (report.added, ["is not a key" in one["reason"] for one in report.skipped]) == (2, [True])


def test_only_what_changed_is_embedded_and_what_a_table_says_anew_is_set(shop: Path, extractor: Extractor) -> None:
    path, out = shop / "list.csv", shop / "out"
    build_catalogue(find_sources([write(path, ROWS)]), out, extractor)
    rows = [{**row, "price": 99} for row in ROWS]
    (shop / "0.jpg").touch()  # other times, same bytes
    shutil.copy(shop / "2.jpg", shop / "1.jpg")
    with closing(open_catalogue(out)) as catalogue, closing(LiveWriter(out)) as writer:
        writer.update(["0.jpg"], [{"mine": 1}])
        report = add_sources(find_sources([write(path, rows)]), writer, extractor)
        assert (report.added, report.kept) == (1, 2)
        items = catalogue.items_by_key(["0.jpg", "1.jpg", "2.jpg"])
        assert [item.metadata["price"] for item in items.values()] == [99, 99, 99]
        assert items["0.jpg"].metadata["mine"] == 1
        before = catalogue.snapshot().last_change
        assert add_sources(find_sources([path]), writer, extractor).added == 0
        assert catalogue.snapshot().last_change == before  # nothing was written
    report = build_catalogue(find_sources([write(path, ROWS)]), out, extractor, overwrite=True)
    assert (report.added, report.reused) == (1, 2)  # the picture that only has another time
    with closing(open_catalogue(out)) as catalogue:
        assert catalogue.items_by_key(["2.jpg"])["2.jpg"].metadata.get("price") is None


def test_a_first_row_without_its_picture_is_skipped_alone(shop: Path) -> None:
    (shop / "list.csv").write_text("path,n\n,1\n0.jpg,2\n")
    found = find_sources([shop / "list.csv"])
    assert described(found) == {"0.jpg": {"n": 2}}
    assert [one.get("place", one["key"]) for one in found.skipped] == [f"{shop}/list.csv, row 2"]


def test_keys_that_two_sources_have_are_told_apart_or_skipped(shop: Path, extractor: Extractor) -> None:
    for name in ("one.csv", "two.csv"):
        (shop / name).write_text("path,key\n0.jpg,same\n")
    found = find_sources([shop / "one.csv", shop / "two.csv"])
    assert [one["reason"] for one in found.skipped] == ["another source has this key already"]
    assert build_catalogue(found, shop / "out", extractor).added == 1
