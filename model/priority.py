"""Threads that run behind others where cores are few."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

NETWORK = 10  # nice: what takes requests, and refuses those that are too many, goes before the network
LOWEST = 19


def lower_priority(nice: int) -> None:
    """Give this thread, and those that it starts, a priority of its own. Only Linux knows one of a thread."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
