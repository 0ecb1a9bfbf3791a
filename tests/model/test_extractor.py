"""The reference: right weights, unit vectors, pinned by a fingerprint, and errors that say what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from model import (
    UnknownModel,
    WeightsMismatch,
    WeightsNotFound,
    read_picture,
)
from model.engines.torch import TorchEngine, build_reference
from model.weights import PYPI_MODEL, _pypi_weights


def pixels_of(reference: TorchEngine, photos: list[Path]) -> np.ndarray:
    look = reference.card.preprocessing
    return np.stack([look.to_pixels(read_picture(photo.read_bytes()).image) for photo in photos])


def test_the_pypi_weights_classify_the_labelled_photos(photos: list[Path], reference: TorchEngine) -> None:
    labelled = [photo for photo in photos if photo.parent.name == "imagenet"]
    classes = [int(photo.stem.rsplit("_", 1)[1]) for photo in labelled]
    weights = _pypi_weights()
    scores = reference.features(pixels_of(reference, labelled)) @ weights["classifier.weight"].numpy().T
    right = (scores + weights["classifier.bias"].numpy()).argmax(axis=1) == classes
    assert len(labelled) == 20
    assert right.sum() >= 17


def test_embeddings_are_unit_vectors_of_the_cards_length(photos: list[Path], reference: TorchEngine) -> None:
    vectors = reference.embed(pixels_of(reference, photos[:4]))
    assert vectors.shape == (4, reference.card.dim)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_a_batch_gives_what_its_pictures_give_alone(photos: list[Path], reference: TorchEngine) -> None:
    pixels = pixels_of(reference, photos[:8])
    alone = np.concatenate([reference.embed(one[None]) for one in pixels])
    assert reference.embed(pixels) == pytest.approx(alone, abs=1e-5)


def test_the_fingerprint_depends_on_weights_and_preprocessing(reference: TorchEngine, tmp_path: Path) -> None:
    network = timm.create_model(PYPI_MODEL)
    torch.save(network.state_dict(), tmp_path / "random.pth")
    other = build_reference(PYPI_MODEL, tmp_path / "random.pth")
    assert other.card.preprocessing == reference.card.preprocessing
    assert other.card.fingerprint != reference.card.fingerprint


@pytest.mark.parametrize(
    ("model", "dim", "edge"),
    [("resnet50.tv_in1k", 2048, 224), ("vit_tiny_patch16_224", 192, 224), ("inception_v3", 2048, 299)],
)
def test_any_timm_model_takes_weights_from_a_file(model: str, dim: int, edge: int, tmp_path: Path) -> None:
    network = timm.create_model(model).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    reference = build_reference(model, tmp_path / "weights.pth")
    assert (reference.card.dim, reference.card.preprocessing.size) == (dim, (edge, edge))
    pixels = np.random.default_rng(0).integers(0, 256, (1, edge, edge, 3), dtype=np.uint8)
    mean, std = (
        np.array(value, np.float32) for value in (reference.card.preprocessing.mean, reference.card.preprocessing.std)
    )
    with torch.inference_mode():
        inputs = torch.from_numpy(((pixels / np.float32(255) - mean) / std).transpose(0, 3, 1, 2))
        expected = network.forward_head(network.forward_features(inputs), pre_logits=True).numpy()
    expected /= np.linalg.norm(expected)  # random weights give features of any size
    assert reference.embed(pixels) == pytest.approx(expected, abs=1e-3)


def test_an_unknown_model_is_named_with_near_ones() -> None:
    with pytest.raises(UnknownModel, match="did you mean resnet50"):
        build_reference("resnet5")
    with pytest.raises(UnknownModel, match=r"for resnet50 it has: .*resnet50\.tv_in1k"):
        build_reference("resnet50.no_such_tag")


def test_a_hub_out_of_reach_names_the_two_ways_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("model.weights.huggingface_hub.constants.HF_HUB_CACHE", "/nonexistent")
    with pytest.raises(WeightsNotFound, match=f"--weights FILE, or --model {PYPI_MODEL}"):
        build_reference("resnet50.ra_in1k")


def test_a_weights_file_that_is_not_there_or_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFound, match="no weights file at"):
        build_reference("resnet50", tmp_path / "none.pth")
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "small.pth")
    with pytest.raises(WeightsMismatch, match="do not fit resnet50"):
        build_reference("resnet50", tmp_path / "small.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(WeightsMismatch, match="do not fit resnet50"):
        build_reference("resnet50", tmp_path / "text.pth")
