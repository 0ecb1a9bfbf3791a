"""What BentoML's processes need to live long: dead workers are started again at once, and nothing is kept of past requests.

BentoML looks after its workers every ten seconds, so that a network that was killed is away for as long; in a container it
does not at all, and ends once there are none. It keeps the metrics of all servers of a user in one folder, which each
empties when it starts. And it keeps a part of each request until the timeout is over, though it was answered long before.
All of it is mended here and nowhere else; tests/faults/ has the load that shows it.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

LOOK_SECONDS = 0.2  # between looks at the workers; each costs some tens of microseconds
SHARED = "BENTOLENS_SHARED"
M_MMAP_THRESHOLD = -3  # of malloc.h
LARGE_BYTES = 4 * 2**20


def shared_folder() -> Path:
    """The folder that all processes of this service write to, gone when it ends."""
    if SHARED not in os.environ:
        os.environ[SHARED] = tempfile.mkdtemp(prefix="bentolens-")
        atexit.register(shutil.rmtree, os.environ[SHARED], ignore_errors=True)
    return Path(os.environ[SHARED])


def look_after_workers() -> None:
    """In the process that starts the workers: see to them often, and keep their metrics in a folder of their own."""
    import bentoml.serving
    from bentoml._internal.utils.circus import Arbiter

    os.environ.pop(SHARED, None)  # that of whoever has started this process
    start = Arbiter.__init__

    def start_looking_often(self: Any, *arguments: Any, **options: Any) -> None:
        start(self, *arguments, **options | {"check_delay": LOOK_SECONDS})

    def metrics_folder() -> str:
        (folder := shared_folder() / "metrics").mkdir()
        return str(folder)

    Arbiter.__init__ = start_looking_often  # type: ignore[method-assign]
    bentoml.serving.running_inside_container = lambda: False  # type: ignore[assignment]  # it is what decides whether a worker is started again
    bentoml.serving.ensure_prometheus_dir = metrics_folder  # type: ignore[assignment]


def keep_no_timers() -> None:
    """In a worker: leave out BentoML's timeout, whose timer keeps five kilobytes of each request for as long as it runs.

    The door gives requests up itself, with a 503 where BentoML has a 504, and waits no longer for the Extractor.
    """
    from bentoml._internal.server.http.traffic import TimeoutMiddleware

    async def call(self: Any, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    TimeoutMiddleware.__call__ = call  # type: ignore[method-assign]


def give_memory_back() -> None:
    """Have glibc return what a large picture has taken as soon as it is done with, and not keep it for the next one."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)


def forget_dead_workers() -> None:
    """Remove what workers that were killed last said of themselves: pictures in flight there are in flight no more."""
    for file in Path(os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")).glob("gauge_live*_*.db"):
        with suppress(ValueError, OSError):
            if not psutil.pid_exists(int(file.stem.rpartition("_")[2])):
                file.unlink()
