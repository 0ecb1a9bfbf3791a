"""The torch engine: the reference in float32 that others are held to, and what runs on a GPU.

This module imports torch and timm, which takes seconds; only a build, and a service told to use torch, import it.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import numpy as np
import safetensors.torch
import timm
import torch
from numpy.typing import NDArray

from model.card import WEIGHTS_FILE, ExtractorCard
from model.errors import DamagedExtractor, UnknownModel
from model.preprocessing import Preprocessing
from model.weights import OPEN_CLIP, create_model

GPU_BATCH = 64  # compiled for one shape: what is less is filled up, what is more is cut


class TorchEngine:
    """A timm network without its classifier. ``fast``, on a GPU: half precision, channels last, compiled."""

    def __init__(self, network: torch.nn.Module, card: ExtractorCard, *, fast: bool = False) -> None:
        self.card = card
        self.network = network.eval()
        self.graph = Graph(self.network, card.preprocessing).eval()
        self._gpu = fast and torch.cuda.is_available()
        self._run = torch.compile(_half(self.graph)) if self._gpu else self.graph
        self._lock = threading.Lock()

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed pictures: float32 [n, dim], of uint8 pixels [n, height, width, 3]; of unit length if the card says so."""
        pooled = self.features(pixels)
        if not self.card.normalized:
            return pooled
        return pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), np.float32(1e-12))

    @torch.inference_mode()
    def features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the pooled features before normalisation, float32 [n, dim], of uint8 pixels [n, height, width, 3]."""
        batch = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
        with self._lock:
            if not self._gpu:
                return self._run(batch).numpy()
            parts = [self._on_gpu(part) for part in torch.split(batch, GPU_BATCH)]
            return torch.cat(parts).cpu().numpy()

    def _on_gpu(self, part: torch.Tensor) -> torch.Tensor:
        full = torch.zeros(GPU_BATCH, *part.shape[1:], dtype=torch.uint8).pin_memory()
        full[: len(part)] = part
        return self._run(full.to("cuda", non_blocking=True))[: len(part)].float()


class Graph(torch.nn.Module):
    """Network and normalisation in one: uint8 pixels [n, height, width, 3] in, pooled features out."""

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, network: torch.nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        mean, std = (torch.tensor(value, dtype=torch.float64) for value in (preprocessing.mean, preprocessing.std))
        # One product and one sum: OpenVINO rewrites a quotient, and with it loses that it is to stay in float32.
        self.register_buffer("scale", (1 / (255 * std)).float().reshape(1, 3, 1, 1))
        self.register_buffer("shift", (-mean / std).float().reshape(1, 3, 1, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        picture = pixels.permute(0, 3, 1, 2).float() * self.scale + self.shift
        return self.network(picture.to(next(self.network.parameters()).dtype))


def _half(graph: Graph) -> torch.nn.Module:
    graph = graph.to("cuda")
    graph.network.to(torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16)
    graph.network.to(memory_format=torch.channels_last)
    return graph


def build_reference(
    model: str, weights: Path | None = None, *, normalized: bool = True, pad: bool = False
) -> TorchEngine:
    """Make the reference of a model of timm or open_clip, with weights from a file or from where timm publishes them.

    ``pad``: it sees whole pictures, padded to its square, and not the middle of each. Raises
    UnknownModel, WeightsNotFound or WeightsMismatch.
    """
    if model.startswith(OPEN_CLIP):
        from model.open_clip import create_towers  # which not everyone who builds has

        towers = create_towers(model, weights)
        model, network, preprocessing = towers.name, towers.pictures, towers.preprocessing()
    else:
        network = create_model(model, weights)
        preprocessing = _preprocessing_of(network)
    card = ExtractorCard(
        model=model,
        dim=_embedding_length(model, network, preprocessing.size),
        preprocessing=preprocessing.padded() if pad else preprocessing,
        weights_sha256=hashlib.sha256(serialise(network)).hexdigest(),
        normalized=normalized,
    )
    return TorchEngine(network, card)


def open_torch(folder: Path, card: ExtractorCard) -> TorchEngine:
    """Open a saved extractor by torch; needs no network. Raises DamagedExtractor when its weights are not whole."""
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
    if card.model.startswith(OPEN_CLIP):
        from model.open_clip import create_towers

        network = create_towers(f"{OPEN_CLIP}{folder}", load=False).pictures
    else:
        network = timm.create_model(card.model, pretrained=False, num_classes=0)
    network.load_state_dict(safetensors.torch.load(data))
    return TorchEngine(network, card, fast=True)


def _preprocessing_of(network: torch.nn.Module) -> Preprocessing:
    seen = timm.data.resolve_data_config({}, model=network)
    return Preprocessing(
        size=tuple(seen["input_size"][1:]),
        interpolation=seen["interpolation"],
        crop_pct=seen["crop_pct"],
        crop_mode=seen["crop_mode"],
        mean=tuple(seen["mean"]),
        std=tuple(seen["std"]),
    )


@torch.inference_mode()
def _embedding_length(model: str, network: torch.nn.Module, size: tuple[int, int]) -> int:
    # Asked of the network itself: timm's num_features is not what every architecture's pooled output has.
    pooled = network.eval()(torch.zeros(1, 3, *size))
    if pooled.ndim != 2:
        raise UnknownModel(f"{model} gives features of shape {tuple(pooled.shape)}, not one vector for each picture")
    return int(pooled.shape[1])


def serialise(network: torch.nn.Module) -> bytes:
    """Return a network's weights in the safetensors format; equal weights give equal bytes."""
    return safetensors.torch.save({name: value.contiguous() for name, value in network.state_dict().items()})
