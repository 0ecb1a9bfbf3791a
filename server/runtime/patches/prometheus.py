"""Changes made to prometheus_client 0.26.0, with their reasons; tests/server/test_patches.py fails when one is not needed."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def allocate_metrics_files(on_full: Callable[[], None]) -> None:
    """Have the disk give the files that metrics are mapped in their room before anything is written to them.

    They are sparse, so that a new series on a full disk ends the process (SIGBUS). Where there is no room, further series of
    this process are in memory only, where /metrics does not see them, and ``on_full`` is told.
    For prometheus_client 0.26.0; upstream: no issue filed.
    """
    from prometheus_client.mmap_dict import _INITIAL_MMAP_SIZE, MmapedDict

    mapped: Any = MmapedDict
    make, init_value = mapped.__init__, mapped._init_value

    def init(self: Any, filename: str, read_mode: bool = False) -> None:
        if not read_mode:
            try:
                with open(filename, "ab") as file:  # noqa: PTH123, as prometheus_client opens it
                    os.posix_fallocate(file.fileno(), 0, max(_INITIAL_MMAP_SIZE, os.fstat(file.fileno()).st_size))
            except OSError:
                on_full()
                Path(filename).unlink(missing_ok=True)  # an empty one cannot be read
                filename = f"/proc/self/fd/{os.memfd_create('metrics')}"
        make(self, filename, read_mode)

    def _init_value(self: Any, key: str) -> None:
        if self._used + 2 * len(key.encode()) + mmap.PAGESIZE > self._capacity:  # it may grow, and doubles then
            try:
                os.posix_fallocate(self._f.fileno(), 0, 2 * self._capacity)
            except OSError:
                on_full()
                self._f = os.fdopen(os.memfd_create("metrics"), "a+b")
                self._f.write(self._m[: self._capacity])
                self._f.flush()
                self._m = mmap.mmap(self._f.fileno(), self._capacity)
        init_value(self, key)

    mapped.__init__, mapped._init_value = init, _init_value
