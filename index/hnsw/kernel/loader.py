"""Whether the compiled kernel is there: loading it takes a third of a second, and compiling it, where it must be, 25.

A search waits for it, unless ``hold_kernel_back`` has been called: then numpy answers (``index/hnsw/numpy_search.py``)
until it is there.
"""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_there = threading.Event()
_there.set()
_loading = threading.local()


@functools.cache
def kernel() -> Any:
    """Return the module of the compiled kernel (``index/hnsw/kernel/search.py``); imports numba the first time."""
    return importlib.import_module("index.hnsw.kernel.search")


def kernel_is_there() -> bool:
    """Return whether a search may use the kernel: not while another thread is loading it in the background."""
    return _there.is_set() or hasattr(_loading, "here")


def hold_kernel_back() -> None:
    """Have searches do without the kernel until ``loading_kernel`` has ended."""
    _there.clear()


@contextmanager
def loading_kernel() -> Iterator[None]:
    """Let this thread use the kernel, and all threads once this ends."""
    _loading.here = True  # its searches are what has the kernel compiled
    try:
        yield
    finally:
        _there.set()
