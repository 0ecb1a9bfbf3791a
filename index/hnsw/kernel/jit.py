"""numba's cache, made to know a whole package: compiled code is as old as any of the files it was made of.

numba stamps what it keeps with the source file of the one function that was compiled, so a change in a function of
another file, compiled into it, would go unnoticed. And it keeps the result in ``__pycache__``, which ``bentoml build``
leaves behind. It is also made to compile for a family of CPUs (``cpu_targets.py``) and not for this very one.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from llvmlite.binding import get_host_cpu_features
from numba import njit
from numba.core import config
from numba.core.caching import CacheImpl, InTreeCacheLocator

from index.hnsw.kernel.cpu_targets import WITH_VNNI, best_cpu_target

PACKAGE = Path(__file__).parent
CACHE = PACKAGE / "compiled_cache"


class _PackageLocator(InTreeCacheLocator):
    """Where numba keeps what it compiles of this package, and how it knows that it is still true."""

    def __init__(self, py_func: Callable[..., Any], py_file: str) -> None:
        super().__init__(py_func, py_file)
        self._cache_path = str(CACHE)

    def get_source_stamp(self) -> str:
        sources = sorted(PACKAGE.glob("*.py"))
        return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()

    def get_disambiguator(self) -> str:
        return "package"

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> Any:
        """This locator for functions of this package, where its cache can be written to, or has been."""
        if Path(py_file).parent != PACKAGE:
            return None
        return super().from_function(py_func, py_file) or (cls(py_func, py_file) if list(CACHE.glob("*.nbi")) else None)


CacheImpl._locator_classes.insert(0, _PackageLocator)
try:
    CPU_TARGET = best_cpu_target(get_host_cpu_features())
except RuntimeError:  # LLVM cannot tell, on some systems that are not x86-64
    CPU_TARGET = None
# numba asks for its CPU once, when it is first used: so whatever is compiled imports this module before.
if CPU_TARGET and config.CPU_NAME is None:  # NUMBA_CPU_NAME goes before
    config.CPU_NAME, config.CPU_FEATURES = CPU_TARGET

HAS_VNNI = config.CPU_NAME == WITH_VNNI

DISPATCHERS: list[Any] = []  # all that was made by compiled()

inner = functools.partial(njit, nogil=True, _nrt=False)  # what is compiled into others, without numba's runtime


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function when it is first called, without the GIL, and keep the result for later processes."""
    dispatcher = inner()(function)
    DISPATCHERS.append(dispatcher)
    try:
        dispatcher.enable_caching()
    except RuntimeError:  # nowhere to keep it: each process compiles
        return dispatcher
    cache = dispatcher._cache
    save, load = cache.save_overload, cache.load_overload

    def load_where_it_can_be(signature: Any, target: Any) -> Any:
        try:
            return load(signature, target)
        except (AttributeError, ImportError, ValueError, EOFError, pickle.UnpicklingError):
            with suppress(OSError):  # an older version's, which names what is no longer there
                cache.flush()
            return None

    def save_where_it_can_be(signature: Any, data: Any) -> None:
        with suppress(OSError):  # a folder that was filled elsewhere, and is read-only here
            save(signature, data)

    cache.load_overload = load_where_it_can_be
    cache.save_overload = save_where_it_can_be
    return dispatcher
