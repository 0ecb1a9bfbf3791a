"""The contract that every engine keeps: uint8 pixels in, unit vectors out; and the one place that chooses an engine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from model.card import ExtractorCard, read_card
from model.errors import EngineMissing, WordsUnavailable
from model.feature_map import MapEngine
from model.text import TextEngine, read_text_card

EngineName = Literal["openvino", "torch"]


class Engine(Protocol):
    """A network that is ready to run. Any thread may call it; calls wait for each other."""

    card: ExtractorCard

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed pictures: float32 [n, dim], of uint8 pixels [n, height, width, 3]; of unit length if the card says so."""
        ...


def open_engine(
    folder: Path, name: EngineName = "openvino", threads: int | None = None, *, many: bool = False
) -> Engine:
    """Open the extractor in ``folder`` on an engine; ``threads`` are those it computes with, all cores by default.

    ``many``: for many pictures at a time, as in a build, at the price of how soon a single one is done.

    ``openvino`` needs OpenVINO and numpy alone; ``torch`` runs on a GPU where there is one. Raises DamagedExtractor when
    the folder is not whole, EngineMissing when the engine is not installed.
    """
    card = read_card(folder)
    threads = threads or os.cpu_count() or 1
    try:
        if name == "torch":
            from model.engines.torch import open_torch

            return open_torch(folder, card)
        from model.engines.openvino import open_openvino

        return open_openvino(folder, card, threads, many=many)
    except ImportError as error:
        raise EngineMissing(
            f"the {name} engine is not installed here ({error}); pip install it, or choose the other with LENS_ENGINE"
        ) from None


def open_text_engine(folder: Path, card: ExtractorCard, threads: int | None) -> TextEngine:
    """Open the text network of the extractor in ``folder``, which has one.

    Raises DamagedExtractor, or FidelityError when it gives other vectors than when it was exported.
    """
    from model.engines.openvino_text import OpenVinoTextEngine

    texts = read_text_card(folder, card.dim)
    if texts is None:
        raise WordsUnavailable(f"{card.model} has no text network")
    return OpenVinoTextEngine(folder, texts, threads or os.cpu_count() or 1)


def open_map_engine(folder: Path, card: ExtractorCard, threads: int | None, scale: int = 1) -> MapEngine:
    """Open what computes maps by the extractor in ``folder``, of pictures of ``scale`` times the edge that it was made for.

    Raises DamagedExtractor, or MapUnavailable for a model that has no map, or takes pictures of one size only.
    """
    from model.engines.openvino_map import OpenVinoMapEngine

    return OpenVinoMapEngine(folder, card, threads or os.cpu_count() or 1, scale)
