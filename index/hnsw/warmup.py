"""Have the search kernel compiled before it is needed: ``make setup`` does, and a service after its first answer."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np

from index.correlation import SIDE, correlations
from index.hamming import WORDS, nearest_hashes
from index.hnsw.coded_rows import CodedRows
from index.hnsw.codes import build_codes
from index.hnsw.file import HEADER, open_hnsw_file
from index.hnsw.kernel.cpu_targets import CPU_TARGETS
from index.hnsw.kernel.loader import hold_kernel_back, kernel, loading_kernel
from index.hnsw.mapped_index import open_index
from index.row_mask import allow_rows

DIM = 4
log = logging.getLogger("bentoml.bentolens")


def warm_kernels() -> None:
    """Compile all that a search runs, or load it from numba's cache: 25 s the first time, then 0.2."""
    m = 2
    record = 4 + 8 * m + 4 * DIM + 8
    header = HEADER.pack(0, 1, 1, record, record - 8, 4 + 8 * m, 0, 0, m, 2 * m, m, 1.0, 1)
    only = np.zeros(record // 4 + 1, np.uint32)  # one element without links, and its empty upper part
    query = np.ones((1, DIM), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        path.write_bytes(header + only.tobytes())
        codes = path.with_suffix(".codes")
        build_codes(codes, open_hnsw_file(path, DIM), "cosine")
        for companion in (codes, None):
            index = open_index(path, DIM, "cosine", companion)
            index.search(query, 1)
            index.search(query, 1, allowed=allow_rows([0], 1))
    CodedRows.of(query, "cosine").search(np.zeros(1, np.int64), query, 1, "cosine")
    nearest_hashes(np.zeros((WORDS, 1), np.uint64), np.zeros((1, WORDS), np.uint64))
    correlations(np.zeros((SIDE, SIDE), np.uint8), np.zeros((1, SIDE, SIDE), np.uint8))


def warm_every_kernel() -> None:
    """``warm_kernels`` for every family of CPUs, those that this machine does not belong to included: some 80 s.

    For this CPU alone where there are no families, as on ARM. Raises CalledProcessError when one cannot be compiled for.
    """
    from index.hnsw.kernel.jit import CPU_TARGET, DISPATCHERS

    warm_kernels()
    if CPU_TARGET is None:
        return
    signatures = pickle.dumps([dispatcher.signatures for dispatcher in DISPATCHERS])
    for name, (_, options) in CPU_TARGETS.items():
        # numba compiles for one CPU in one process. Compiling for signatures runs nothing, so any CPU can do it.
        subprocess.run(
            [sys.executable, "-c", "from index.hnsw import warmup; warmup._compile_signatures()"],
            input=signatures,
            env=os.environ | {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": options},
            cwd=Path(__file__).parents[2],
            check=True,
        )


def _compile_signatures() -> None:
    from index.hnsw.kernel.jit import DISPATCHERS

    kernel()
    for dispatcher, signatures in zip(DISPATCHERS, pickle.load(sys.stdin.buffer), strict=True):
        for signature in signatures:
            dispatcher.compile(signature)


def load_kernel_later(seconds: float) -> None:
    """Load the kernel, or compile it, in the background, ``seconds`` from now; searches do without it until then."""
    hold_kernel_back()

    def load() -> None:
        try:
            with loading_kernel():
                warm_kernels()
        except OSError as error:  # no room for a temporary file: the first search loads it
            log.warning("the search kernel was not loaded ahead (%s)", error)

    timer = threading.Timer(seconds, load)
    timer.daemon = True
    timer.start()
