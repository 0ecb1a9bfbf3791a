"""Threads that run behind others where cores are few."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

NETWORK = 10  # nice: what takes requests, and refuses those that are too many, goes before the network
LOWEST = 19


def lower_priority(nice: int) -> None:
    """Give this thread, and those that it starts, a priority of ``nice``, unless its own is lower. Linux only."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, max(nice, os.getpriority(os.PRIO_PROCESS, thread)))
