"""Words name a classifier's classes as WordNet has them, and their vectors are what the formulas say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.data import ImageNetInfo

from model import Extractor, UnknownWords, Vocabulary, build_extractor, read_vocabulary
from model.classifier import read_classifier
from model.engines.torch import TorchEngine, build_reference
from model.errors import DamagedExtractor
from model.fidelity import write_golden
from model.wordnet import pack, read_wordnet
from model.words import name_classes
from tests.serving import ROOT

WORDNET = ROOT / ".cache" / "debian" / "usr" / "share" / "wordnet"
CLASSES = ImageNetInfo("imagenet-1k").label_descriptions()


@pytest.fixture(scope="module")
def vocabulary(extractor: Extractor) -> Vocabulary:
    found = read_vocabulary(extractor.folder, extractor.card.dim)
    assert found is not None
    return found


def classes_of(vocabulary: Vocabulary, text: str) -> set[str]:
    """The first names of the classes that a text names."""
    return {CLASSES[number].split(",")[0] for one in vocabulary.parse(text) for number in one.classes}


def test_the_packed_wordnet_is_that_of_debian() -> None:
    wordnet = read_wordnet()
    names = set(ImageNetInfo("imagenet-22k").label_names()) | set(ImageNetInfo("imagenet-1k").label_names())
    assert len(names) > 21000
    assert all(name[1:] in wordnet.parents for name in names), "each class is in it"
    assert pack(WORDNET, sorted(wordnet.parents)) == wordnet


def test_each_class_is_found_by_its_names(vocabulary: Vocabulary) -> None:
    assert len(vocabulary.names.lemmas) == 3253
    missed: list[str] = []
    for number, described in enumerate(CLASSES):
        for name in described.split(", "):
            try:
                named = {one for concept in vocabulary.parse(name) for one in concept.classes}
            except UnknownWords:
                named = set()
            if number not in named:
                missed.append(name)
    # A name of several classes means its most frequent sense: crane the machine, drumstick the food.
    assert len(missed) <= 35, missed


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("zebra", {"zebra"}),
        ("Zebras", {"zebra"}),
        ("a photo of the zebra", {"zebra"}),
        ("wolves", {"timber wolf", "white wolf", "red wolf", "coyote"}),
        ("mice", {"mouse"}),
        ("fire engine", {"fire engine"}),
        ("fire_trucks", {"fire engine"}),
        ("zebra and lion", {"zebra", "lion"}),
        ("lion lions", {"lion"}),
        ("jack-o'-lantern", {"jack-o'-lantern"}),
    ],
)
def test_a_text_names_classes(vocabulary: Vocabulary, text: str, names: set[str]) -> None:
    found = classes_of(vocabulary, text)
    assert found == names or (text == "wolves" and names <= found)


def test_broader_words_name_all_classes_below(vocabulary: Vocabulary) -> None:
    fruit = classes_of(vocabulary, "fruits")
    assert {"Granny Smith", "strawberry", "orange", "lemon", "fig", "pineapple", "banana"} <= fruit
    assert not fruit & {"zebra", "broccoli", "violin"}
    assert {"violin", "cello", "banjo"} <= classes_of(vocabulary, "musical instrument")
    assert len(classes_of(vocabulary, "dog")) > 110
    assert len(classes_of(vocabulary, "animal")) == 398


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("zebar", "zebra"),
        ("zebra with a lilly", "'lilly'"),
        ("a lily", "plant"),
        ("the", "names nothing"),
        ("?!", "names nothing"),
        ("xqzptk", "a more usual word"),
        (" ".join(["zebra", "lion", "bee", "fig", "orange", "lemon", "violin", "banjo", "cello"]), "9 things"),
    ],
)
def test_unknown_words_are_refused_with_the_nearest_known(vocabulary: Vocabulary, text: str, near: str) -> None:
    with pytest.raises(UnknownWords, match=near):
        vocabulary.parse(text)


def test_classes_are_joined_by_hand() -> None:
    lemmas, synsets, classes = name_classes(["n02391049", "n02129165"], read_wordnet())  # zebra, lion
    assert [classes[lemmas[word]] for word in ("zebra", "lion", "mammal")] == [[0], [1], [0, 1]]
    assert synsets[lemmas["equine"]] == "equine"
    assert "violin" not in lemmas


def test_a_prototype_is_what_its_formula_says(vocabulary: Vocabulary) -> None:
    rng = np.random.default_rng(0)
    vectors = np.abs(rng.normal(size=(20, 1280))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    mean = vectors.mean(axis=0)
    total, classes = np.zeros(1280), (1, 5, 9)
    for vector in vectors.astype(np.float64):
        logits = vocabulary.weights[:, :-1] @ (vector * vocabulary.names.length) + vocabulary.weights[:, -1]
        odds = np.exp(logits - logits.max())
        total += (odds[list(classes)].sum() / odds.sum()) ** 2 * (vector - mean)
    wanted = total / np.linalg.norm(total)
    assert vocabulary.prototype(classes, vectors, mean) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("model", ["resnet18", "vit_tiny_patch16_224", "resnetv2_50"])
def test_any_imagenet_classifier_has_words(model: str, tmp_path: Path) -> None:
    network = timm.create_model(model).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    reference = build_reference(model, tmp_path / "weights.pth")
    edge = reference.card.preprocessing.size[0]
    pixels = np.random.default_rng(0).integers(0, 256, (2, edge, edge, 3), dtype=np.uint8)
    write_golden(tmp_path, pixels, reference.embed(pixels))
    words = read_classifier(reference, tmp_path / "weights.pth", tmp_path)
    assert isinstance(words, Vocabulary)
    logits = TorchEngine(network, reference.card).features(pixels)
    features = reference.features(pixels)
    assert features @ words.weights[:, :-1].T + words.weights[:, -1] == pytest.approx(logits, abs=1e-3)


def test_weights_without_a_classifier_have_no_words(tmp_path: Path) -> None:
    network = timm.create_model("resnet18", num_classes=0)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    reference = build_reference("resnet18", tmp_path / "weights.pth")
    assert "have no classifier" in str(read_classifier(reference, tmp_path / "weights.pth", tmp_path))

    def samples(card: object, count: int) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)

    with build_extractor("resnet18", tmp_path / "weights.pth", samples, precision="f32") as extractor:
        assert "have no classifier" in str(extractor.wordless)
        assert read_vocabulary(extractor.folder, 512) is None


def test_damaged_words_are_named(extractor: Extractor, tmp_path: Path) -> None:
    extractor.save(tmp_path)
    (tmp_path / "classes.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DamagedExtractor, match="restore it, or build"):
        read_vocabulary(tmp_path, extractor.card.dim)
    (tmp_path / "words.json").unlink()
    assert read_vocabulary(tmp_path, extractor.card.dim) is None
