"""Memory-mapped files in huge pages."""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from typing import BinaryIO


def map_file(file: BinaryIO) -> mmap.mmap:
    """Map an open file read-only, in huge pages where the system has them for files.

    A query jumps about in the map; with pages of 4 KiB the processor looks up addresses as long as it compares.
    """
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with suppress(AttributeError, OSError):  # not Linux, or a file system without them
        mapped.madvise(mmap.MADV_HUGEPAGE)
    return mapped


def forget_pages(file: BinaryIO) -> None:
    """Flush a file that was written and let its pages go: read again through ``map_file``, they come as huge pages."""
    file.flush()
    os.fsync(file.fileno())
    with suppress(AttributeError, OSError):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
