"""Small CLIP, SigLIP and MobileCLIP models with random weights, as folders that open_clip reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

TEXT = {"vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "clip": {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32},
        "text_cfg": {"context_length": 77, **TEXT},
    },
    "siglip": {
        "embed_dim": 64,
        "custom_text": True,
        "init_logit_bias": -10,
        "vision_cfg": {
            "image_size": 160,
            "timm_model_name": "test_vit",
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {
            "context_length": 32,
            **TEXT,
            "vocab_size": 400,
            "hf_tokenizer_name": "nobody/has-this",
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
        },
    },
    "mobileclip": {
        "embed_dim": 64,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 160,
            "timm_model_name": "test_convnext",
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": None,
        },
        "text_cfg": {"context_length": 77, **TEXT, "no_causal_mask": True},
    },
}
SQUASH = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "resize_mode": "squash"}


def make_model(folder: Path, family: str) -> Path:
    """Write a model of a family, random and small, into a folder; return the folder."""
    folder.mkdir(parents=True)
    look = SQUASH if family == "siglip" else {}
    config = {"model_cfg": FAMILIES[family], "preprocess_cfg": look}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(1)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    if family == "siglip":
        sentencelike_tokenizer().save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text('{"pad_token": "</s>"}')
    return folder


def sentencelike_tokenizer() -> Tokenizer:
    """Return a small tokeniser of the kind that SigLIP has: unigrams, and an end of the text that also fills up."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>")
    tokenizer.train_from_iterator(Path(__file__).read_text(encoding="utf-8").split("\n"), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer
