"""A CLIP ViT-B/32 with random weights in the form that transformers reads, for infinity: random_clip.py TOKENIZER FOLDER

Run by the interpreter of infinity's environment (``make infinity``).
"""

from __future__ import annotations

import sys

import torch
import transformers


def main() -> None:
    """Write the model, what prepares its pictures, and CLIP's tokeniser to the folder."""
    tokenizer, folder = sys.argv[1:]
    torch.manual_seed(0)
    transformers.CLIPModel(transformers.CLIPConfig()).save_pretrained(folder)
    pictures = transformers.CLIPImageProcessor()
    texts = transformers.CLIPTokenizerFast(
        tokenizer_file=tokenizer, bos_token="<|startoftext|>", eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    transformers.CLIPProcessor(pictures, texts).save_pretrained(folder)


if __name__ == "__main__":
    main()
