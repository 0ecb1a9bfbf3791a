"""Words for an ImageNet classifier: what a text names of its classes, and the vectors that search for them.

A classifier's logits are ``w · f + b`` of the pooled features f, so the weights w of a class lie in the space of the
embeddings, and stand for it. Words are matched to classes by WordNet: a lemma means its first sense that is a class, or has
one below it, so that ``fruit`` means all classes of fruit. Reading and searching need neither torch nor timm.
"""

from __future__ import annotations

import difflib
import functools
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.errors import DamagedExtractor, UnknownWords
from model.wordnet import WordNet, read_wordnet, singulars

WORDS_FILE = "words.json"
CLASSES_FILE = "classes.npy"
LONGEST_TEXT = 200  # characters
MOST_CONCEPTS = 8  # in one text
NEAREST = 3  # known words that are named in place of an unknown one
FILLERS = frozenset("a an the and or of with in on at to some any photo picture image photos pictures images".split())  # noqa: SIM905


@dataclass(frozen=True, slots=True)
class Concept:
    """What a word means: its ``name`` in WordNet, and the classes that are it, ascending."""

    name: str
    classes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Names:
    """What can be asked for. ``lemmas``: the place in ``synsets`` and ``classes`` of what each means; ``synsets``: names;
    ``irregular``: plurals; ``length``: of the features, in the mean, which embeddings of unit length have lost."""

    lemmas: dict[str, int]
    synsets: list[str]
    classes: list[list[int]]
    irregular: dict[str, str]
    length: float


@dataclass(frozen=True)
class Vocabulary:
    """The words of a classifier, and its ``weights``, float32 [classes, dim + 1], of which the last column is the bias."""

    names: Names
    weights: NDArray[np.float32]

    def parse(self, text: str) -> list[Concept]:
        """Return what a text names, each thing once; plurals and longer names are known. Raises UnknownWords."""
        words = re.findall(r"[^\W_]+(?:['’.-]+[^\W_]+)*", text.lower().replace("_", " "))
        found: dict[Concept, None] = {}
        at, unknown = 0, list[str]()
        while at < len(words):
            for end in range(min(len(words), at + 6), at, -1):
                if concept := self._find(" ".join(words[at:end])):
                    found[concept] = None
                    at = end
                    break
            else:
                if words[at] not in FILLERS:
                    unknown.append(words[at])
                at += 1
        if unknown or not found:
            raise UnknownWords(self._advice(unknown))
        if len(found) > MOST_CONCEPTS:
            raise UnknownWords(f"the text names {len(found)} things, more than the {MOST_CONCEPTS} allowed")
        return list(found)

    def class_vector(self, number: int) -> NDArray[np.float32]:
        """Return the vector that searches for one class, float32 [dim] of unit length: its weights, centred."""
        vector = self.weights[number, :-1] - self._mean_class
        return np.asarray(vector / np.linalg.norm(vector), np.float32)

    def prototype(
        self, classes: Sequence[int], vectors: NDArray[np.float32], mean: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the vector that searches for several classes at once, float32 [dim] of unit length.

        It is ``Σ p² (u - μ) / Σ p²`` over pictures' embeddings u, float32 [n, dim], where p is the probability that a picture
        is of one of the classes and μ the ``mean`` of all pictures.
        """
        logits = (vectors * np.float32(self.names.length)) @ self.weights[:, :-1].T + self.weights[:, -1]
        logits -= logits.max(axis=1, keepdims=True)
        odds = np.exp(logits)
        weights = (odds[:, list(classes)].sum(axis=1) / odds.sum(axis=1)) ** 2
        vector = weights @ (vectors - mean)
        return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float32)

    @functools.cached_property
    def _mean_class(self) -> NDArray[np.float32]:
        return np.asarray(self.weights[:, :-1].mean(axis=0), np.float32)

    def _find(self, phrase: str) -> Concept | None:
        for word in singulars(phrase, self.names.irregular):
            if (place := self.names.lemmas.get(word)) is not None:
                return Concept(self.names.synsets[place], tuple(self.names.classes[place]))
        return None

    def _advice(self, unknown: Sequence[str]) -> str:
        if not unknown:
            return (
                "the text names nothing to look for; write what the pictures show, such as zebra or musical instrument"
            )
        near = list(dict.fromkeys(one for word in unknown for one in self._nearest(word)))
        what = ", ".join(repr(word) for word in unknown)
        known = f"the nearest known are {', '.join(near)}" if near else "write a more usual word"
        return f"this model has no pictures' class for {what}; {known}"

    def _nearest(self, word: str) -> list[str]:
        """Return known words that mean nearly the same, by WordNet, or are spelt so."""
        wordnet = read_wordnet()
        meant = [
            self.names.synsets[self.names.lemmas[name]]
            for single in singulars(word, wordnet.irregular)
            for sense in wordnet.senses.get(single, ())
            for above in wordnet.above(sense)
            if (name := wordnet.lemmas[above]) in self.names.lemmas
        ]
        spelt = difflib.get_close_matches(word, self.names.lemmas, NEAREST)
        return list(dict.fromkeys(meant[:NEAREST] or spelt))


def name_classes(wnids: Sequence[str], wordnet: WordNet) -> tuple[dict[str, int], list[str], list[list[int]]]:
    """Return the lemmas, synsets and classes of Names, for classes with these WordNet ids (n02391049)."""
    below: dict[str, list[int]] = {}
    for number, wnid in enumerate(wnids):
        for offset in (wnid[1:], *wordnet.above(wnid[1:])):
            if offset in wordnet.parents:
                below.setdefault(offset, []).append(number)
    places = {offset: place for place, offset in enumerate(below)}
    lemmas = {
        lemma: places[sense]
        for lemma, senses in wordnet.senses.items()
        if (sense := next((one for one in senses if one in below), None))
    }
    return lemmas, [wordnet.lemmas[offset] for offset in below], list(below.values())


def write_vocabulary(folder: Path, vocabulary: Vocabulary) -> None:
    """Write a vocabulary into an extractor folder."""
    np.save(folder / CLASSES_FILE, vocabulary.weights)
    text = json.dumps(asdict(vocabulary.names), separators=(",", ":"))
    (folder / WORDS_FILE).write_text(text + "\n", encoding="utf-8")


def read_vocabulary(folder: Path, dim: int) -> Vocabulary | None:
    """Read the vocabulary in an extractor folder, or return None where it has none. Raises DamagedExtractor."""
    path = folder / WORDS_FILE
    if not path.is_file():
        return None
    try:
        names = Names(**json.loads(path.read_text(encoding="utf-8")))
        weights = np.load(folder / CLASSES_FILE, mmap_mode="r", allow_pickle=False)
        most = max(number for numbers in names.classes for number in numbers)
        whole = weights.dtype == np.float32 and weights.ndim == 2 and weights.shape[1] == dim + 1
        if not whole or most >= len(weights) or max(names.lemmas.values()) >= len(names.synsets):
            raise ValueError(f"{weights.shape} weights are not those of {dim} dimensions")
    except Exception as error:  # what numpy raises of damaged bytes has no end
        raise DamagedExtractor(f"{path} cannot be used ({error}); restore it, or build the catalogue again") from None
    return Vocabulary(names, weights)
