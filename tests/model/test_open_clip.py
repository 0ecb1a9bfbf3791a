"""CLIP, SigLIP and MobileCLIP, small and random: both networks as open_clip computes them, and no torch to serve them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from model import (
    DamagedExtractor,
    Extractor,
    FidelityError,
    MapUnavailable,
    ModelError,
    UnknownModel,
    WeightsMismatch,
    WeightsNotFound,
    WindowEncoder,
    build_extractor,
    open_engine,
    open_text_engine,
    read_picture,
    read_text_card,
)
from model.text import TextEncoder
from tests.clip import FAMILIES, make_model
from tests.serving import ROOT

TEXTS = [
    "a photo of a dog",
    "It's JOHN'S & co.,  3rd of 12345!",
    "“naïve” café — 東京",
    "🦓",
    "<b>&amp;lt;",
    "word " * 300,
    "_",
]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / family, family)


def samples_of(photos: list[Path]):  # type: ignore[no-untyped-def]
    def samples(card: object, count: int) -> np.ndarray:
        look = card.preprocessing  # type: ignore[attr-defined]
        return np.stack([look.to_pixels(read_picture(path.read_bytes()).image) for path in photos[:12]])

    return samples


@pytest.fixture(scope="module")
def built(folder: Path, photos: list[Path]) -> Iterator[Extractor]:
    with build_extractor(f"open_clip:{folder}", None, samples_of(photos), precision="f32") as extractor:
        yield extractor


@torch.inference_mode()
def test_both_networks_are_those_of_open_clip(folder: Path, family: str, built: Extractor, photos: list[Path]) -> None:
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    look = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    images = torch.stack([look(Image.open(path).convert("RGB")) for path in photos[20:28]])
    true = torch.nn.functional.normalize(model.encode_image(images), dim=-1).numpy()
    pixels = [built.card.preprocessing.to_pixels(read_picture(path.read_bytes()).image) for path in photos[20:28]]
    assert np.einsum("nd,nd->n", true, built.embed(np.stack(pixels))).min() > 0.998
    texts = open_text_engine(built.folder, built.card, 2).embed(TEXTS)
    card = read_text_card(built.folder, built.card.dim)
    assert card is not None
    tokens = TextEncoder(built.folder, card).encode(TEXTS)
    assert tokens.shape == (len(TEXTS), FAMILIES[family]["text_cfg"]["context_length"])
    if family != "siglip":  # whose tokeniser is a file, that transformers would read
        assert (tokens == open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS).numpy()).all()
    else:
        assert tokens[3, 2:].tolist() == [1] * 30, "filled up with </s>"
        assert (tokens[4] == TextEncoder(built.folder, card).encode(["B AMPLT"])).sum() < 32, "cleaned before it is cut"
        assert (
            TextEncoder(built.folder, card).encode(["A_dog!"]) == TextEncoder(built.folder, card).encode(["a dog"])
        ).all()
    true = torch.nn.functional.normalize(model.encode_text(torch.from_numpy(tokens)), dim=-1).numpy()
    assert np.einsum("nd,nd->n", true, texts).min() > 0.9999
    assert built.card.model == f"open_clip:{family}", "no path of this machine is in what is deployed"


def test_the_torch_engine_opens_it(built: Extractor) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, *built.card.preprocessing.size, 3), dtype=np.uint8)
    there = open_engine(built.folder, "torch").embed(pixels)
    assert np.einsum("nd,nd->n", there, built.embed(pixels)).min() > 0.999


def test_boxes_need_a_mean_of_a_feature_map(built: Extractor, family: str) -> None:
    if family == "mobileclip":
        pytest.skip("it has one")
    with pytest.raises(MapUnavailable):
        WindowEncoder(built.folder, built.card)


def test_texts_need_no_torch(built: Extractor) -> None:
    code = (
        "import sys; from pathlib import Path; from model import open_text_engine, read_card\n"
        f"folder = Path({str(built.folder)!r}); open_text_engine(folder, read_card(folder), 1).embed(['a dog'])\n"
        "print({'torch', 'timm', 'open_clip', 'transformers'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_weights_from_a_file_are_the_same_model(tmp_path: Path, photos: list[Path]) -> None:
    there = make_model(tmp_path / "clip", "clip")
    weights = (there / "open_clip_model.safetensors").rename(tmp_path / "weights.safetensors")
    with build_extractor(f"open_clip:{there}", weights, samples_of(photos), precision="f32") as extractor:
        found = extractor.card.weights_sha256
        texts = open_text_engine(extractor.folder, extractor.card, 1).embed(TEXTS[:1])
    weights.rename(there / "open_clip_model.safetensors")
    with build_extractor(f"open_clip:{there}", None, samples_of(photos), precision="f32") as extractor:
        assert extractor.card.weights_sha256 == found
        assert open_text_engine(extractor.folder, extractor.card, 1).embed(TEXTS[:1]) == pytest.approx(texts, abs=1e-6)


@pytest.mark.parametrize(
    ("model", "weights", "error", "says"),
    [
        ("open_clip:ViT-B-33", None, UnknownModel, "did you mean .*ViT-B-32"),
        ("open_clip:ViT-B-32.none", None, UnknownModel, "it has: .*openai"),
        ("open_clip:ViT-B-32", None, WeightsNotFound, "--weights FILE, or open_clip:ViT-B-32.openai"),
        ("open_clip:ViT-B-32", "none.pt", WeightsNotFound, "there is no weights file"),
        ("open_clip:{folder}", "other.safetensors", WeightsMismatch, "do not fit"),
        ("open_clip:ViT-L-14-CLIPA", None, UnknownModel, "strip_sep_token, which is not supported"),
        ("open_clip:roberta-ViT-B-32", None, UnknownModel, "a text network of transformers"),
        ("open_clip:{longest}", None, UnknownModel, "resizes pictures by 'longest'"),
        ("open_clip:{broken}", None, UnknownModel, "does not say what the model is"),
        ("open_clip:{empty}", None, WeightsNotFound, "cannot be had"),
        ("open_clip:{untold}", None, WeightsNotFound, "tokenizer.json of nobody/has-this .* put it into"),
    ],
)
def test_what_cannot_be_built_says_why(
    model: str, weights: str | None, error: type[ModelError], says: str, tmp_path: Path, photos: list[Path]
) -> None:
    names = {"folder": make_model(tmp_path / "clip", "clip"), "empty": make_model(tmp_path / "empty", "clip")}
    (names["empty"] / "open_clip_model.safetensors").unlink()
    names["untold"] = make_model(tmp_path / "untold", "siglip")
    (names["untold"] / "tokenizer.json").unlink()
    for name in ("longest", "broken"):
        names[name] = make_model(tmp_path / name, "clip")
    config = json.loads((names["longest"] / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["resize_mode"] = "longest"
    (names["longest"] / "open_clip_config.json").write_text(json.dumps(config))
    (names["broken"] / "open_clip_config.json").write_text('{"model_cfg": {}}')
    (tmp_path / "other.safetensors").write_bytes((names["untold"] / "open_clip_model.safetensors").read_bytes())
    file = None if weights is None else tmp_path / weights
    with (
        pytest.raises(error, match=says),
        build_extractor(model.format(**names), file, samples_of(photos), precision="f32"),
    ):
        pass


def test_damage_to_the_text_network_is_named(tmp_path: Path, photos: list[Path]) -> None:
    with build_extractor(f"open_clip:{make_model(tmp_path / 'clip', 'clip')}", None, samples_of(photos)) as extractor:
        folder, card = extractor.folder, extractor.card
        told = json.loads((folder / "text.json").read_text())
        drifted = {**told, "golden": {text: vector[::-1] for text, vector in told["golden"].items()}}
        for name, text, error, says in (
            ("text.json", json.dumps(drifted), FidelityError, "golden texts"),
            ("text.json", json.dumps({**told, "dim": 7}), DamagedExtractor, "text.json cannot be used"),
            ("text.json", "{", DamagedExtractor, "text.json cannot be used"),
            ("tokenizer.json", "{}", DamagedExtractor, "tokenizer.json cannot be used"),
            ("text.xml", "<net/>", DamagedExtractor, "text.xml cannot be used"),
        ):
            whole = (folder / name).read_bytes()
            (folder / name).write_text(text)
            with pytest.raises(error, match=says):
                open_text_engine(folder, card, 1)
            (folder / name).write_bytes(whole)
        open_text_engine(folder, card, 1)
