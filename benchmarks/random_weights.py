"""Weights without a hub: random ones whose statistics are those of a network at work.

Freshly drawn weights give nearly the same features for every picture, and what is rounded then looks large next to what
tells pictures apart. So batch normalisation is measured on the sample photos, as training would, and the last of each
residual block scaled to a quarter, about where training leaves it. Nothing is learned: no quality may be claimed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.torch
import timm
import torch
from PIL import Image

LAST_SCALE = 0.25


def write_random_weights(model: str, photos: list[Path], path: Path) -> Path:
    """Write such weights of a timm model as safetensors to ``path``, unless they are there already."""
    if path.is_file():
        return path
    torch.manual_seed(0)
    network = timm.create_model(model)
    for name, part in network.named_modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None  # the mean over all that is seen
            last = name.endswith("bn3") or (name.endswith("bn2") and "resnet18" in model)
            torch.nn.init.constant_(part.weight, LAST_SCALE if last else 1.0)
    size = network.default_cfg["input_size"][1:]
    pictures = [Image.open(photo).convert("RGB").resize(size[::-1], Image.Resampling.BICUBIC) for photo in photos]
    batch = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2).float()
    mean, std = (torch.tensor(network.default_cfg[name]).reshape(1, 3, 1, 1) * 255 for name in ("mean", "std"))
    with torch.no_grad():
        network.train()((batch - mean) / std)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in network.eval().state_dict().items()}
    safetensors.torch.save_file(state, path)
    return path
