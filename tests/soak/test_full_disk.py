"""A disk that fills up in the middle of each verb and each request that writes: one line, and the catalogue is as it was."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from benchmarks.random_weights import write_random_weights
from index import verify_catalogue
from tests.disks import small_disk
from tests.server.test_items import add, found, post
from tests.serving import ROOT, serving

MEGABYTES = 300
ROOMS = (0, 100, 400, 2000, 16_000, 64_000, 128_000)  # kilobytes that are free when a verb begins
WORDS = ("disk is full", "No space left on device", "is the disk full?")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", MEGABYTES) as place:
        yield place


@pytest.fixture
def folder(catalogue: Path, disk: Path) -> Path:
    return Path(shutil.copytree(catalogue, disk / "catalogue", ignore=shutil.ignore_patterns("*-wal", "*-shm")))


def leave(disk: Path, kilobytes: int) -> None:
    """Fill a disk but for so much."""
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    with ballast.open("wb", 0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
    with ballast.open("rb+") as file:
        file.truncate(max(0, ballast.stat().st_size - kilobytes * 1024) // 4096 * 4096)


def cli(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "cli.py", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


def keys_of(folder: Path, photos: list[Path]) -> list[str]:
    """What a search of a catalogue finds."""
    done = cli("search", folder, photos[0], photos[5], "--k", 80, "--json")
    assert done.returncode == 0, done.stderr
    return sorted({hit["key"] for result in json.loads(done.stdout)["results"] for hit in result["hits"]})


def verbs(folder: Path, photos: list[Path], tmp_path: Path) -> dict[str, list[object]]:
    weights = write_random_weights("resnet18", photos, tmp_path / "weights.safetensors")
    model = ["--model", "tf_efficientnet_lite0"]
    return {
        "add": [folder, tmp_path / "new"],
        "update": [folder, "new.jpg", "--set", '{"stars": 5}'],
        "compact": [folder],
        "rollback": [folder],
        "remove": [folder, "new.jpg"],
        "backup": [folder, folder.parent / "backup"],
        "migrate": [folder, "--model", "resnet18", "--weights", weights],
        "build": [photos[0].parent, "--out", folder.parent / "built", *model],
    }


@pytest.mark.parametrize("verb", ["add", "update", "compact", "rollback", "remove", "backup", "migrate", "build"])
def test_a_verb_on_a_full_disk_is_one_line_and_leaves_the_catalogue_as_it_was(
    verb: str, folder: Path, disk: Path, photos: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    shutil.copy(photos[0], tmp_path / "new" / "new.jpg")
    commands = verbs(folder, photos, tmp_path)
    if verb not in ("add", "build"):
        assert cli("add", *commands["add"]).returncode == 0
    if verb == "rollback":
        assert cli("compact", folder).returncode == 0
    before = keys_of(folder, photos)
    refused = 0
    for room in ROOMS[:: 2 if verb in ("migrate", "build") else 1]:  # each try of these takes long
        leave(disk, room)
        done = cli(verb, *commands[verb])
        if done.returncode == 0:
            break
        refused += 1
        assert done.returncode == 1, (room, done.stderr)
        *_, line = done.stderr.strip().splitlines()
        assert line.startswith("error: "), (room, done.stderr)
        assert any(word in line for word in WORDS), (room, line)
        assert "Traceback" not in done.stderr
        assert keys_of(folder, photos) == before, room
    else:
        pytest.fail(f"{verb} is refused with {ROOMS[-1]} kB free: {done.stderr}")
    assert refused or verb in ("update", "remove", "rollback")  # which need a few pages, that a WAL may have already
    (disk / "ballast").unlink()
    assert list(verify_catalogue(folder)) == []
    assert not list(disk.rglob("*.new"))


def test_requests_that_write_to_a_full_disk_are_answered_with_507(
    folder: Path, disk: Path, photos: list[Path], tmp_path: Path
) -> None:
    settings = {"LENS_WRITABLE": "1", "LENS_WORKERS": "2", "LENS_MAX_QUEUE_SECONDS": "60", "LENS_DEMO": "0"}
    picture = photos[0].read_bytes()
    items = [{"image": base64.b64encode(picture).decode(), "key": f"later/{n}"} for n in range(30)]
    with serving(folder, tmp_path / "log", **settings) as server:
        assert add(server, ("first.jpg", picture)).status_code == 200
        leave(disk, 0)
        requests: dict[str, Any] = {
            "/items/add": {"items": [{"image": items[0]["image"], "key": f"new/{n}"} for n in range(30)]},
            "/items/add?wait=false": {"items": items},
            "/items/update": {"items": [{"key": "first.jpg", "metadata": {"note": "x" * 60_000}}]},
        }
        for path, body in requests.items():
            statuses = [post(server, path, body) for _ in range(12)]
            full = [one for one in statuses if one.status_code == 507]
            assert full, (path, [one.text[:200] for one in statuses])
            assert {one.status_code for one in statuses} <= {200, 202, 507}, [one.text[:200] for one in statuses]
            assert full[0].json()["error"]["code"] == "disk_full"
            assert "first.jpg" in found(server, picture)
        (disk / "ballast").unlink()
        assert add(server, ("last.jpg", photos[1].read_bytes())).status_code == 200
        assert "last.jpg" in found(server, photos[1].read_bytes())
        told = server.log.read_text()
        assert "Traceback" not in told, told[-3000:]
    assert list(verify_catalogue(folder)) == []


def test_a_disk_is_filled_to_what_is_left(disk: Path) -> None:
    for kilobytes in (0, 100, 16_000):
        leave(disk, kilobytes)
        status = os.statvfs(disk)
        assert abs(status.f_bavail * status.f_frsize - kilobytes * 1024) <= 8192
