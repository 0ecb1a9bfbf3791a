"""How OpenVINO compiles a graph, and what of it stays in memory."""

from __future__ import annotations

import ctypes
import mmap
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from model.card import Precision
from model.engines.openvino_import import openvino
from model.priority import NETWORK, lower_priority


def compile_graph(
    model: openvino.Model, weights: Path, precision: Precision, threads: int, **settings: Any
) -> openvino.CompiledModel:
    """Compile a graph for the CPU, in ``precision``; its weights are in the file ``weights``. Raises RuntimeError.

    It computes on threads that give way to others: what is next to it, if only to refuse what is too much, is short.
    """
    settings |= {
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # decoding, and what takes requests, are on the same cores
        # Left to itself it takes bf16 wherever the CPU has it.
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" and cpu_has_bf16() else "f32",
    }
    # Its threads take their priority from the one that it is compiled on, which cannot have its own back.
    with ThreadPoolExecutor(1, initializer=lower_priority, initargs=(NETWORK,)) as thread:
        compiled = thread.submit(openvino.Core().compile_model, model, "CPU", settings).result()
    # It has its weights in an order of its own, and the file mapped all the same.
    forget_pages(weights)
    return compiled


def cpu_has_bf16() -> bool:
    """Return whether this machine's CPU computes in bfloat16."""
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def forget_pages(path: Path) -> None:
    """Give back the memory of a file that this process has mapped to read; what is read again comes from the file."""
    with suppress(OSError):  # without /proc they stay
        for line in Path("/proc/self/maps").read_text().splitlines():
            span, mode, *_, name = line.split(maxsplit=5)
            if mode == "r--s" and name == str(path.resolve()):
                start, end = (int(address, 16) for address in span.split("-"))
                ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)
