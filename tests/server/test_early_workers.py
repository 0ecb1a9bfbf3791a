"""Workers are forked while their parent starts; none is left behind, and any of them can be had in the usual way."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from server.runtime.early_workers import EarlyWorkers
from tests.contained import IMAGE
from tests.serving import APART, ROOT, Server, eventually, free_port, serving

pytestmark = pytest.mark.skipif(IMAGE is not None, reason="these look at the machine's own processes")


def of_catalogue(catalogue: Path) -> list[psutil.Process]:
    """All processes that were started to serve a catalogue."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("LENS_CATALOGUE") == str(catalogue) and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def own_catalogue(catalogue: Path, tmp_path: Path) -> Iterator[Path]:
    """A path to the catalogue that no other test's servers have."""
    (tmp_path / "own").symlink_to(catalogue)
    yield tmp_path / "own"
    for process in of_catalogue(tmp_path / "own"):
        process.kill()


def start(catalogue: Path, log: Path, port: int, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "bentoml", "serve", "service:ImageSearch", "--host", "127.0.0.1"]
    with log.open("wb") as output:
        return subprocess.Popen(
            [*command, "--port", str(port), *more],
            cwd=ROOT,
            env=os.environ | {"LENS_CATALOGUE": str(catalogue)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def after(server: Server, service: str, before: list[psutil.Process]) -> int:
    """How many workers there are that circus has started in place of others."""
    return sum("--service-name" in one.cmdline() for one in server.workers(service) if one not in before)


@pytest.mark.parametrize("apart", [False, True])
def test_workers_are_forked_and_a_dead_one_is_followed(
    apart: bool, catalogue: Path, photos: list[Path], tmp_path: Path
) -> None:
    settings = (APART if apart else {}) | {"LENS_WORKERS": "2"}
    with serving(catalogue, tmp_path / "log", **settings) as server:
        services = ["ImageSearch", "Extractor"] if apart else ["ImageSearch"]
        for service in services:
            forked = server.workers(service)
            assert not any("--service-name" in one.cmdline() for one in forked)
            for one in forked:
                one.kill()
            eventually(lambda: after(server, service, forked) == len(forked), "no worker follows")  # noqa: B023
        eventually(lambda: server.search(photos[0].read_bytes()).status_code == 200, "no answer")
        assert "Traceback" not in server.log.read_text()


def test_a_start_that_fails_says_why_once_and_leaves_nothing(own_catalogue: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", port := free_port())):
        process = start(own_catalogue, tmp_path / "log", port)
        process.wait(30)
    eventually(lambda: not of_catalogue(own_catalogue), "a worker is left", seconds=10)
    log = (tmp_path / "log").read_text()
    assert log.count("ddress already in use") >= 1
    own_catalogue.unlink()
    process = start(own_catalogue, tmp_path / "log", free_port())
    assert process.wait(30) == 1
    assert [line for line in (tmp_path / "log").read_text().splitlines() if line] == [
        line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("error: ")
    ][:1]
    eventually(lambda: not of_catalogue(own_catalogue), "a worker is left", seconds=10)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("seconds", [0.6, 0.9, 1.2])
def test_a_parent_that_is_stopped_while_it_starts_takes_its_workers_with_it(
    number: signal.Signals, seconds: float, own_catalogue: Path, tmp_path: Path
) -> None:
    process = start(own_catalogue, tmp_path / "log", free_port())
    time.sleep(seconds)
    process.send_signal(number)
    process.wait(30)
    eventually(lambda: not of_catalogue(own_catalogue), "a worker is left", seconds=10)


def test_one_that_was_forked_with_another_environment_is_not_taken() -> None:
    early = EarlyWorkers({}, {})
    early._waiting["ImageSearch"] = [None]  # type: ignore[list-item]
    arguments = [".", "--service-name", "ImageSearch", "--fd", "3"]
    assert early.take(arguments, ".", dict(os.environ) | {"CUDA_VISIBLE_DEVICES": "1"}) is None
    assert early.take([".", "--service-name", "Extractor", "--fd", "3"], ".", dict(os.environ)) is None


def test_none_is_forked_where_there_are_threads() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert EarlyWorkers({"ImageSearch": 1}, {})._waiting == {}
    finally:
        done.set()
        thread.join()
