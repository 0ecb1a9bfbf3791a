"""Whatever is done to an index file or its companion, a search is an answer or a named error, and verify finds it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from index import DamagedIndex, open_catalogue, open_index, verify_catalogue
from tests.serving import ROOT
from tests.soak import fuzz


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fuzz.make_catalogue(tmp_path / "catalogue")


def test_seeded_mutations_end_in_an_answer_or_a_named_error_and_verify_finds_each() -> None:
    tally = fuzz.fuzz(450)
    assert tally["deaths"] == tally["missed by verify"] == 0, tally
    assert tally["tried"] == 450
    assert min(tally["answered"], tally["DamagedIndex"]) > 50, tally


@pytest.mark.soak
def test_no_damage_makes_the_kernel_read_outside_its_arrays() -> None:
    tally = fuzz.fuzz(180, bounds=True)
    assert tally["deaths"] == 0, tally
    assert tally["tried"] == 180


def test_the_death_of_a_child_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    deadly = tmp_path / "python"
    deadly.write_text(f"#!/bin/sh\necho '{json.dumps({'seed': 4, 'begun': 'none'})}'\nkill -{signal.SIGSEGV} $$\n")
    deadly.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(deadly))
    assert fuzz.fuzz(5)["deaths"] == 1


def test_a_sound_catalogue_has_no_faults(folder: Path, catalogue: Path) -> None:
    assert list(verify_catalogue(folder)) == []
    assert list(verify_catalogue(catalogue)) == []


def overwrite(path: Path, at: int, data: bytes) -> None:
    whole = bytearray(path.read_bytes())
    whole[at : at + len(data)] = data
    path.unlink()
    path.write_bytes(whole)


@pytest.mark.parametrize(
    ("name", "at", "data", "expected"),
    [
        ("report.json", 0, b" ", "report.json: the file has changed since the build"),
        ("base-000001.hnsw", 96 + 4 + 4 * 32, b"\0\0\xc0\x7f", "the vector of element 0 is not of finite numbers"),
        ("base-000001.hnsw", 96 + 4 + 4 * 32, b"\0\0\0\x41", "the vector of element 0 has length 8"),
        ("base-000001.hnsw", 96 + 4, b"\xff\xff\xff\x7f", "the links of element 0 on level 0"),
        ("base-000001.hnsw", 96, b"\x21", "the links of element 0 on level 0"),
        ("base-000001.hnsw", 96 + 4 + 4 * 32 + 4 * 16, b"\x02", "two elements have the same label"),
        (
            "base-000001.hnsw",
            96 + 4 + 4 * 32 + 4 * 16,
            b"\xee\xee",
            "its 200 labels are not the ids of the catalogue's 200 items",
        ),
        ("base-000001.hnsw", 48, b"\x07", "the header names element"),
        ("base-000001.codes", 64, b"\x55", "the codes of elements 0 to 199 are not those of their vectors"),
        ("base-000001.codes", 64 + 200 * 64, b"\x55\x55", "the signs of elements 0 to 199 are not those of their"),
        (
            "base-000001.codes",
            64 + 200 * 64 + 12,
            b"\0\0\0\0",
            "the scales of elements 0 to 199 are not those of their",
        ),
        ("base-000001.codes", 64 + 200 * 128 + 4, b"\xc8", "its links are not those of the index file"),
        ("base-000001.codes", 64 + 200 * (128 + 132), b"\x09", "its offsets are not those of the index file"),
        ("base-000001.codes", 64 + 200 * (128 + 136), b"\xff\xff", "the rotation of base-000001.codes is damaged"),
        ("base-000001.codes", 0, b"x", "is not a whole companion of its index file"),
    ],
)
def test_verify_says_what_is_wrong_and_where(folder: Path, name: str, at: int, data: bytes, expected: str) -> None:
    overwrite(folder / name, at, data)
    faults = list(verify_catalogue(folder))
    assert any(expected in fault for fault in faults), faults
    assert any(fault.startswith(f"{name}: the file has changed since the build (SHA-256 ") for fault in faults)


def test_a_level_that_the_way_in_does_not_reach_is_an_error(folder: Path) -> None:
    base = folder / "base-000001.hnsw"
    (level,) = struct.unpack_from("<i", base.read_bytes(), 48)
    overwrite(base, 48, struct.pack("<i", level + 1))
    catalogue = open_catalogue(folder)
    with pytest.raises(DamagedIndex, match="not there"):
        catalogue.search(fuzz.clusters(1, 2), 5)
    with pytest.raises(DamagedIndex, match="not there"):
        open_index(base, fuzz.DIM, "cosine").search(fuzz.clusters(1, 2), 5)
    catalogue.close()


def test_verify_names_what_is_missing(folder: Path) -> None:
    (folder / "base-000001.codes").unlink()
    (folder / "report.json").unlink()
    faults = list(verify_catalogue(folder))
    assert "report.json: the file is missing" in faults
    assert "base-000001.codes: the file is missing" in faults
    with pytest.raises(DamagedIndex, match="codes is missing; restore or rebuild"):
        open_catalogue(folder)


def test_verify_does_not_wait_for_a_pipe(folder: Path) -> None:
    (folder / "base-000001.hnsw").unlink()
    os.mkfifo(folder / "base-000001.hnsw")
    assert "base-000001.hnsw: the file is missing" in list(verify_catalogue(folder))


def test_verify_looks_into_the_database(folder: Path) -> None:
    connection = sqlite3.connect(folder / "catalogue.sqlite")
    with connection:
        connection.execute("DELETE FROM thumbnails WHERE id = 3")
        connection.execute("UPDATE items SET metadata = '[]' WHERE id = 4")
    connection.close()
    (folder / "model.yaml").write_text("what BentoML's model store puts next to it is no damage")
    assert list(verify_catalogue(folder)) == [
        "catalogue.sqlite: the rows of 1 items have changed since they were written; the first, item 4",
        "catalogue.sqlite: 1 items have no thumbnail",
        "catalogue.sqlite: 1 items have metadata that is no JSON object",
        "base-000001.columns: 7 columns are not those of the items' metadata; the first, date",
    ]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "cli.py", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_the_verb_tells_a_sound_catalogue_from_a_damaged_one(catalogue: Path, tmp_path: Path) -> None:
    done = run("verify", catalogue)
    assert (done.returncode, done.stdout) == (0, f"{catalogue} is sound\n")
    copy = shutil.copytree(catalogue, tmp_path / "copy", ignore=shutil.ignore_patterns("*-wal", "*-shm"))
    overwrite(copy / "base-000001.hnsw", 5000, os.urandom(8))
    done = run("verify", copy, "--json")
    assert done.returncode == 1
    assert "base-000001.hnsw: the file has changed since the build" in json.loads(done.stdout)["faults"][0]
    assert run("verify", copy).stdout.startswith("base-000001.hnsw: the file has changed")
    assert run("verify", tmp_path).stderr.startswith("error: ")
