"""From words to vectors: a class's weights, or for several classes the mean of the pictures that look like them."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from index import MappedIndex, Snapshot
from model import Concept, Vocabulary, WordsUnavailable

KEPT = 256  # concepts whose vectors are kept
MOST_PER_CLASS, LEAST_PER_CLASS = 16, 4  # pictures that each of several classes is looked for in,
PICTURES = 1024  # about so many in all
SAMPLE = 2048  # pictures whose mean is that of all
THREADS = 2


class WordSearch:
    """Makes vectors of words, from a ``vocabulary`` and the pictures of a catalogue's index.

    They depend on the index alone, and not on what was added since it was made: all workers search by the same vectors, and
    all pages of a query are of one list.
    """

    def __init__(self, vocabulary: Vocabulary | None, model: str) -> None:
        self._vocabulary = vocabulary
        self._model = model
        self._kept: OrderedDict[tuple[int, Concept], NDArray[np.float32]] = OrderedDict()
        self._means: tuple[int, NDArray[np.float32]] | None = None
        self._lock = threading.Lock()

    def vector(self, text: str, snapshot: Snapshot) -> NDArray[np.float32]:
        """Return the vector that searches for what a text names, float32 [dim]. Raises UnknownWords or WordsUnavailable."""
        if self._vocabulary is None:
            raise WordsUnavailable(
                f"{self._model} cannot be searched by words: it has no classifier of ImageNet's classes; build the catalogue "
                "with one that has, such as resnet50.tv_in1k, or with one for texts, such as open_clip:ViT-B-32.openai"
            )
        if snapshot.metric != "cosine":
            raise WordsUnavailable(
                f"a catalogue of the metric {snapshot.metric} cannot be searched by words; build it with --metric cosine"
            )
        concepts = self._vocabulary.parse(text)
        total = sum(self._concept(one, snapshot) for one in concepts)
        return np.asarray(total / max(float(np.linalg.norm(total)), 1e-12), np.float32)

    def _concept(self, concept: Concept, snapshot: Snapshot) -> NDArray[np.float32]:
        assert self._vocabulary
        if len(concept.classes) == 1:
            return self._vocabulary.class_vector(concept.classes[0])
        key = (snapshot.generation.generation, concept)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        vector = self._prototype(concept, snapshot)
        with self._lock:
            self._kept[key] = vector
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return vector

    def _prototype(self, concept: Concept, snapshot: Snapshot) -> NDArray[np.float32]:
        """Return the mean of the pictures nearest to each of several classes, by how probably they are of one of them."""
        assert self._vocabulary
        classes = np.stack([self._vocabulary.class_vector(one) for one in concept.classes])
        index = snapshot.base.index
        each = min(MOST_PER_CLASS, max(LEAST_PER_CLASS, PICTURES // len(classes)))
        found = index.search(classes, each, threads=THREADS)
        labels = np.unique(np.concatenate([one.labels for one in found]))
        if not len(labels):  # there are no pictures yet
            return np.asarray(classes.sum(axis=0) / np.linalg.norm(classes.sum(axis=0)), np.float32)
        return self._vocabulary.prototype(concept.classes, snapshot.base.vectors(labels), self._mean(snapshot))

    def _mean(self, snapshot: Snapshot) -> NDArray[np.float32]:
        generation = snapshot.generation.generation
        if self._means is None or self._means[0] != generation:
            self._means = generation, mean_of(snapshot.base.index)
        return self._means[1]


def mean_of(index: MappedIndex) -> NDArray[np.float32]:
    """Return the mean of an index's vectors, float32 [dim], by 2,048 of them that are spread evenly over it."""
    rows = np.linspace(0, len(index) - 1, min(SAMPLE, len(index))).astype(np.int64)
    return np.asarray(index.vectors()[rows].mean(axis=0), np.float32)
