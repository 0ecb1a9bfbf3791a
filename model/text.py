"""Texts for a model that embeds them next to pictures, as CLIP does: cleaned and tokenised; what the text network is on disk.

Needs ``tokenizers`` and ``ftfy`` when a text is encoded, and no torch.
"""

from __future__ import annotations

import html
import json
import string
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from model.errors import DamagedExtractor

TEXT_FILE = "text.json"
TEXT_GRAPH_FILE = "text.xml"
TOKENIZER_FILE = "tokenizer.json"
Cleaning = Literal["lower", "whitespace", "canonicalize"]
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class TextCard:
    """A text network on disk: how many tokens it takes, the token that fills them up, and how texts are cleaned before.

    ``golden``: a few texts, with the vectors that the network gave when it was exported.
    """

    context: int
    pad: int
    clean: Cleaning
    dim: int
    golden: dict[str, list[float]]


class TextEngine(Protocol):
    """A text network that is ready to run. Any thread may call it; calls wait for each other."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts: float32 [n, dim], of unit length."""
        ...


class TextEncoder:
    """Turns texts into tokens as the network was taught them, by the tokeniser in ``folder``. Raises DamagedExtractor."""

    def __init__(self, folder: Path, card: TextCard) -> None:
        from tokenizers import Tokenizer  # half of what a process that answers by words imports for them

        self._card = card
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
        except Exception as error:  # tokenizers raises Exception itself
            raise DamagedExtractor(f"{folder / TOKENIZER_FILE} cannot be used ({error}); restore it") from None
        self._tokenizer.enable_truncation(card.context)
        self._tokenizer.enable_padding(length=card.context, pad_id=card.pad)

    def encode(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return the tokens of texts, int64 [n, context]; what is too long is cut off."""
        cleaned = [clean(text, self._card.clean) for text in texts]
        return np.array([one.ids for one in self._tokenizer.encode_batch(cleaned)], np.int64)


def clean(text: str, kind: Cleaning) -> str:
    """Return a text as a network was taught it; the kinds are open_clip's."""
    import ftfy

    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    if kind == "canonicalize":
        text = text.replace("_", " ").translate(NO_PUNCTUATION)
    text = " ".join(text.split())
    return text if kind == "whitespace" else text.lower()


def write_text_card(card: TextCard, folder: Path) -> None:
    """Write the card of a text network into an extractor folder."""
    (folder / TEXT_FILE).write_text(json.dumps(asdict(card)) + "\n", encoding="utf-8")


def read_text_card(folder: Path, dim: int) -> TextCard | None:
    """Read the card of an extractor's text network, or return None where it has none. Raises DamagedExtractor."""
    path = folder / TEXT_FILE
    if not path.is_file():
        return None
    try:
        card = TextCard(**json.loads(path.read_text(encoding="utf-8")))
        if card.dim != dim or card.clean not in get_args(Cleaning) or not (card.context > 0 and card.golden):
            raise ValueError(f"it is for {card.dim} dimensions and cleans by {card.clean}")
        return card
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedExtractor(f"{path} cannot be used ({error}); restore it, or build the catalogue again") from None
