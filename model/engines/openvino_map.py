"""Feature maps by OpenVINO: cut out of the graph that serves, so that there is no second file, and at other sizes too."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.card import GRAPH_FILE, ExtractorCard
from model.engines.openvino_compile import compile_graph
from model.engines.openvino_import import openvino
from model.errors import DamagedExtractor, MapUnavailable
from model.feature_map import FeatureMap

# What may stand between the pooling and the end of the graph without changing which position adds what.
PASSED = {"NormalizeL2", "Reshape", "Squeeze", "Unsqueeze", "Convert", "Result"}
POOLING = {"ReduceMean", "AvgPool", "AdaptiveAvgPool"}


class OpenVinoMapEngine:
    """Computes feature maps at ``scale`` times the edge that the network was made for. Any thread may call it."""

    def __init__(self, folder: Path, card: ExtractorCard, threads: int, scale: int = 1) -> None:
        """Cut the map out of the graph in ``folder``. Raises DamagedExtractor, or MapUnavailable where there is none."""
        self.preprocessing = card.preprocessing.scaled(scale)
        path = folder / GRAPH_FILE
        try:
            model = openvino.Core().read_model(path)
            output, self.exact = _find_map(model, card.dim)
            cut = openvino.Model([output], model.get_parameters(), "map")
            if scale != 1:
                cut.reshape([1, *self.preprocessing.size, 3])
            compiled = compile_graph(cut, path.with_suffix(".bin"), card.precision, threads)
            self._request = compiled.create_infer_request()
        except RuntimeError as error:
            if scale != 1:
                raise MapUnavailable(f"{card.model} takes pictures of one size only") from None
            raise DamagedExtractor(f"{path} cannot be used ({str(error)[-160:]})") from None
        self._lock = threading.Lock()

    def compute(self, pixels: NDArray[np.uint8]) -> FeatureMap:
        """Return the map of one picture, uint8 [height, width, 3] as ``preprocessing`` makes it."""
        with self._lock:
            found = np.array(self._request.infer({0: pixels[None]}, share_inputs=True)[0][0])
        if found.ndim == 3:  # channels first
            return FeatureMap(np.ascontiguousarray(found.transpose(1, 2, 0)), self.exact)
        side = math.isqrt(len(found))
        return FeatureMap(found[len(found) - side * side :].reshape(side, side, -1), self.exact)


def _find_map(model: openvino.Model, dim: int) -> tuple[openvino.Output, bool]:
    """Return which output of a graph is its map, [1, dim, rows, columns] or [1, tokens, dim], and whether it is exact."""
    node, exact = model.get_results()[0], True
    while True:
        source = node.input_value(0)
        shape = list(source.get_partial_shape().to_shape()) if source.get_partial_shape().is_static else []
        if exact and node.get_type_name() in POOLING and len(shape) == 4 and shape[1] == dim:
            return source, True
        if node.get_type_name() not in PASSED:
            exact = False
        if not exact and len(shape) == 3 and shape[2] == dim and shape[1] > 1:
            return source, False
        node = source.get_node()
        if not node.inputs():
            raise MapUnavailable(
                "this model has no feature map that its embedding is the mean of, nor tokens of patches"
            )
