"""Where in a picture its similarity to another comes from.

Where embeddings are means of a feature map, the cosine of a picture with features f (P positions, mean f̄) and another with
the embedding s is exactly the sum of the parts ``s · f_p / (P |s| |f̄|)``. What all pictures of a collection have in common is
in each part; with the collection's mean μ taken out of s, the parts say what these two have in common and others have not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model import FeatureMap


def parts_of(found: FeatureMap, other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what each position adds to the cosine with another embedding, float32 [dim]: float64 [rows, columns].

    They sum to the cosine; for a map that is not exact they are scaled to sum to that of the mean of its tokens.
    """
    features, vector = found.features.astype(np.float64), other.astype(np.float64)
    rows, columns, _ = features.shape
    length = np.linalg.norm(features.mean(axis=(0, 1))) * np.linalg.norm(vector) * rows * columns
    return np.asarray(features @ vector / max(float(length), 1e-12))


def contrast_of(found: FeatureMap, other: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what each position adds beyond what all of a collection have, whose ``mean`` is float32 [dim]."""
    return parts_of(found, np.asarray(other - mean, np.float32))
