"""Start a server as a user would, wait until it is ready, and end every process of it."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.contained import IMAGE, contained

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 90
APART = {"LENS_EXTRACTOR_WORKERS": "1"}  # the network in a process of its own, as on machines of many cores


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: where it answers, and where its log is."""

    url: str
    log: Path
    pid: int

    def workers(self, service: str) -> list[psutil.Process]:
        """The processes that BentoML runs for one of the services."""
        found = []
        for member in psutil.Process(self.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it has ended, though its parent has not noticed yet
                if member.status() == psutil.STATUS_ZOMBIE:  # it has been killed, and is still to be reaped
                    continue
                if member.name() == service or f"--service-name {service} " in " ".join(member.cmdline()):
                    found.append(member)
        return found

    @property
    def main(self) -> psutil.Process:
        """The process that gets the signal to stop: the first one in a container."""
        return first_process(self.pid)

    def search(self, *images: bytes, **fields: Any) -> httpx.Response:
        """POST /search."""
        return self.post("search", [("images", image) for image in images], fields)

    def post(self, route: str, files: list[tuple[str, bytes]], fields: dict[str, Any]) -> httpx.Response:
        """POST a multipart form."""
        data = {name: value if isinstance(value, list) else str(value) for name, value in fields.items()}
        return httpx.post(f"{self.url}/{route}", files=files, data=data, timeout=60)

    def json(self, route: str, body: Any) -> httpx.Response:
        """POST a JSON body."""
        return httpx.post(f"{self.url}/{route}", json=body, timeout=60)


def shared_folder(worker: psutil.Process) -> Path:
    """The folder that a server's processes share, seen from here: where a worker has its metrics."""
    mapped = (Path(one.path) for one in worker.memory_maps())
    folder = next(path.parents[1] for path in mapped if path.suffix == ".db" and "bentolens-" in str(path))
    return Path(f"/proc/{worker.pid}/root/tmp/{folder.name}") if IMAGE else folder


def first_process(pid: int) -> psutil.Process:
    """The process that a runtime would signal: the one that was started, or the first in the container that it started."""
    started = psutil.Process(pid)
    if IMAGE:
        eventually(lambda: bool(started.children()), "the container has no process")
        return started.children()[0]
    return started


def eventually(holds: Callable[[], bool], what: str, seconds: float = READY_SECONDS, every: float = 0.05) -> None:
    """Return as soon as something holds that comes by itself, in the background; fail when it has not after a time."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(every)


def free_port() -> int:
    """A port that nothing listens on, and below those that the system gives to outgoing connections meanwhile."""
    while True:
        port = random.randrange(12_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def serving(catalogue: Path | None, log: Path, **settings: str) -> Iterator[Server]:
    """Serve a catalogue, by BentoML's own command; ``settings`` are more environment variables."""
    if IMAGE:
        with running(contained(catalogue, settings, "serve"), log, cwd=ROOT) as server:
            yield server
        return
    environment = settings | ({"LENS_CATALOGUE": str(catalogue)} if catalogue else {})
    command = [sys.executable, "-m", "bentoml", "serve", "service:ImageSearch"]
    with running(command, log, cwd=ROOT, **environment) as server:
        yield server


def begin(command: list[str], log: Path, cwd: Path, **environment: str) -> tuple[Server, subprocess.Popen[bytes]]:
    """Start a command that serves HTTP on the port it is given with --port; the server, and the process to ``end``."""
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=cwd,
            env=os.environ | {"BENTOML_DO_NOT_TRACK": "True"} | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a process group of its own, so that BentoML's children end with it
        )
    return Server(f"http://127.0.0.1:{port}", log, process.pid), process


@contextmanager
def running(command: list[str], log: Path, cwd: Path, **environment: str) -> Iterator[Server]:
    """Run a command that serves HTTP on the port it is given with --port; ready when /readyz says so."""
    server, process = begin(command, log, cwd, **environment)
    try:
        wait_until_ready(server, process)
        yield server
    finally:
        end(process)


def wait_until_ready(server: Server, process: subprocess.Popen[bytes]) -> None:
    """Return when the server answers /readyz; fail, with its log, when it ends or takes too long."""
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        assert process.poll() is None, f"the server ended:\n{server.log.read_text()[-3000:]}"
        try:
            if httpx.get(f"{server.url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"not ready after {READY_SECONDS} s:\n{server.log.read_text()[-3000:]}")


def end(process: subprocess.Popen[bytes]) -> None:
    """Press Ctrl-C, wait, and end what is left: BentoML's workers lead sessions of their own."""
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=15)
    process.kill()
    process.wait()
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
