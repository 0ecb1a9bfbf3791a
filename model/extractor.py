"""The torch engine: any timm model as a feature extractor that gives unit vectors.

This module imports torch and timm, which takes seconds; ``model/__init__`` therefore imports it only when an extractor
is built or opened.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import safetensors.torch
import timm
import torch
from numpy.typing import NDArray

from model.card import WEIGHTS_FILE, ExtractorCard, read_card, write_card
from model.errors import DamagedExtractor, UnknownModel
from model.preprocessing import Preprocessing
from model.weights import create_model


class TimmExtractor:
    """A timm network without its classifier: uint8 pixels in, L2-normalised float32 embeddings out."""

    def __init__(self, network: torch.nn.Module, card: ExtractorCard) -> None:
        self.card = card
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = network.eval().to(self._device)
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(card.preprocessing.mean, device=self._device).reshape(shape) * 255
        self._std = torch.tensor(card.preprocessing.std, device=self._device).reshape(shape) * 255

    @torch.inference_mode()
    def features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The network's pooled features before normalisation, float32 [n, dim], of uint8 pixels [n, height, width, 3]."""
        batch = torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device).permute(0, 3, 1, 2)
        pooled = self._network((batch.float() - self._mean) / self._std)
        return pooled.float().cpu().numpy()

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeddings of unit length, float32 [n, dim], of uint8 pixels [n, height, width, 3]."""
        pooled = self.features(pixels)
        return pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), np.float32(1e-12))

    def save(self, folder: Path) -> None:
        """Write weights and card into ``folder``, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WEIGHTS_FILE).write_bytes(_serialise(self._network))
        write_card(self.card, folder)


def build_extractor(model: str, weights: Path | None = None) -> TimmExtractor:
    """Make the extractor of a timm model, with weights from a file or from where timm publishes them.

    Raises UnknownModel, WeightsNotFound or WeightsMismatch.
    """
    network = create_model(model, weights)
    seen = timm.data.resolve_data_config({}, model=network)
    preprocessing = Preprocessing(
        size=tuple(seen["input_size"][1:]),
        interpolation=seen["interpolation"],
        crop_pct=seen["crop_pct"],
        crop_mode=seen["crop_mode"],
        mean=tuple(seen["mean"]),
        std=tuple(seen["std"]),
    )
    card = ExtractorCard(
        model=model,
        dim=_embedding_length(model, network, preprocessing.size),
        preprocessing=preprocessing,
        weights_sha256=hashlib.sha256(_serialise(network)).hexdigest(),
    )
    return TimmExtractor(network, card)


def open_extractor(folder: Path) -> TimmExtractor:
    """Open what ``TimmExtractor.save`` wrote; needs no network. Raises DamagedExtractor when it is not whole."""
    card = read_card(folder)
    path = folder / WEIGHTS_FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DamagedExtractor(f"the extractor's weights cannot be read ({error}); build the catalogue again") from None
    if (found := hashlib.sha256(data).hexdigest()) != card.weights_sha256:
        raise DamagedExtractor(
            f"{path} is not the file that the catalogue was built with "
            f"(SHA-256 {found[:12]} in place of {card.weights_sha256[:12]}); build the catalogue again"
        )
    network = timm.create_model(card.model, pretrained=False, num_classes=0)
    network.load_state_dict(safetensors.torch.load(data))
    return TimmExtractor(network, card)


@torch.inference_mode()
def _embedding_length(model: str, network: torch.nn.Module, size: tuple[int, int]) -> int:
    # Asked of the network itself: timm's num_features is not what every architecture's pooled output has.
    pooled = network.eval()(torch.zeros(1, 3, *size))
    if pooled.ndim != 2:
        raise UnknownModel(f"{model} gives features of shape {tuple(pooled.shape)}, not one vector for each picture")
    return int(pooled.shape[1])


def _serialise(network: torch.nn.Module) -> bytes:
    return safetensors.torch.save({name: value.contiguous() for name, value in network.state_dict().items()})
