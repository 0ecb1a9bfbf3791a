"""An extractor that is ready to make a catalogue: exported from a timm model, or left by a build that was broken off."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.card import ExtractorCard, Wanted, read_card
from model.engines.base import Engine, EngineName, open_engine
from model.errors import DamagedExtractor, EngineMissing, FidelityError
from model.fidelity import open_verified_engine
from model.windows import Box, WindowEncoder
from model.words import Vocabulary, write_vocabulary


class Samples(Protocol):
    """Gives pixels of some of the pictures that an extractor is for, at most ``count``: uint8 [n, height, width, 3]."""

    def __call__(self, card: ExtractorCard, count: int) -> NDArray[np.uint8]: ...


@dataclass(frozen=True, slots=True)
class Extractor:
    """An extractor folder, and the engine that runs it; ``windows`` makes the vectors of boxes, where these are wanted.

    ``wordless``: why pictures embedded by it cannot be searched by words, where that was found out.
    """

    folder: Path
    engine: Engine
    windows: WindowEncoder | None = None
    wordless: str | None = None

    @property
    def card(self) -> ExtractorCard:
        """What the extractor is."""
        return self.engine.card

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed pictures: float32 [n, dim], of uint8 pixels [n, height, width, 3]; of unit length if the card says so."""
        return self.engine.embed(pixels)

    def save(self, folder: Path) -> None:
        """Copy all files into ``folder``, which is made if need be."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)


def open_extractor(
    folder: Path, name: EngineName = "openvino", threads: int | None = None, boxes: Sequence[Box] = ()
) -> Extractor:
    """Open the extractor in ``folder``, once its golden pictures prove that it gives the vectors that it gave.

    ``boxes`` in pictures are to have vectors too. Raises DamagedExtractor, EngineMissing, FidelityError, MapUnavailable.
    """
    engine = open_verified_engine(folder, name, threads)
    return Extractor(folder, engine, WindowEncoder(folder, engine.card, threads, boxes) if boxes else None)


def build_reference(model: str, weights: Path | None = None) -> Engine:
    """Make the reference of a timm model, in torch and float32. Raises UnknownModel, WeightsNotFound, WeightsMismatch.

    Raises EngineMissing where there is no torch.
    """
    try:
        from model.engines import torch
    except ImportError as error:
        raise EngineMissing(f"a model by its name needs torch and timm ({error}); use a catalogue's") from None
    return torch.build_reference(model, weights)


@contextmanager
def build_extractor(
    model: str,
    weights: Path | None,
    samples: Samples,
    *,
    precision: Wanted = "auto",
    normalized: bool = True,
    pad: bool = False,
    engine: EngineName = "openvino",
    threads: int | None = None,
    boxes: Sequence[Box] = (),
    begun: Path | None = None,
) -> Iterator[Extractor]:
    """Make the extractor of a timm model, held to its reference; imports torch. Its files go when the context ends.

    ``normalized``: embeddings of unit length, as the metric cosine needs. ``pad``: whole pictures are seen, padded to the
    network's square, and not the middle of each. ``boxes`` in pictures are to have vectors too. ``begun`` is where an earlier
    build may have left the same extractor, which is taken if it proves to be whole. Raises UnknownModel, WeightsNotFound,
    WeightsMismatch, EngineMissing where there is no torch, FidelityError when the precision asked for is not true to the
    model, or MapUnavailable for a model that has no vectors of boxes.
    """
    try:
        from model.classifier import read_classifier
        from model.engines.torch import build_reference
        from model.export import CALIBRATION, COMPARED, export
        from model.weights import OPEN_CLIP
    except ImportError as error:
        raise EngineMissing(
            f"making an extractor needs torch and timm ({error}); do it where make setup has run"
        ) from None

    reference = build_reference(model, weights, normalized=normalized, pad=pad)
    with tempfile.TemporaryDirectory(prefix="extractor-") as temporary:
        # A folder in the temporary one, which is its owner's alone: a copy keeps that, and others are to read it.
        folder = Path(temporary) / "extractor"
        if begun is None or not _take_over(begun, folder, reference.card, precision):
            count = CALIBRATION if precision == "int8" else COMPARED
            export(reference, folder, precision, samples(reference.card, count))
        wordless = None
        if model.startswith(OPEN_CLIP):
            write_text_network(model, weights, folder, reference.card.dim)
        elif isinstance(words := read_classifier(reference, weights, folder), Vocabulary):
            write_vocabulary(folder, words)
        else:
            wordless = words
        del reference  # its weights would be held in memory twice
        opened = open_engine(folder, engine, threads, many=True)
        windows = WindowEncoder(folder, opened.card, threads, boxes) if boxes else None
        yield Extractor(folder, opened, windows, wordless)


def write_text_network(model: str, weights: Path | None, folder: Path, dim: int) -> None:
    """Write the text network of a model of open_clip into an extractor folder. Raises as build_extractor."""
    from model.open_clip import create_towers, export_texts, write_config

    towers = create_towers(model, weights)
    write_config(towers, folder)
    export_texts(towers, folder, dim)


def _take_over(begun: Path, folder: Path, wanted: ExtractorCard, precision: Wanted) -> bool:
    """Copy the extractor of an earlier build, if there is one, it is the one wanted, and it proves to be whole."""
    try:
        found = read_card(begun)
        measured = replace(wanted, precision=found.precision, kept_in_f32=found.kept_in_f32)
        if found.fingerprint != measured.fingerprint or precision not in ("auto", found.precision):
            return False
        shutil.copytree(begun, folder)
        open_verified_engine(folder)
        return found.fidelity is not None
    except (DamagedExtractor, FidelityError, OSError):
        shutil.rmtree(folder, ignore_errors=True)
        return False
