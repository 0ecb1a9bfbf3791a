"""Models that embed pictures and texts alike, by open_clip: CLIP, SigLIP, MobileCLIP and their kin. Imports torch.

A model is ``open_clip:NAME.TAG`` (a model and the tag of its published weights), ``open_clip:NAME`` with weights from a file,
or ``open_clip:FOLDER`` with what open_clip's repositories hold: open_clip_config.json, weights and, but for CLIP's own,
tokenizer.json.
"""

from __future__ import annotations

import difflib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import huggingface_hub
import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

from model.conversion import convert
from model.engines.openvino_import import openvino
from model.engines.openvino_text import OpenVinoTextEngine
from model.errors import FidelityError, UnknownModel, WeightsMismatch, WeightsNotFound
from model.preprocessing import Preprocessing
from model.text import TEXT_GRAPH_FILE, TOKENIZER_FILE, Cleaning, TextCard, TextEncoder, write_text_card
from model.weights import OPEN_CLIP as PREFIX
from model.weights import stay_offline_without_hub

CONFIG_FILE = "open_clip_config.json"
# open_clip's own pattern, with its two special tokens left out: nobody's query is to be cut by what it says.
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
GOLDEN = ("a photo of a dog", "Two red apples, on a wooden table!", "naïve café — 東京 2024", "zebra")
MODES: dict[str, Literal["center", "squash"]] = {"shortest": "center", "squash": "squash"}


@dataclass(frozen=True, slots=True)
class Towers:
    """A model's two networks; ``config`` is what open_clip makes them by, ``tokenizer`` the files of its tokeniser,
    but for CLIP's own."""

    name: str
    model: Any
    config: dict[str, Any]
    tokenizer: tuple[Path, Path] | None = None

    @property
    def pictures(self) -> torch.nn.Module:
        """The network of pictures: float32 [n, 3, height, width] to [n, dim]."""
        return self.model.visual

    def preprocessing(self) -> Preprocessing:
        """Return how pictures are shown to it."""
        seen: dict[str, Any] = self.model.visual.preprocess_cfg
        size = seen["size"]
        if seen["resize_mode"] not in MODES:
            raise UnknownModel(f"{self.name} resizes pictures by {seen['resize_mode']!r}, which is not supported")
        return Preprocessing(
            size=(size, size) if isinstance(size, int) else tuple(size),
            interpolation=seen["interpolation"],
            crop_pct=1.0,
            crop_mode=MODES[seen["resize_mode"]],
            mean=tuple(seen["mean"]),
            std=tuple(seen["std"]),
        )


def create_towers(model: str, weights: Path | None = None, *, load: bool = True) -> Towers:
    """Create a model, its weights loaded unless ``load`` says no. Raises UnknownModel, WeightsNotFound, WeightsMismatch."""
    name = model.removeprefix(PREFIX)
    if weights is not None and not weights.is_file():
        raise WeightsNotFound(f"there is no weights file at {weights}")
    folder = Path(name).expanduser()
    if (folder / CONFIG_FILE).is_file():
        config = _read_config(folder / CONFIG_FILE)
        _check_supported(model, config)
        network = _create(model, f"local-dir:{folder}", None, weights=weights, load=load)
        tokenizer = _find_tokenizer(config, folder) if load else None
        return Towers(f"{PREFIX}{folder.resolve().name}", network, config, tokenizer)
    architecture, _, tag = name.partition(".")
    config = open_clip.get_model_config(architecture)
    if config is None:
        near = difflib.get_close_matches(architecture, open_clip.list_models(), n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise UnknownModel(
            f"open_clip has no model named {architecture!r}, nor is it a folder with {CONFIG_FILE}{hint}"
        )
    _check_supported(model, config)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag and tag not in tags:
        raise UnknownModel(f"open_clip knows no weights {tag!r} of {architecture}; it has: {', '.join(tags) or 'none'}")
    if load and weights is None and not tag:
        named = ", ".join(f"{PREFIX}{architecture}.{one}" for one in tags) or "another model"
        raise WeightsNotFound(f"{model} names no weights; give --weights FILE, or {named}")
    if load and weights is None:
        stay_offline_without_hub()
    network = _create(model, architecture, tag or None, weights=weights, load=load)
    tokenizer = _find_tokenizer(config, weights.parent if weights else None) if load else None
    return Towers(model, network, config, tokenizer)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
        found["text_cfg"], found["vision_cfg"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnknownModel(f"{path} does not say what the model is ({type(error).__name__}: {error})") from None
    return found


def _check_supported(model: str, config: dict[str, Any]) -> None:
    """Raise UnknownModel for a model whose texts are tokenised in a way that is not known here."""
    text = config["text_cfg"]
    strange = sorted({*text.get("tokenizer_kwargs", {})} - {"clean"})
    if strange or "hf_model_name" in text:
        what = ", ".join(strange) or "a text network of transformers"
        raise UnknownModel(f"{model} needs {what}, which is not supported; choose a CLIP, SigLIP or MobileCLIP model")


def _create(model: str, name: str, tag: str | None, *, weights: Path | None, load: bool) -> Any:
    own = load and weights is None
    try:
        network = open_clip.create_model(
            name, tag if own else None, load_weights=own, require_pretrained=own, pretrained_text=False
        )
    except Exception as error:  # of the hub, of files, of torch
        reason = " ".join(str(error).split())[:160]
        raise WeightsNotFound(f"the weights of {model} cannot be had ({reason}); give --weights FILE") from None
    if load and weights is not None:
        try:
            open_clip.load_checkpoint(network, str(weights), strict=True)
        except Exception as error:
            reason = " ".join(str(error).split())[:160]
            raise WeightsMismatch(f"the weights in {weights} do not fit {model}: {reason}") from None
    return network.eval()


class _Texts(torch.nn.Module):
    """The text network: tokens int64 [n, context] to vectors of unit length."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(self.model.encode_text(tokens), dim=-1)


@torch.inference_mode()
def export_texts(towers: Towers, folder: Path, dim: int) -> None:
    """Write a model's text network and tokeniser into an extractor folder, held to the model itself.

    Raises WeightsNotFound (there is no tokeniser), FidelityError or NotExportable.
    """
    text = towers.config["text_cfg"]
    context = int(text.get("context_length", 77))
    cleaning: Cleaning = text.get("tokenizer_kwargs", {}).get(
        "clean", "whitespace" if "hf_tokenizer_name" in text else "lower"
    )
    pad = _write_tokenizer(towers, folder)
    towers.model.visual = None  # or it would be in memory, and in the trace
    network = _Texts(towers.model).eval()
    graph = convert(towers.name, network, torch.zeros((1, context), dtype=torch.int64))
    openvino.save_model(graph, folder / TEXT_GRAPH_FILE, compress_to_fp16=False)
    card = TextCard(context, pad, cleaning, dim, {})
    tokens = torch.from_numpy(TextEncoder(folder, card).encode(GOLDEN))
    true: NDArray[np.float32] = network(tokens).numpy()
    card = TextCard(context, pad, cleaning, dim, dict(zip(GOLDEN, true.tolist(), strict=True)))
    if true.shape[1] != dim:
        raise FidelityError(f"texts have {true.shape[1]} dimensions in {towers.name}, pictures {dim}")
    OpenVinoTextEngine(folder, card, torch.get_num_threads())  # raises FidelityError unless it is true to the model
    write_text_card(card, folder)


def write_config(towers: Towers, folder: Path) -> None:
    """Keep what the model is made by in an extractor folder, for the torch engine."""
    seen = dict(towers.model.visual.preprocess_cfg)
    (folder / CONFIG_FILE).write_text(json.dumps({"model_cfg": towers.config, "preprocess_cfg": seen}, indent=2) + "\n")


def _write_tokenizer(towers: Towers, folder: Path) -> int:
    """Write tokenizer.json, and return the token that fills up."""
    if towers.tokenizer is None:
        clip_tokenizer().save(str(folder / TOKENIZER_FILE))
        return 0
    path, about = towers.tokenizer
    shutil.copyfile(path, folder / TOKENIZER_FILE)
    padding = json.loads(about.read_text(encoding="utf-8")).get("pad_token")
    token = padding["content"] if isinstance(padding, dict) else padding
    found = Tokenizer.from_file(str(path)).token_to_id(str(token))
    return 0 if found is None else int(found)


def _find_tokenizer(config: dict[str, Any], folder: Path | None) -> tuple[Path, Path] | None:
    """Return the files of a model's tokeniser, in ``folder`` or fetched, or None for CLIP's own. Raises WeightsNotFound."""
    repository = config["text_cfg"].get("hf_tokenizer_name")
    if repository is None:
        return None

    def find(name: str) -> Path:
        if folder is not None and (folder / name).is_file():
            return folder / name
        stay_offline_without_hub()
        try:
            return Path(huggingface_hub.hf_hub_download(repository, name))
        except Exception as error:
            place = folder or "the folder of the weights"
            raise WeightsNotFound(
                f"{name} of {repository} could not be fetched ({type(error).__name__}); put it into {place}"
            ) from None

    return find(TOKENIZER_FILE), find("tokenizer_config.json")


def clip_tokenizer() -> Tokenizer:
    """Return CLIP's tokeniser, as open_clip brings it, in the form that tokenizers reads."""
    plain = open_clip.SimpleTokenizer()
    merges: Sequence[tuple[str, str]] = list(plain.bpe_ranks)
    tokenizer = Tokenizer(models.BPE(vocab=plain.encoder, merges=merges, end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(f"(?i:{WORDS})"), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    start, end = "<start_of_text>", "<end_of_text>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, plain.sot_token_id), (end, plain.eot_token_id)]
    )
    return tokenizer
