"""What terminals, shells and disks do to the command line: odd names, few characters, a ~ of the user's, no room."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from commands import progress
from tests.commands.test_cli import refused, run
from tests.conftest import MODEL
from tests.disks import small_disk
from tests.serving import ROOT

NAME = "a\nb\t\x1b[31m\u202egpj.jpg"  # breaks lines, colours what follows, and turns the text around
SHOWN = "a\\nb\\t\\x1b[31m\\u202egpj.jpg"


@pytest.fixture(scope="module")
def odd(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of pictures with odd names, next to the folder that it was built from."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "in").mkdir()
    for photo, name in zip(photos, (NAME, "\u4e2d\U0001f600.jpg", "plain.jpg"), strict=False):
        shutil.copy(photo, folder / "in" / name)
    (folder / "in" / "bad\r\n.jpg").write_text("text")
    done = run("build", folder / "in", "--out", folder / "out", "--model", MODEL)
    assert done.exit_code == 0, done.stderr
    assert "skipped bad\\r\\n.jpg: the bytes" in done.stderr
    return folder


def test_control_characters_in_names_are_shown_as_escapes(odd: Path) -> None:
    done = run("search", odd / "out", odd / "in" / NAME, odd / "in" / "bad\r\n.jpg", "--k", 1)
    assert done.stdout.splitlines() == [f"{odd}/in/{SHOWN}\t1.0000\t{SHOWN}"]
    assert done.stderr.splitlines()[0].startswith(f"error: {odd}/in/bad\\r\\n.jpg: ")
    hits = json.loads(run("search", odd / "out", odd / "in" / NAME, "--json").stdout)["results"][0]["hits"]
    assert hits[0]["key"] == "a\\nb\\t\\x1b[31m\u202egpj.jpg"  # keys have no control characters; the rest is as it is
    assert "a\\nb" in refused("search", "a\nb", "c")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_a_terminal_of_few_characters_gets_escapes_and_no_traceback(encoding: str, odd: Path) -> None:
    command: list[str | Path] = [sys.executable, "cli.py", "search"]
    command += [odd / "out", odd / "in" / "\u4e2d\U0001f600.jpg", "no\u4e2d.jpg"]
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    for more in ([], ["--json"]):
        done = subprocess.run([*command, *more], cwd=ROOT, env=environment, capture_output=True)
        assert done.returncode == 1
        assert b"Traceback" not in done.stderr
        text = done.stdout.decode("utf-8" if encoding == "ascii" else encoding)  # click takes ascii for a mistake
        if more:
            assert json.loads(text)["results"][0]["hits"][0]["key"] == "\u4e2d\U0001f600.jpg"
        else:
            assert ("\u4e2d" if encoding != "latin-1" else "\\u4e2d\\U0001f600.jpg\t1.0000") in text


def test_a_tilde_that_the_shell_left_alone_is_expanded(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(odd))
    assert run("info", "~/out").exit_code == 0
    assert run("verify", "~/out").exit_code == 0
    assert run("search", "~/out", "~/in/plain.jpg").stdout.startswith("1.0000\tplain.jpg")
    assert str(odd / "out") in refused("build", "~/in", "--out", "~/out")
    assert f"no weights file at {odd}/none" in refused("build", "~/in", "--out", "~/new", "--weights", "~/none")
    assert "~nobody-here/x" in refused("info", "~nobody-here/x")


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    with small_disk(tmp_path / "disk", 2) as place:
        yield place


def test_a_full_disk_and_a_read_only_one_are_one_line_before_the_work(odd: Path, full: Path) -> None:
    (full / "ballast").write_bytes(bytes(1_500_000))
    assert "No space left on device" in refused("build", odd / "in", "--out", full / "out", "--model", "no such model")
    (full / "ballast").unlink()
    done = run("build", odd / "in", "--out", full / "out", "--model", MODEL)
    assert done.exit_code == 1
    *_, told = done.stderr.strip().splitlines()
    assert told.startswith("error: ")
    assert "[(" not in told
    assert "the disk is full" in told or "No space left on device" in told
    subprocess.run(["mount", "-o", "remount,ro", full], check=True)
    told = refused("build", odd / "in", "--out", full / "a" / "out", "--model", "no such model")
    assert f"nothing can be written in {full} (Read-only file system); choose another --out" in told


def test_a_name_is_printed_as_it_is(catalogue: Path) -> None:
    """rich would make a picture of :dog:."""
    command = [sys.executable, "cli.py", "search", str(catalogue), "no:dog:[bold].png"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "no:dog:[bold].png: the file cannot be read" in ran.stderr


@pytest.mark.parametrize("terminal", [None, "dumb"])
def test_a_log_gets_lines_of_progress_while_the_work_goes_on(
    terminal: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = StringIO()
    if terminal:
        monkeypatch.setenv("TERM", terminal)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with progress.Bars(Console(file=log, force_terminal=terminal is not None)) as bars:
        bars.show("embed", 0, 2000)
        bars.show("embed", 1500, 2000)
        lines = log.getvalue().splitlines()
        monkeypatch.setattr(progress, "EVERY", 1000.0)
        bars.show("embed", 1600, 2000)  # too soon after the last
        bars.show("embed", 2000, 2000)
        bars.show("embed", 2000, 2000)
    assert lines[-1].startswith("reading and embedding: 1,500/2,000 ")
    assert [line.split()[3] for line in log.getvalue().splitlines()[len(lines) :]] == ["2,000/2,000"]
