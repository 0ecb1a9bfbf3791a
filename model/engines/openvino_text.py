"""Texts embedded by OpenVINO."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.engines.openvino_compile import compile_graph
from model.engines.openvino_import import openvino
from model.errors import DamagedExtractor, FidelityError
from model.text import TEXT_GRAPH_FILE, TextCard, TextEncoder

LEAST_COSINE = 0.999  # between a golden text's vector and the one that was kept


class OpenVinoTextEngine:
    """A compiled text network with its tokeniser."""

    def __init__(self, folder: Path, card: TextCard, threads: int) -> None:
        """Open the text network in ``folder``. Raises DamagedExtractor, or FidelityError where its golden texts drift."""
        self._encoder = TextEncoder(folder, card)
        self._dim = card.dim
        path = folder / TEXT_GRAPH_FILE
        try:
            model = openvino.Core().read_model(path)
            compiled = compile_graph(model, path.with_suffix(".bin"), "f32", threads)
            self._request = compiled.create_infer_request()
            self._lock = threading.Lock()
            found = self.embed(list(card.golden))
        except RuntimeError as error:
            raise DamagedExtractor(f"{path} cannot be used ({str(error)[-160:]}); restore it") from None
        cosines = np.einsum("nd,nd->n", found, np.array(list(card.golden.values()), np.float32))
        if not cosines.min() >= LEAST_COSINE:
            raise FidelityError(
                f"{path} embeds its golden texts otherwise than when it was exported (cosine {cosines.min():.4f}); "
                "restore it, or build the catalogue again"
            )

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts: float32 [n, dim], of unit length."""
        vectors = np.empty((len(texts), self._dim), np.float32)
        with self._lock:
            for place, tokens in enumerate(self._encoder.encode(texts)):
                vectors[place] = self._request.infer({0: tokens[None]}, share_inputs=True)[0][0]
        return vectors
