"""A timm network into the graph that OpenVINO runs, in the precision that is fastest and still true to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from numpy.typing import NDArray

from model.card import GRAPH_FILE, WEIGHTS_FILE, ExtractorCard, Fidelity, Precision, Wanted, write_card
from model.conversion import convert, quiet
from model.engines.openvino import open_openvino
from model.engines.openvino_compile import cpu_has_bf16
from model.engines.openvino_import import openvino
from model.engines.torch import TorchEngine, serialise
from model.errors import FidelityError, WeightsMismatch
from model.fidelity import GOLDEN, UNASKED_INT8, compare, shortfall, write_golden

COMPARED = 64  # pictures on which an export is held to the reference
CALIBRATION = 256  # pictures, at most, whose activations set the ranges of int8
# What stays in float32 under bf16, from nothing to half the network: depthwise convolutions round worst, then what comes
# first, since all that follows carries its error. The first of these that is true enough is taken.
KEPT_IN_F32: tuple[tuple[bool, float], ...] = ((False, 0), (True, 0), (True, 1 / 8), (True, 1 / 4), (True, 1 / 2))


def export(reference: TorchEngine, folder: Path, precision: Wanted, pixels: NDArray[np.uint8]) -> ExtractorCard:
    """Write the reference's extractor into ``folder``: graph, weights, golden pictures and card.

    ``pixels`` are those of some of the catalogue's own pictures, uint8 [n, height, width, 3]: the export is held to the
    reference on the first 64 of them, and int8 is calibrated on all. ``auto`` is bf16 where the CPU has it, elsewhere int8
    where it comes very close, and else f32. Raises FidelityError when a precision asked for is not to be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS_FILE).write_bytes(serialise(reference.network))
    compared = pixels[:COMPARED]
    true = reference.embed(compared)
    if not np.isfinite(true).all():
        raise WeightsMismatch(
            f"{reference.card.model} with these weights gives vectors that are not numbers; use others"
        )
    model = _convert(reference)
    for draft in _drafts(reference.card, model, folder, precision, pixels):
        card = replace(reference.card, precision=draft.precision, kept_in_f32=draft.kept_in_f32)
        vectors = open_openvino(folder, card, os.cpu_count() or 1).embed(compared)
        fidelity = compare(true, vectors)
        if (missed := shortfall(fidelity, draft.precision, draft.floor)) is None:
            card = replace(card, fidelity=fidelity)
            write_golden(folder, compared[:GOLDEN], vectors[:GOLDEN])
            write_card(card, folder)
            return card
    raise FidelityError(
        f"{reference.card.model} in {draft.precision} is not true to itself in float32: {missed} ({fidelity}); "
        f"choose {_advice(draft.precision)}"
    )


def _advice(precision: Precision) -> str:
    if precision == "f32":
        return "another model"
    return "--precision bf16" if precision == "int8" and cpu_has_bf16() else "--precision f32"


@dataclass(frozen=True, slots=True)
class _Draft:
    """A graph that has been written to try: in which precision, and how many of its operations stay in float32."""

    precision: Precision
    kept_in_f32: int = 0
    floor: Fidelity | None = None  # the precision's own


def _drafts(
    card: ExtractorCard, model: openvino.Model, folder: Path, precision: Wanted, pixels: NDArray[np.uint8]
) -> Iterator[_Draft]:
    path = folder / GRAPH_FILE
    unasked = precision == "auto" and not cpu_has_bf16() and len(pixels) >= COMPARED
    if precision == "int8" or unasked:
        openvino.save_model(_finished(card, _quantize(card.model, model, pixels)), path, compress_to_fp16=False)
        yield _Draft("int8", floor=UNASKED_INT8 if unasked else None)
        if not unasked:
            return
    openvino.save_model(_finished(card, model), path, compress_to_fp16=False)
    if precision == "bf16" and not cpu_has_bf16():
        raise FidelityError(
            "this CPU does not compute in bf16, so it cannot be held to the reference; choose --precision f32"
        )
    if precision != "f32" and cpu_has_bf16():
        plain, tried = path.read_bytes(), -1
        for depthwise, share in KEPT_IN_F32:
            text, kept = _keep_in_f32(plain, depthwise, share)
            if kept > tried:  # a network without depthwise convolutions
                path.write_bytes(text)
                yield _Draft("bf16", kept)
                tried = kept
        path.write_bytes(plain)
    if precision != "bf16":
        yield _Draft("f32")


def _convert(reference: TorchEngine) -> openvino.Model:
    """Return the network for one picture at a time, with its normalisation."""
    size = (1, *reference.card.preprocessing.size, 3)
    return convert(reference.card.model, reference.graph, torch.zeros(size, dtype=torch.uint8))


def _finished(card: ExtractorCard, model: openvino.Model) -> openvino.Model:
    """Put L2 normalisation at the end of the graph, if the card has it; last, since int8 must not touch it."""
    if not card.normalized:
        return model
    unit = openvino.opset13.normalize_l2(model.get_results()[0].input_value(0), np.array([1]), 1e-12, "max")
    return openvino.Model([unit], model.get_parameters(), "extractor")


def _quantize(name: str, model: openvino.Model, pixels: NDArray[np.uint8]) -> openvino.Model:
    with quiet(name):
        import nncf

        pictures = nncf.Dataset(list(pixels[:CALIBRATION]), lambda picture: picture[None])
        return nncf.quantize(model, pictures, subset_size=min(CALIBRATION, len(pixels)))


def _keep_in_f32(graph: bytes, depthwise: bool, share: float) -> tuple[bytes, int]:
    """Mark operations of a saved graph to stay in float32 where the rest is bf16; and how many they are.

    The mark is OpenVINO's own (DisableFP16Compression); it can be set in the file, but not from Python.
    """
    tree = ElementTree.fromstring(graph)
    layers = [one for one in tree.iter("layer") if one.get("type") not in ("Const", "Parameter", "Result")]
    chosen = [
        layer
        for place, layer in enumerate(layers)
        if place < share * len(layers) or (depthwise and layer.get("type") == "GroupConvolution")
    ]
    for layer in chosen:
        info = ElementTree.Element("rt_info")
        ElementTree.SubElement(info, "attribute", name="precise", version="0")
        layer.insert([part.tag for part in layer].index("input"), info)
    return ElementTree.tostring(tree), len(chosen)
