"""What the process that starts the workers does about them: restarts that back off, and 503 while none can answer."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client.mmap_dict import MmapedDict, mmap_key

from server.api.errors import STARTING, error_answer_of
from server.runtime.early_workers import SCRIPT, EarlyWorkers
from server.runtime.patches.circus import (
    Death,
    adopt_workers,
    call_on_death,
    keep_stop_signals,
    limit_stop,
    stop_on_hangup,
)
from server.runtime.process import METRICS, started_mark

FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
STOP_MARGIN = 3.0  # seconds after those that a service may take to stop, until what hangs is killed
RESTARTS = "bentolens_worker_restarts"
log = logging.getLogger("bentoml.bentolens")


class Supervisor:
    """Decides when a worker that has died is started again, says so in one line, and counts it in the metrics."""

    def __init__(self, http_service: str, shared: Path) -> None:
        self._http_service = http_service
        self._shared = shared
        self._failures: dict[str, int] = {}
        self._restarts: dict[str, int] = {}

    def on_death(self, death: Death) -> float:
        """Log and count a death; return the seconds after which another worker is to be started."""
        service = death.service
        mark = started_mark(self._shared, death.pid)
        # A worker that had started is no failed start.
        failures = 0 if mark.exists() else self._failures.get(service, 0) + 1
        self._failures[service] = failures
        mark.unlink(missing_ok=True)
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** (failures - 1)) if failures else 0.0
        when = f"restarted in {delay:g} s" if delay else "restarted"
        log.error("the worker of %s with pid %d %s; %s", service, death.pid, describe_exit(death.code), when)
        self._count(service)
        if delay and service == self._http_service and not death.others:
            listeners = [socket.socket(fileno=os.dup(one.fileno())) for one in death.sockets]
            threading.Thread(target=refuse_connections, args=(listeners, delay), daemon=True).start()
        return delay

    def _count(self, service: str) -> None:
        self._restarts[service] = self._restarts.get(service, 0) + 1
        name, about = f"{RESTARTS}_total", "Workers that died and were started again"
        with suppress(OSError):
            # This process imports the metrics before their folder is there, so it writes what prometheus_client would.
            values: Any = MmapedDict(str(self._shared / METRICS / f"counter_{os.getpid()}.db"))  # type: ignore[no-untyped-call]
            for each, count in self._restarts.items():
                values.write_value(mmap_key(RESTARTS, name, ["service"], [each], about), count, 0.0)
            values.close()


def supervise(http_service: str, shutdown_seconds: int, shared: Path, early: EarlyWorkers) -> None:
    """Look after the workers that this process is about to start; ``shared`` is the folder that all of them share."""
    adopt_workers(SCRIPT, early.take)
    limit_stop(shutdown_seconds + STOP_MARGIN)
    stop_on_hangup()
    keep_stop_signals()
    call_on_death(Supervisor(http_service, shared).on_death)


def describe_exit(code: int) -> str:
    """Return how a process ended, from its exit code, or the negative number of the signal that ended it."""
    if code >= 0:
        return f"ended with exit code {code}"
    with suppress(ValueError):
        name = signal.Signals(-code).name
        more = {9: ", as the system does where memory is short", 7: ", as happens when a mapped file was cut short"}
        return f"was ended by signal {-code} ({name}{more.get(-code, '')})"
    return f"was ended by signal {-code}"


def refuse_connections(listeners: list[socket.socket], seconds: float) -> None:
    """Answer 503 to whoever connects to these sockets for some seconds, in which no worker does; then close them."""
    body = json.dumps(error_answer_of(STARTING, "no worker can be started; the log says why").model_dump()).encode()
    head = f"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    answer = head.encode() + f"retry-after: {int(seconds) + 1}\r\nconnection: close\r\n\r\n".encode() + body
    until = time.monotonic() + seconds
    while listeners and (left := until - time.monotonic()) > 0:
        for listener in listeners:
            listener.settimeout(min(0.2, left))
            with suppress(OSError):
                connection = listener.accept()[0]
                with connection:
                    connection.settimeout(1)
                    with suppress(OSError):
                        connection.recv(65536)
                        connection.sendall(answer)
                        connection.shutdown(socket.SHUT_WR)
    for listener in listeners:
        listener.close()
