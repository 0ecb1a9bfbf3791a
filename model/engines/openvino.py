"""The OpenVINO engine: runs an exported graph on the CPU. Imports neither torch nor timm, and is ready in 0.3 s."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.card import GRAPH_FILE, ExtractorCard
from model.engines.openvino_compile import compile_graph
from model.engines.openvino_import import openvino
from model.errors import DamagedExtractor

# A stream is a picture in work. Two threads on one picture give it in two thirds of the time, and do fewer in all.
THREADS_PER_STREAM = 2
MANY = 32  # pictures that had to wait for a stream before more are compiled: a few queries at the shell are no reason


class OpenVinoEngine:
    """A compiled graph. Every picture is a batch of its own: larger ones are no faster on a CPU, and less alike.

    Few pictures go to streams of two threads. More than these streams take at once go to streams of one thread, which are
    compiled when MANY pictures have come so, while the others go on, unless ``many`` are expected from the start.
    """

    def __init__(self, folder: Path, model: openvino.Model, card: ExtractorCard, threads: int, many: bool) -> None:
        self.card = card
        self._weights = (folder / GRAPH_FILE).with_suffix(".bin")
        self._threads = threads
        self._came_together = 0
        # Synchronous requests from several threads have hung: one caller at a time.
        self._lock = threading.Lock()
        self._few = _Streams(self._compile(model, threads if many else max(1, threads // THREADS_PER_STREAM)))
        self._many = self._few if self._few.count == threads else None
        self._model: openvino.Model | None = None if self._many else model

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed pictures: float32 [n, dim], of uint8 pixels [n, height, width, 3]; of unit length if the card says so."""
        vectors = np.empty((len(pixels), self.card.dim), np.float32)
        with self._lock:
            streams = self._few
            if len(pixels) > streams.count:
                streams = self._many or self._few
                self._came_together += len(pixels)
                if self._model is not None and self._came_together >= MANY:
                    threading.Thread(target=self._compile_many, args=(self._model,), name="compile").start()
                    self._model = None
            streams.embed(pixels, vectors)
        return vectors

    @property
    def streams(self) -> int:
        """How many pictures it computes at a time."""
        return (self._many or self._few).count

    @property
    def compiled(self) -> openvino.CompiledModel:
        """The graph that few pictures go to."""
        return self._few.compiled

    def _compile_many(self, model: openvino.Model) -> None:
        self._many = _Streams(self._compile(model, self._threads))

    def _compile(self, model: openvino.Model, streams: int) -> openvino.CompiledModel:
        return compile_graph(
            model,
            self._weights,
            self.card.precision,
            self._threads,
            PERFORMANCE_HINT="THROUGHPUT",
            NUM_STREAMS=streams,
        )


class _Streams:
    """A graph that computes ``count`` pictures at a time."""

    def __init__(self, compiled: openvino.CompiledModel) -> None:
        self.compiled = compiled
        self.count: int = compiled.get_property("NUM_STREAMS")
        self._request = compiled.create_infer_request()
        self._queue = openvino.AsyncInferQueue(compiled, self.count + 1)
        self._queue.set_callback(_keep)

    def embed(self, pixels: NDArray[np.uint8], vectors: NDArray[np.float32]) -> None:
        if len(pixels) == 1:  # half a millisecond sooner than by the queue
            vectors[:] = self._request.infer({0: pixels}, share_inputs=True)[0]
            return
        for place, picture in enumerate(pixels):
            self._queue.start_async({0: picture[None]}, vectors[place])
        self._queue.wait_all()


def _keep(request: openvino.InferRequest, place: NDArray[np.float32]) -> None:
    place[:] = request.get_output_tensor(0).data[0]


def open_openvino(folder: Path, card: ExtractorCard, threads: int, *, many: bool = False) -> OpenVinoEngine:
    """Open an exported graph. Raises DamagedExtractor when it cannot be read or is not what the card says."""
    path = folder / GRAPH_FILE
    try:
        model = openvino.Core().read_model(path)
        wanted = ([1, *card.preprocessing.size, 3], [1, card.dim])
        found = (list(model.input(0).shape), list(model.output(0).shape))
        if found != wanted:
            raise RuntimeError(f"its input and output are {found}, the card's {wanted}")
        return OpenVinoEngine(folder, model, card, threads, many)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[-160:]
        raise DamagedExtractor(
            f"{path} with its graph.bin cannot be used ({reason}); restore it, or build the catalogue again"
        ) from None
