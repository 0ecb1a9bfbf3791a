"""The engines: exported graphs are held to the reference, refuse what is damaged, and are proved again at every start."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.random_weights import write_random_weights
from ingest import SourceSamples, find_sources
from model import (
    DamagedExtractor,
    Extractor,
    FidelityError,
    Limits,
    NotExportable,
    build_extractor,
    open_engine,
    read_card,
)
from model.card import Fidelity, Wanted, write_card
from model.engines.openvino_compile import cpu_has_bf16
from model.engines.openvino_import import openvino
from model.engines.torch import TorchEngine, build_reference
from model.export import export
from model.fidelity import FLOORS, check_golden, compare, shortfall
from tests.conftest import MODEL


def test_f32_is_the_reference_to_four_nines(reference: TorchEngine, pixels: np.ndarray, tmp_path: Path) -> None:
    card = export(reference, tmp_path, "f32", pixels)
    vectors = open_engine(tmp_path).embed(pixels)
    assert (vectors * reference.embed(pixels)).sum(axis=1).min() >= 0.9999
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert (card.precision, card.fidelity.overlap) == ("f32", 1.0)  # type: ignore[union-attr]


@pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU has no bf16")
def test_auto_is_bf16_as_far_as_it_is_true(extractor: Extractor, reference: TorchEngine, pixels: np.ndarray) -> None:
    card = extractor.card
    assert card.precision == "bf16"
    assert card.fidelity is not None
    assert shortfall(compare(reference.embed(pixels), extractor.embed(pixels)), "bf16") is None
    # In bf16 throughout, this model falls short: its depthwise convolutions are kept in float32.
    assert card.kept_in_f32 == 16
    engine = extractor.engine
    kinds = {
        (operation.get_rt_info()["layerType"].astype(str), operation.get_rt_info()["runtimePrecision"].astype(str))
        for operation in engine.compiled.get_runtime_model().get_ops()  # type: ignore[attr-defined]
    }
    assert ("Convolution", "bf16") in kinds
    assert ("Convolution", "f32") in kinds


@pytest.mark.soak
@pytest.mark.parametrize(("floor", "chosen"), [(0.9, "int8"), (0.99999, "f32")])
def test_without_bf16_auto_is_int8_where_that_comes_very_close(
    floor: float, chosen: str, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.export.cpu_has_bf16", lambda: False)
    monkeypatch.setattr("model.export.UNASKED_INT8", Fidelity(0, mean=floor, minimum=floor, overlap=0.5))
    weights = write_random_weights("resnet18", photos, tmp_path / "weights.safetensors")
    reference = build_reference("resnet18", weights)
    pixels = np.random.default_rng(1).integers(0, 256, (64, *reference.card.preprocessing.size, 3), np.uint8)
    card = export(reference, tmp_path / "extractor", "auto", pixels)
    assert card.precision == chosen
    assert export(reference, tmp_path / "few", "auto", pixels[:63]).precision == "f32"


@pytest.mark.soak
def test_int8_is_calibrated_and_held_to_its_floor(photos: list[Path], tmp_path: Path) -> None:
    weights = write_random_weights("resnet18", photos, tmp_path / "weights.safetensors")
    samples = SourceSamples(find_sources([photos[0].parent, photos[-1].parent]), Limits())
    with build_extractor("resnet18", weights, samples, precision="int8") as made:
        assert made.card.precision == "int8"
        assert made.card.fidelity is not None
        assert made.card.fidelity.mean >= FLOORS["int8"].mean
        graph = openvino.Core().read_model(made.folder / "graph.xml")
        assert "FakeQuantize" in {operation.get_type_name() for operation in graph.get_ops()}
        (unit,) = [operation for operation in graph.get_ops() if operation.get_type_name() == "NormalizeL2"]
        before = unit.input_value(0).get_node().get_type_name()
        assert before != "FakeQuantize", "the vector itself has been rounded to eight bits"
        # Cosines do not see lengths, and the index takes vectors for unit ones.
        assert np.linalg.norm(made.embed(samples(made.card, 8)), axis=1) == pytest.approx(1, abs=1e-5)
        assert (made.folder / "graph.bin").stat().st_size < weights.stat().st_size / 3


@pytest.mark.soak
def test_a_precision_that_is_not_true_is_refused_with_the_one_to_choose(
    reference: TorchEngine, pixels: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(FidelityError, match=r"in int8 is not true .* 0\.\d+ is below 0\.9\d .*--precision (bf16|f32)"):
        export(reference, tmp_path, "int8", pixels)


def test_both_engines_open_the_same_folder(folder: Path, pixels: np.ndarray) -> None:
    torch_engine, openvino_engine = open_engine(folder, "torch"), open_engine(folder, threads=1)
    assert torch_engine.card == openvino_engine.card
    cosines = (torch_engine.embed(pixels[:4]) * openvino_engine.embed(pixels[:4])).sum(axis=1)
    assert cosines.min() > 0.99
    check_golden(torch_engine, folder)


@pytest.mark.soak
def test_a_build_that_was_broken_off_keeps_its_extractor_if_it_is_whole(folder: Path, samples: Path) -> None:
    sources = SourceSamples(find_sources([samples]), Limits())
    (folder / "marker").touch()

    def taken(precision: Wanted = "auto") -> bool:
        with build_extractor(MODEL, None, sources, begun=folder, precision=precision) as made:
            assert made.folder != folder  # what is done with the old folder is no matter
            assert made.folder.stat().st_mode & 0o777 == 0o755
            return (made.folder / "marker").is_file()

    assert taken()
    assert taken("f32") == (read_card(folder).precision == "f32")
    weights = bytearray((folder / "graph.bin").read_bytes())
    weights[100_000:300_000] = bytes(200_000)
    (folder / "graph.bin").write_bytes(weights)
    assert not taken()


@pytest.mark.parametrize("name", ["extractor.json", "graph.xml", "graph.bin", "golden.npz"])
def test_a_file_that_is_missing_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(DamagedExtractor, match=name):
        open_engine(folder)


def test_a_card_changed_by_hand_is_refused(folder: Path) -> None:
    path, precision = folder / "extractor.json", read_card(folder).precision
    path.write_text(path.read_text().replace("bicubic", "bilinear"))
    with pytest.raises(DamagedExtractor, match="changed by hand"):
        read_card(folder)
    for text in ("{}", "[]", "null", "[" * 100_000, path.read_text().replace(f'"{precision}"', '"f64"')):
        path.write_text(text)
        with pytest.raises(DamagedExtractor, match="not an extractor's card"):
            read_card(folder)


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.999])
def test_a_graph_that_is_cut_off_is_refused(keep: float, folder: Path) -> None:
    for name in ("graph.bin", "graph.xml"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: int(keep if keep >= 1 else keep * len(whole))])
        with pytest.raises(DamagedExtractor, match=r"graph\.xml with its graph\.bin cannot be used"):
            open_engine(folder)
        (folder / name).write_bytes(whole)


def test_a_graph_of_another_shape_is_refused(folder: Path) -> None:
    write_card(replace(read_card(folder), dim=7), folder)
    with pytest.raises(DamagedExtractor, match="its input and output are"):
        open_engine(folder)


def test_weights_for_torch_other_than_the_cards_are_refused(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(DamagedExtractor, match="not the file that the catalogue was built with"):
        open_engine(folder, "torch")
    weights.unlink()
    with pytest.raises(DamagedExtractor, match="weights cannot be read"):
        open_engine(folder, "torch")
    open_engine(folder)  # which needs none of them


def test_golden_pictures_that_drift_are_told(folder: Path) -> None:
    check_golden(open_engine(folder), folder)
    weights = bytearray((folder / "graph.bin").read_bytes())
    weights[100_000:200_000] = bytes(100_000)
    (folder / "graph.bin").write_bytes(weights)
    with pytest.raises(FidelityError, match=r"no longer gives the vectors .* cosine -?0\.\d+"):
        check_golden(open_engine(folder), folder)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"\x93NUMPY"])
def test_golden_pictures_that_cannot_be_read_are_told(content: bytes, extractor: Extractor, folder: Path) -> None:
    (folder / "golden.npz").write_bytes(content)
    with pytest.raises(DamagedExtractor, match=r"golden\.npz cannot be read"):
        check_golden(extractor.engine, folder)
    np.savez(folder / "golden.npz", pixels=np.zeros((2, 3), np.uint8), vectors=np.zeros((2, 3)))
    with pytest.raises(DamagedExtractor, match="are not of this extractor"):
        check_golden(extractor.engine, folder)
    for pixels in (np.uint8(3), np.zeros((0, 224, 224, 3), np.uint8)):
        np.savez(folder / "golden.npz", pixels=pixels, vectors=np.zeros((0, 1280), np.float32))
        with pytest.raises(DamagedExtractor, match="cannot be read"):
            check_golden(extractor.engine, folder)
    shutil.copy(extractor.folder / "golden.npz", folder)
    check_golden(extractor.engine, folder)


def test_fidelity_is_what_its_docstring_says() -> None:
    turned = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
    true = np.array([[1, 0], [0, 1], [0.8, 0.6]], np.float32)
    found = compare(true, turned)
    assert found.pictures == 3
    assert found.minimum == pytest.approx(0.96)
    assert found.mean == pytest.approx((1 + 1 + 0.96) / 3)
    rng = np.random.default_rng(0)
    many = rng.standard_normal((40, 8)).astype(np.float32)
    many /= np.linalg.norm(many, axis=1, keepdims=True)
    assert compare(many, many).overlap == 1
    assert compare(many, many[::-1].copy()).overlap < 0.5
    twins = np.repeat(many[:2], 20, axis=0)  # any ten of nineteen equals are the nearest
    assert compare(twins, twins).overlap == 1
    assert compare(many[:1], many[:1]).overlap == 1
    assert shortfall(compare(many, many * np.float32("nan")), "int8") is not None


def test_a_model_that_cannot_be_exported_is_named(
    reference: TorchEngine, pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvals(pixels[0, :8, :8, 0].float()).real[None]

    monkeypatch.setattr(reference, "graph", Odd())
    with pytest.raises(NotExportable, match="tf_efficientnet_lite0 cannot be exported to OpenVINO"):
        export(reference, tmp_path, "f32", pixels)
