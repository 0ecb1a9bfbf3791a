"""Workers that are forked at the beginning of a start, so that they get ready while the parent does.

BentoML's parent imports the service only to learn of it, and then has circus start other interpreters, which import
all again and open the engine last: two thirds of a start. These are forked before the parent has imported anything of ours
or has any thread. They import the service, open the engine, and wait for what circus would have started them with.
A worker that cannot be had this way, as one that follows a dead one, is started as circus does it.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib
import json
import os
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import psutil

from server.runtime.process import METRICS, name_parent, raise_open_files

SCRIPT = "_bentoml_impl.worker.service"  # what circus is to run
MODULE = "service"
PATIENCE = 60.0  # seconds that a parent may take to start; its configuration may want fewer workers than were forked
PR_SET_NAME = 15  # of sys/prctl.h
# What circus may add to the environment of the parent: none of it is read before the worker gets it.
LATE = ("BENTOML_", "PROMETHEUS_", "PYTHONPATH")


class Waiting(NamedTuple):
    """A worker that waits for its arguments: its pid, and where to send them."""

    pid: int
    channel: socket.socket


class EarlyWorker(psutil.Process):
    """A worker that was forked early, with what circus asks of a ``psutil.Popen``."""

    stdout = stderr = None

    def __init__(self, pid: int) -> None:
        super().__init__(pid)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return its exit code, the negative number of the signal that ended it, or None while it runs."""
        with suppress(psutil.TimeoutExpired):
            self.returncode = self.wait(0)
        return self.returncode


class EarlyWorkers:
    """The workers that were forked: ``counts`` says how many of which service, ``environment`` what is added to theirs.

    There are none where a fork is not safe: macOS's libraries do not expect one, nor does a process with threads.
    """

    def __init__(self, counts: Mapping[str, int], environment: Mapping[str, str]) -> None:
        self._waiting: dict[str, list[Waiting]] = {}
        if sys.platform == "linux" and threading.active_count() == 1:
            for service in (service for service, count in counts.items() for _ in range(count)):
                others = [one.channel for forked in self._waiting.values() for one in forked]
                self._waiting.setdefault(service, []).append(_fork(service, environment, others))

    def take(self, arguments: Sequence[str], cwd: str, environment: Mapping[str, str]) -> EarlyWorker | None:
        """Give the arguments of BentoML's script to one that waits; None where there is none that can take them."""
        arguments = list(arguments)
        waiting = self._waiting.get(arguments[arguments.index("--service-name") + 1])
        changed = {name for name, value in environment.items() if os.environ.get(name) != value}
        if not waiting or not all(name.startswith(LATE) for name in changed):
            return None
        worker = waiting.pop()
        order = {"arguments": arguments, "cwd": cwd, "environment": {name: environment[name] for name in changed}}
        listener = int(arguments[arguments.index("--fd") + 1])
        try:
            with worker.channel as channel:
                socket.send_fds(channel, [b"\n"], [listener])
                channel.sendall(json.dumps(order).encode() + b"\n")
        except OSError:  # it has ended
            with suppress(ChildProcessError):  # circus may have noticed before
                os.waitpid(worker.pid, 0)
            return None
        return EarlyWorker(worker.pid)


def fork_workers(counts: Mapping[str, int], shared: Path) -> EarlyWorkers:
    """Fork so many workers of each service, in this process, which is going to start the service.

    ``shared`` is the folder that all processes of the service share.
    """
    name_parent()
    raise_open_files()
    metrics = shared / METRICS
    if counts:
        metrics.mkdir()
    return EarlyWorkers(counts, {"PROMETHEUS_MULTIPROC_DIR": str(metrics)})


def _fork(service: str, environment: Mapping[str, str], others: Sequence[socket.socket]) -> Waiting:
    ours, theirs = socket.socketpair()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    pid = os.fork()
    if pid:
        theirs.close()
        return Waiting(pid, ours)
    for one in (ours, *others):  # they would stay open when the parent has ended
        one.close()
    _become_worker(service, environment, theirs)


def _become_worker(service: str, environment: Mapping[str, str], channel: socket.socket) -> NoReturn:
    """Get ready, wait for the arguments, run BentoML's script with them, and end as Python does."""
    code = 1
    try:
        _leave_parent(service, environment)
        _configure_logging()
        try:
            importlib.import_module(MODULE)
            importlib.import_module("_bentoml_impl.server.app")
        finally:
            arguments = _receive(channel)  # without any, the parent has ended, and has said why
        sys.argv = [SCRIPT, *arguments]
        from _bentoml_impl.worker.service import main

        main(arguments, standalone_mode=False)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        _end(code)


def _leave_parent(service: str, environment: Mapping[str, str]) -> None:
    os.setsid()  # what a terminal sends is for the parent
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    atexit._clear()
    os.environ.update(environment)
    sys.argv = [SCRIPT, "--service-name", service]
    # Its command line stays the parent's, so this is what tells it apart in ps and top.
    ctypes.CDLL(None).prctl(PR_SET_NAME, service.encode())
    for name, module in list(sys.modules.items()):
        if getattr(getattr(module, "__spec__", None), "_initializing", False):
            del sys.modules[name]  # the parent is in the middle of importing it


def _configure_logging() -> None:
    """Do what BentoML's script begins with, and have it not do it again: it would undo what the service has set up."""
    from bentoml._internal import log

    log.configure_server_logging()  # type: ignore[no-untyped-call]
    log.configure_server_logging = lambda: None


def _receive(channel: socket.socket) -> list[str]:
    """Wait for the parent; the arguments. Ends this process where the parent has ended, or has no use for it."""
    with channel:
        channel.settimeout(PATIENCE)
        received: list[int] = []
        with suppress(OSError):
            received = socket.recv_fds(channel, 1, 1)[1]
        if not received:
            os._exit(0)
        with channel.makefile("rb") as file:
            order: dict[str, Any] = json.loads(file.readline())
    os.environ.update(order["environment"])
    os.chdir(order["cwd"])
    arguments: list[str] = order["arguments"]
    os.set_inheritable(received[0], True)  # as those are that circus hands over
    arguments[arguments.index("--fd") + 1] = str(received[0])
    return arguments


def _end(code: int) -> NoReturn:
    for end in (threading._shutdown, atexit._run_exitfuncs, sys.stdout.flush, sys.stderr.flush):  # type: ignore[attr-defined]
        with suppress(BaseException):
            end()
    os._exit(code)
