"""The OpenVINO engine: runs an exported graph on the CPU. Imports neither torch nor timm, and is ready in 0.3 s."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.card import GRAPH_FILE, ExtractorCard, Precision
from model.engines.openvino_import import openvino
from model.errors import DamagedExtractor

# A stream is a picture in work. Two threads on one picture lose 5 % of throughput and give it in half the time.
THREADS_PER_STREAM = 2  # for whoever waits for an answer; a build has a stream for each thread


class OpenVinoEngine:
    """A compiled graph. Every picture is a batch of its own: larger ones are no faster on a CPU, and less alike."""

    def __init__(self, model: openvino.Model, card: ExtractorCard, threads: int, streams: int) -> None:
        self.card = card
        self._compiled = openvino.Core().compile_model(
            model,
            "CPU",
            {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": streams, **compile_settings(card.precision, threads)},
        )
        # Synchronous requests from several threads have hung: one caller at a time, and a queue for more than one picture.
        self._lock = threading.Lock()
        self._request = self._compiled.create_infer_request()
        self._queue = openvino.AsyncInferQueue(self._compiled, streams + 1)
        self._queue.set_callback(_keep)

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed pictures: float32 [n, dim], of uint8 pixels [n, height, width, 3]; of unit length if the card says so."""
        vectors = np.empty((len(pixels), self.card.dim), np.float32)
        with self._lock:
            if len(pixels) == 1:  # half a millisecond sooner than by the queue
                vectors[:] = self._request.infer({0: pixels}, share_inputs=True)[0]
            else:
                for place, picture in enumerate(pixels):
                    self._queue.start_async({0: picture[None]}, vectors[place])
                self._queue.wait_all()
        return vectors


def _keep(request: openvino.InferRequest, place: NDArray[np.float32]) -> None:
    place[:] = request.get_output_tensor(0).data[0]


def compile_settings(precision: Precision, threads: int) -> dict[str, Any]:
    """Return how OpenVINO compiles a graph of a precision; left to itself it takes bf16 wherever the CPU has it."""
    return {
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # decoding, and the process that takes requests, are on the same cores
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" and cpu_has_bf16() else "f32",
    }


def cpu_has_bf16() -> bool:
    """Return whether this machine's CPU computes in bfloat16."""
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def open_openvino(folder: Path, card: ExtractorCard, threads: int, *, many: bool = False) -> OpenVinoEngine:
    """Open an exported graph. Raises DamagedExtractor when it cannot be read or is not what the card says."""
    path = folder / GRAPH_FILE
    try:
        model = openvino.Core().read_model(path)
        wanted = ([1, *card.preprocessing.size, 3], [1, card.dim])
        found = (list(model.input(0).shape), list(model.output(0).shape))
        if found != wanted:
            raise RuntimeError(f"its input and output are {found}, the card's {wanted}")
        return OpenVinoEngine(model, card, threads, max(1, threads // (1 if many else THREADS_PER_STREAM)))
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[-160:]
        raise DamagedExtractor(
            f"{path} with its graph.bin cannot be used ({reason}); restore it, or build the catalogue again"
        ) from None
