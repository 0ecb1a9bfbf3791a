"""The metrics, stated once: what each means for stored vectors, for distances, and for scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Metric = Literal["cosine", "ip", "l2"]


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """What a metric means: for the vectors that are stored, for distances, and for scores.

    ``code`` stands for it in the header of a codes file. ``normalized``: vectors and queries have unit length.
    ``euclidean``: the distance is the squared L2 distance; else 1 - the inner product. ``score`` turns distances, float64
    [n], into scores [n]; a higher score is always closer.
    """

    code: int
    normalized: bool
    euclidean: bool
    score: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    meaning: str


METRICS: dict[Metric, MetricSpec] = {
    "cosine": MetricSpec(
        0, True, False, lambda distances: np.clip(1 - distances, -1, 1), "cosine similarity, from -1 to 1"
    ),
    "ip": MetricSpec(1, False, False, lambda distances: 1 - distances, "inner product of the two embeddings"),
    "l2": MetricSpec(
        2, False, True, lambda distances: -np.sqrt(np.maximum(distances, 0)), "Euclidean distance, negated: 0 at most"
    ),
}
assert METRICS.keys() == set(get_args(Metric))
