"""The classifier of a timm model: its weights, which lie in the space of its embeddings, and the names of its classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.data import ImageNetInfo, infer_imagenet_subset

from model.engines.torch import TorchEngine
from model.errors import ModelError
from model.fidelity import read_golden
from model.weights import create_model
from model.wordnet import read_wordnet
from model.words import Names, Vocabulary, name_classes

CLOSE = 1e-3  # of the largest logit: how far weights times features may be from what the classifier gives


@torch.inference_mode()
def read_classifier(reference: TorchEngine, weights: Path | None, extractor: Path) -> Vocabulary | str:
    """Return the words of a model's classifier, or why it has none.

    ``extractor`` is where its golden pictures are, on which it is tried that the classifier is linear in the embeddings.
    """
    name = reference.card.model
    try:
        network = create_model(name, weights, classifier=True)
    except ModelError:
        return f"these weights of {name} have no classifier that fits it"
    subset = infer_imagenet_subset(network)
    if subset is None:
        return f"the classes of {name} are not those of an ImageNet"
    last: Any = network.get_classifier()  # type: ignore[operator]
    matrix = getattr(last, "weight", None)
    if (
        not isinstance(last, torch.nn.Linear | torch.nn.Conv2d)
        or matrix is None
        or matrix[0].numel() != reference.card.dim
    ):
        return f"the classifier of {name} is not one layer on its embeddings"
    bias = torch.zeros(len(matrix)) if last.bias is None else last.bias
    table = torch.cat([matrix.reshape(len(matrix), -1), bias[:, None]], dim=1).float().numpy()
    pixels = read_golden(extractor, reference.card)[0]
    features = reference.features(pixels)
    logits = TorchEngine(network, reference.card).features(pixels)
    if np.abs(features @ table[:, :-1].T + table[:, -1] - logits).max() > CLOSE * np.abs(logits).max():
        return f"the classifier of {name} is not linear in its embeddings"
    wordnet = read_wordnet()
    lemmas, synsets, classes = name_classes(ImageNetInfo(subset).label_names(), wordnet)
    irregular = {plural: one for plural, one in wordnet.irregular.items() if one in lemmas}
    length = float(np.linalg.norm(features, axis=1).mean())
    return Vocabulary(Names(lemmas, synsets, classes, irregular, length), table)
