"""The match model: the probability that one picture is a copy of another, altered or not.

A raw cosine does not say that: similar pictures of one catalogue are closer than altered copies of another. The model is a
logistic regression on what a pair of pictures has in common: the cosine of their embeddings, the distance of their
perceptual hashes in whatever way one is turned, and how well one signature lies in the other. It is fitted on a catalogue's
own pictures (``copies/fit.py``), so that it says what a cosine is worth there. It looks at nothing but the pair: what also
looks like it, such as a second copy, changes nothing (docs/decisions/0030-copies.md).
"""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from index import Catalogue, DamagedIndex

HASH_BITS = 256
UNRELATED = HASH_BITS / 2  # the distance of the hashes of unrelated pictures
NEAR_HASH, HASH_SLOPE = 0.55, 0.08  # of UNRELATED: from where on a distance says no more
FEATURES = 7
RIDGE = 1.0
STEPS, CLOSE = 100, 1e-8  # of Newton's method: how many at most, and which is so small that it was the last
UNLIKELY = 0.01  # a match that is below it however well the signatures fit is not looked at more closely
NO_FIT = 0.5  # the correlation that unrelated pictures have


@dataclass(frozen=True, slots=True)
class MatchModel:
    """Weights of the features, float [7], and a constant.

    ``fingerprint``: of the extractor whose embeddings it is for, "" for the built-in one. ``pictures``: how many of the
    catalogue's own it was fitted on, 0 for the built-in one; ``items``: how many the catalogue had then; ``nearest``: the
    median cosine of an item to its nearest other, by which drift is seen.
    """

    weights: tuple[float, ...]
    constant: float
    fingerprint: str = ""
    pictures: int = 0
    items: int = 0
    nearest: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError for weights of another number."""
        if len(self.weights) != FEATURES:
            raise ValueError(f"a match model has {FEATURES} weights, not {len(self.weights)}")

    def probabilities(
        self, cosines: NDArray[np.floating], distances: NDArray[np.integer], correlations: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """Return the match of pairs, float64 [n].

        ``cosines`` of their embeddings, ``distances`` of their hashes in bits, ``correlations`` of their signatures.
        """
        logits = features(cosines, distances, correlations) @ np.array(self.weights) + self.constant
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -50, 50))))

    def worth_a_look(self, cosines: NDArray[np.floating], distances: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Return which pairs may be copies, bool [n]: their signatures are to be compared."""
        return self.probabilities(cosines, distances, np.ones(len(cosines))) >= UNLIKELY

    def to_json(self) -> str:
        """Return the model as a catalogue keeps it."""
        return json.dumps(asdict(self))


@functools.lru_cache(8)
def read_match_model(text: str | None, fingerprint: str) -> MatchModel:
    """Return the model that a catalogue keeps, or the built-in one where that is None, or of another extractor's embeddings.

    Raises DamagedIndex for a text that is no model.
    """
    if text is None:
        return BUILT_IN
    try:
        facts = json.loads(text)
        model = MatchModel(**facts | {"weights": tuple(map(float, facts["weights"]))})
    except (TypeError, ValueError, KeyError) as error:
        raise DamagedIndex(
            f"the catalogue's match model cannot be read ({error}); restore it, or run: python cli.py compact"
        ) from None
    return model if model.fingerprint == fingerprint else BUILT_IN


def match_model_of(catalogue: Catalogue) -> MatchModel:
    """Return the match model of an open catalogue. Raises DamagedIndex."""
    generation = catalogue.snapshot().generation
    return read_match_model(catalogue.signatures.match_model(generation.generation), generation.fingerprint)


def features(
    cosines: NDArray[np.floating], distances: NDArray[np.integer], correlations: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the features of pairs, float64 [n, 7]."""
    cosine = np.clip(np.asarray(cosines, np.float64), -1, 1)
    distance = np.minimum(np.asarray(distances) / UNRELATED, 1)
    correlation = np.clip(np.asarray(correlations, np.float64), -1, 1)
    return np.stack(
        [
            cosine,
            -np.log(np.maximum(1e-3, 1 - cosine)),
            distance,
            1 / (1 + np.exp((distance - NEAR_HASH) / HASH_SLOPE)),
            distance * cosine,
            correlation,
            -np.log(1.01 - correlation),
        ],
        axis=1,
    )


def fit_logistic(
    rows: NDArray[np.float64],
    targets: NDArray[np.bool_],
    weights: NDArray[np.float64],
    prior: MatchModel | None = None,
    ridge: float = RIDGE,
) -> tuple[NDArray[np.float64], float]:
    """Return the weights [m] and the constant of a logistic regression on features [n, m], by Newton's method.

    ``weights`` of the rows; ``ridge`` is the penalty on the squared distance of the weights of standardised features to
    those of a ``prior``, or to nothing.
    """
    mean, scale = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-9)
    standard = np.column_stack([(rows - mean) / scale, np.ones(len(rows))])
    centre = np.zeros(standard.shape[1])
    if prior is not None:
        centre[:-1] = np.array(prior.weights) * scale
        centre[-1] = prior.constant + float(mean @ np.array(prior.weights))
    penalty = np.diag([*[ridge] * rows.shape[1], ridge if prior is not None else 1e-6])

    def loss(found: NDArray[np.float64]) -> float:
        logits, moved = standard @ found, found - centre
        return float((weights * (np.logaddexp(0, logits) - targets * logits)).sum() + moved @ penalty @ moved / 2)

    found = centre.copy()
    for _ in range(STEPS):
        likely = 1 / (1 + np.exp(-np.clip(standard @ found, -50, 50)))
        slope = standard.T @ (weights * (likely - targets)) + penalty @ (found - centre)
        curve = (standard * (weights * likely * (1 - likely))[:, None]).T @ standard + penalty
        step = np.linalg.solve(curve, slope)
        while loss(found - step) > loss(found) and np.abs(step).max() > CLOSE:  # a full one may lead far away
            step /= 2
        found -= step
        if np.abs(step).max() <= CLOSE:
            break
    return found[:-1] / scale, float(found[-1] - (found[:-1] * mean / scale).sum())


# Fitted on the benchmark's pictures (python -m benchmarks.copies prints it), for catalogues that are too small for their own.
BUILT_IN = MatchModel((-7.4999, 5.0797, 0.2339, 5.3975, 9.6921, -7.0232, 4.4935), -11.3367)
