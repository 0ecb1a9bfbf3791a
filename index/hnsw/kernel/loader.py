"""Whether the compiled kernel is there: loading it takes a third of a second, and compiling it, where it must be, seven.

Whoever searches waits for it, unless ``load_kernel_later`` has been called: then searches are answered plainly
(``index/hnsw/numpy_search.py``) until it is there.
"""

from __future__ import annotations

import importlib
import threading
from typing import Any

_there = threading.Event()
_there.set()
_loading = threading.local()


def kernel() -> Any:
    """The module of the compiled kernel (``index/hnsw/kernel/search.py``); imports numba the first time."""
    return importlib.import_module("index.hnsw.kernel.search")


def kernel_is_there() -> bool:
    """Whether a search may use the kernel: not while another thread is loading it in the background."""
    return _there.is_set() or hasattr(_loading, "here")


def load_kernel_later(seconds: float) -> None:
    """Load the kernel, or compile it, in the background, ``seconds`` from now; searches do without it until then."""
    _there.clear()

    def load() -> None:
        from index.hnsw.warmup import warm_kernels

        _loading.here = True  # its searches are what has the kernel compiled
        try:
            warm_kernels()
        finally:
            _there.set()

    timer = threading.Timer(seconds, load)
    timer.daemon = True
    timer.start()
