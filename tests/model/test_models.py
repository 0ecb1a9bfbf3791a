"""ResNet50 and a ViT go the whole way (build, serve, search) with weights from a file."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from tests.serving import ROOT, serving


@pytest.mark.parametrize(
    ("model", "suffix", "dim"),
    [
        pytest.param("resnet50.tv_in1k", ".pth", 2048, marks=pytest.mark.soak),
        ("vit_tiny_patch16_224", ".safetensors", 192),
    ],
)
def test_a_model_goes_the_whole_way(model: str, suffix: str, dim: int, photos: list[Path], tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = timm.create_model(model).state_dict()
    weights = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(state, weights)
    else:
        safetensors.torch.save_file(state, weights)
    (tmp_path / "photos").mkdir()
    for photo in photos[:10]:
        shutil.copy(photo, tmp_path / "photos")
    out = tmp_path / "out"
    command = [sys.executable, "cli.py", "build", str(tmp_path / "photos"), "--out", str(out), "--model", model]
    subprocess.run([*command, "--weights", str(weights)], cwd=ROOT, check=True, capture_output=True)
    weights.unlink()  # the catalogue carries its own
    with serving(out, tmp_path / "log") as server:
        answer = server.search(*[photo.read_bytes() for photo in photos[:10]], k=1).json()
        assert [result["hits"][0]["key"] for result in answer["results"]] == [photo.name for photo in photos[:10]]
        assert answer["model"] == model
        embedded = server.post("embed", [("images", photos[0].read_bytes())], {}).json()
        assert (embedded["dim"], len(embedded["embeddings"][0])) == (dim, dim)
