"""The processes of a service, and what systems do to them: kills, hangs, full disks, closed terminals, unread pipes."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from server.runtime.process import most_connections
from server.runtime.supervisor import describe_exit
from tests.contained import IMAGE
from tests.disks import small_disk
from tests.serving import ROOT, Server, end, eventually, free_port, serving, shared_folder, wait_until_ready

pytestmark = pytest.mark.skipif(IMAGE is not None, reason="these act on the machine's own processes")
QUERY = {"queries": [{"id": 1}], "k": 1}
STOP_SECONDS = 10  # docs/deploy.md


def status(server: Server) -> int | None:
    """The status of a query, or None where the connection was closed."""
    try:
        return httpx.post(f"{server.url}/query", json=QUERY, timeout=5).status_code
    except httpx.TransportError:
        return None


def served(
    catalogue: Path, port: int, log: Path, stdout: int | None = None, **settings: str
) -> subprocess.Popen[bytes]:
    """Start a server whose end a test brings about."""
    command = [sys.executable, "-m", "bentoml", "serve", "service:ImageSearch", "--host", "127.0.0.1"]
    with log.open("wb") as output:
        return subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=ROOT,
            env=os.environ | {"LENS_CATALOGUE": str(catalogue)} | settings,
            stdout=output if stdout is None else stdout,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@contextmanager
def begun(
    catalogue: Path, log: Path, stdout: int | None = None, **settings: str
) -> Iterator[tuple[Server, subprocess.Popen[bytes]]]:
    """A server that is ready, and its first process, which may be gone at the end."""
    port = free_port()
    process = served(catalogue, port, log, stdout, **settings)
    server = Server(f"http://127.0.0.1:{port}", log, process.pid)
    workers: list[psutil.Process] = []
    try:
        wait_until_ready(server, process)
        workers = psutil.Process(process.pid).children(recursive=True)
        yield server, process
    finally:
        end(process)
        for worker in workers:
            with suppress(psutil.NoSuchProcess):
                worker.kill()


def gone(processes: list[psutil.Process]) -> bool:
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)


def test_workers_end_with_their_parent_and_the_port_is_free_again(catalogue: Path, tmp_path: Path) -> None:
    with begun(catalogue, tmp_path / "log", LENS_EXTRACTOR_WORKERS="1") as (server, process):
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 2
        process.kill()
        process.wait()
        eventually(lambda: gone(workers), "the workers live on", STOP_SECONDS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", int(server.url.rpartition(":")[2])))


def test_workers_whose_parent_is_killed_while_they_start_end_too(catalogue: Path, tmp_path: Path) -> None:
    process = served(catalogue, free_port(), tmp_path / "log", LENS_EXTRACTOR_WORKERS="1")
    try:
        parent = psutil.Process(process.pid)
        eventually(lambda: len(parent.children(recursive=True)) >= 2, "no worker is started")
        workers = parent.children(recursive=True)
        process.kill()
        process.wait()
        eventually(lambda: gone(workers), "the workers live on", STOP_SECONDS + 10)
    finally:
        end(process)


@pytest.mark.parametrize("seconds", [0, 0.01, 0.3])
def test_a_stop_signal_that_arrives_while_workers_start_is_kept(
    seconds: float, catalogue: Path, tmp_path: Path
) -> None:
    process = served(catalogue, free_port(), tmp_path / "log")
    try:
        parent = psutil.Process(process.pid)
        eventually(lambda: bool(parent.children()), "no worker is started", every=0.001)
        time.sleep(seconds)
        process.terminate()
        process.wait(STOP_SECONDS)
    finally:
        end(process)


def test_a_closed_terminal_ends_the_service(catalogue: Path, tmp_path: Path) -> None:
    with begun(catalogue, tmp_path / "log") as (_, process):
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGHUP)
        assert process.wait(STOP_SECONDS) == 0
        assert gone(workers)


@pytest.mark.soak
@pytest.mark.parametrize("service", ["Extractor", "ImageSearch"])
def test_a_worker_that_hangs_does_not_keep_the_service_from_ending(
    service: str, catalogue: Path, tmp_path: Path
) -> None:
    with begun(catalogue, tmp_path / "log", LENS_EXTRACTOR_WORKERS="1") as (server, process):
        workers = psutil.Process(process.pid).children(recursive=True)
        for worker in server.workers(service):
            worker.send_signal(signal.SIGSTOP)
        process.terminate()
        process.wait(STOP_SECONDS + 2)  # that much for a busy machine
        assert gone(workers)


def test_a_pipe_that_nobody_reads_holds_nothing_up(catalogue: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with ExitStack() as stack:
        stack.callback(os.close, reading)
        server, process = stack.enter_context(begun(catalogue, tmp_path / "log", writing))
        os.close(writing)
        with httpx.Client(base_url=server.url, timeout=10) as client:
            for _ in range(600):  # the pipe is full after some 280 lines
                assert client.post("/query", json=QUERY).status_code == 200
            assert client.get("/livez").status_code == 200
        process.terminate()
        assert process.wait(STOP_SECONDS) == 0


def test_a_worker_that_is_killed_is_told_counted_and_restarted(catalogue: Path, tmp_path: Path) -> None:
    with begun(catalogue, tmp_path / "log", LENS_EXTRACTOR_WORKERS="1") as (server, _):
        for service, number in (("ImageSearch", signal.SIGKILL), ("Extractor", signal.SIGBUS)):
            (worker,) = server.workers(service)
            worker.send_signal(number)

            def told(pid: int = worker.pid) -> list[str]:
                return [line for line in server.log.read_text().splitlines() if f" with pid {pid} " in line]

            eventually(lambda: bool(told()), "nothing is told")
            eventually(lambda: len(server.workers(service)) == 1, "it is not started again")  # noqa: B023
            eventually(lambda: status(server) == 200, "it does not answer again")
            (line,) = told()
            assert f"the worker of {service} with pid {worker.pid} was ended by signal {number.value} " in line
            assert line.endswith("; restarted")
        metrics = httpx.get(f"{server.url}/metrics").text
        assert 'bentolens_worker_restarts_total{service="ImageSearch"} 1.0' in metrics
        assert 'bentolens_worker_restarts_total{service="Extractor"} 1.0' in metrics
    assert describe_exit(3) == "ended with exit code 3"


@pytest.mark.parametrize("what", ["cut", pytest.param("gone", marks=pytest.mark.soak)])
def test_a_catalogue_that_breaks_while_it_is_served_is_a_reason_in_readyz(
    what: str, catalogue: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(catalogue, tmp_path / "catalogue")
    with serving(folder, tmp_path / "log", LENS_DEMO="0") as server:
        if what == "cut":
            database = folder / "catalogue.sqlite"
            os.truncate(database, database.stat().st_size // 3)
        else:
            shutil.rmtree(folder)
        answer = httpx.get(f"{server.url}/readyz")
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "catalogue_damaged"
        assert ("was cut short" if what == "cut" else "are gone") in answer.json()["error"]["message"]
        assert httpx.get(f"{server.url}/livez").status_code == 200
        assert status(server) in (503, 200)  # what SQLite remembers it can still answer


@pytest.mark.soak
def test_a_mapped_file_that_is_cut_short_is_told_and_no_storm_of_restarts(catalogue: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(catalogue, tmp_path / "catalogue")
    with begun(folder, tmp_path / "log", LENS_DEMO="0") as (server, _):
        for path in (*folder.glob("base-*.hnsw"), *folder.glob("base-*.codes")):
            os.truncate(path, path.stat().st_size // 3)
        with suppress(httpx.TransportError):  # the worker ends in the middle of it (SIGBUS)
            httpx.post(f"{server.url}/query", json={"queries": [{"id": 40}], "k": 59}, timeout=5)
        eventually(lambda: status(server) == 503, "there is no 503 with the reason")
        answer = httpx.get(f"{server.url}/readyz")
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "catalogue_damaged"
        time.sleep(3)
        assert len(server.log.read_text().splitlines()) < 30
        assert "Traceback" not in server.log.read_text()
        for path in folder.iterdir():
            if path.is_file():
                shutil.copy(catalogue / path.name, path)
        eventually(lambda: status(server) == 200, "it does not open the catalogue that is there again", 30)


@pytest.mark.soak
def test_a_worker_that_cannot_start_is_tried_again_later_and_callers_get_a_503(catalogue: Path, tmp_path: Path) -> None:
    with begun(catalogue, tmp_path / "log", LENS_DEMO="0") as (server, _):
        shared = shared_folder(server.workers("ImageSearch")[0])
        (shared / "rates").rmdir()
        (shared / "rates").touch()  # so that no worker can make its folder
        server.workers("ImageSearch")[0].kill()
        eventually(lambda: status(server) == 503, "nobody says that there is no worker", 30)
        answer = httpx.post(f"{server.url}/query", json=QUERY, timeout=10)
        if answer.status_code == 503:
            assert answer.json()["error"]["code"] == "not_started"
            assert int(answer.headers["retry-after"]) >= 1
        time.sleep(12)
        text = server.log.read_text()
        tries = [line for line in text.splitlines() if "the worker of ImageSearch" in line]
        assert 3 <= len(tries) <= 6
        assert "restarted in 1 s" in tries[2]
        assert "this worker ends: FileExistsError: " in text
        assert "Traceback" not in text
        (shared / "rates").unlink()
        eventually(lambda: status(server) == 200, "it is not tried again", 60)


def test_open_files_are_raised_and_idle_connections_make_room(catalogue: Path, tmp_path: Path) -> None:
    limited = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300)); {EXEC}"
    port = free_port()
    command = [sys.executable, "-c", limited, "serve", "service:ImageSearch", "--port", str(port)]
    environment = os.environ | {"LENS_CATALOGUE": str(catalogue), "LENS_DEMO": "0"}
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    server = Server(f"http://127.0.0.1:{port}", log, process.pid)
    try:
        wait_until_ready(server, process)
        (worker,) = server.workers("ImageSearch")
        assert worker.rlimit(psutil.RLIMIT_NOFILE) == (300, 300)
        with ExitStack() as stack:
            for _ in range(250):
                idle = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
                idle.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert idle.recv(12) == b"HTTP/1.1 200"
            assert status(server) == 200  # in the place of one of them
            assert "this process may open 300 files; raise ulimit -n" in log.read_text()
    finally:
        end(process)


@pytest.mark.parametrize(("files", "most"), [(300, 150), (1024, 768), (20_000, 19_744), (-1, sys.maxsize)])
def test_connections_leave_room_for_other_files(files: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert most_connections() == most


EXEC = "os.execv(sys.executable, [sys.executable, '-m', 'bentoml', *sys.argv[1:]])"


def test_a_full_disk_for_temporary_files_stops_nothing(catalogue: Path, tmp_path: Path) -> None:
    # A socket's path has 103 bytes, so that this disk has to have a short one.
    with (
        tempfile.TemporaryDirectory(prefix="lens-") as short,
        small_disk(Path(short) / "d", 4) as disk,
        begun(catalogue, tmp_path / "log", TMPDIR=str(disk), LENS_DEMO="0") as (server, _),
    ):
        assert shared_folder(server.workers("ImageSearch")[0]).is_relative_to(disk)
        with (disk / "fill").open("wb", 0) as fill, suppress(OSError):
            while True:
                fill.write(bytes(4096))
        pids = [worker.pid for worker in server.workers("ImageSearch")]
        for body, expected in ((QUERY, 200), ({"queries": [{"id": 999}]}, 404), ({"ids": 1}, 422), ({}, 422)):
            for _ in range(3):
                assert httpx.post(f"{server.url}/query", json=body, timeout=10).status_code == expected
        assert httpx.get(f"{server.url}/metrics", timeout=10).status_code == 200
        assert [worker.pid for worker in server.workers("ImageSearch")] == pids
        server.workers("ImageSearch")[0].kill()
        eventually(lambda: status(server) == 200, "a new worker does not start")
        assert httpx.get(f"{server.url}/metrics", timeout=10).status_code == 200
        told = [line for line in server.log.read_text().splitlines() if "is full: serving goes on" in line]
        assert 1 <= len(told) <= 3  # once by each process
