"""What a process of the service is, and what it shares with the others: a folder, memory settings, metrics."""

from __future__ import annotations

import atexit
import ctypes
import gc
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import TracebackType

import psutil

log = logging.getLogger("bentoml.bentolens")
SHARED, PARENT = "BENTOLENS_SHARED", "BENTOLENS_PARENT"
METRICS = "metrics"  # the folder of the metrics in the shared one
M_MMAP_THRESHOLD = -3  # of malloc.h
LARGE_BYTES = 4 * 2**20
OTHER_FILES = 256  # open files that are no clients' connections, at most
PARENT_SECONDS = 0.25  # between looks at whether the parent is still there


def argument(name: str) -> str | None:
    """Return the value of an argument of this process, or None: BentoML passes its workers their role by arguments."""
    return dict(pairwise(sys.argv)).get(name)


def is_worker() -> bool:
    """Return whether BentoML has started this process to run a service; else it is the one that starts them."""
    return argument("--service-name") is not None


def finish_startup() -> None:
    """Exempt what there is now from garbage collection, and collect what requests leave behind as usual: see bootstrap.

    The parent is told that this worker has started.
    """
    gc.freeze()
    gc.set_threshold(700, 10, 10)
    with suppress(OSError):  # the disk is full
        started_mark(shared_folder(), os.getpid()).touch()


def started_mark(folder: Path, pid: int) -> Path:
    """Return the file that is there once the worker with a pid has started, in the folder that all processes share."""
    return folder / f"started-{pid}"


def shared_folder() -> Path:
    """Return the folder that all processes of this service write to, gone when it ends."""
    if SHARED not in os.environ:
        try:
            os.environ[SHARED] = tempfile.mkdtemp(prefix="bentolens-")
        except OSError as error:
            raise SystemExit(f"error: no folder for temporary files can be made ({error}); set TMPDIR") from None
        atexit.register(shutil.rmtree, os.environ[SHARED], ignore_errors=True)
    return Path(os.environ[SHARED])


def forget_shared_folder() -> None:
    """Drop the shared folder of whatever service has started this process."""
    os.environ.pop(SHARED, None)


def set_malloc_threshold() -> None:
    """Have glibc return the memory of a large picture as soon as it is done with, and not keep it for the next one."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)


def most_connections() -> int:
    """Return how many connections this process may have, so that enough of the files that it may open are left."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:  # which is -1
        return sys.maxsize
    return max(files - OTHER_FILES, files // 2)


def remove_dead_worker_metrics() -> None:
    """Remove the gauges of workers that were killed: pictures in flight there are in flight no more."""
    for file in Path(os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")).glob("gauge_live*_*.db"):
        with suppress(ValueError, OSError):
            if not psutil.pid_exists(int(file.stem.rpartition("_")[2])):
                file.unlink()


def say_why_it_ends() -> None:
    """Have what ends this worker, as what keeps it from starting, be one line in the log: it may be started many times."""

    def log_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        *_, last = traceback.extract_tb(trace) or [None]
        where = f" ({last.filename}:{last.lineno})" if last else ""
        log.error("this worker ends: %s: %s%s", kind.__name__, " ".join(str(error).split()), where)

    sys.excepthook = log_error


def name_parent() -> None:
    """Tell the workers that this process is about to start who their parent is."""
    os.environ[PARENT] = str(os.getpid())


def raise_open_files() -> None:
    """Let this process and its workers open as many files as the system allows: a connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # macOS states no limit, and has one
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def end_with_parent(seconds: float) -> None:
    """Have this worker stop when the process that started it is gone, and end after some seconds whatever hangs."""
    parent = int(os.environ.get(PARENT, os.getppid()))  # it may be gone by now

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(seconds)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
