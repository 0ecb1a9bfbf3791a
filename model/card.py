"""What an extractor is, on disk: one JSON card beside the weights, readable without torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from model.errors import DamagedExtractor
from model.preprocessing import Preprocessing

CARD_FILE = "extractor.json"
WEIGHTS_FILE = "weights.safetensors"


@dataclass(frozen=True, slots=True)
class ExtractorCard:
    """A model, its weights and its preprocessing, pinned. ``dim`` is the length of its embeddings."""

    model: str
    dim: int
    preprocessing: Preprocessing
    weights_sha256: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 over model name, weights and preprocessing: two extractors with equal ones give equal vectors."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def write_card(card: ExtractorCard, folder: Path) -> None:
    """Write the card into an extractor folder."""
    text = json.dumps({**asdict(card), "fingerprint": card.fingerprint}, indent=2)
    (folder / CARD_FILE).write_text(text + "\n", encoding="utf-8")


def read_card(folder: Path) -> ExtractorCard:
    """Read an extractor folder's card. Raises DamagedExtractor when it, or the weights, are missing or it was changed."""
    path = folder / CARD_FILE
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        fingerprint = stored.pop("fingerprint")
        look = stored.pop("preprocessing")
        sizes = {name: tuple(look[name]) for name in ("size", "mean", "std")}
        card = ExtractorCard(preprocessing=Preprocessing(**{**look, **sizes}), **stored)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedExtractor(f"{path} is not an extractor's card ({error}); build the catalogue again") from None
    if card.fingerprint != fingerprint:
        raise DamagedExtractor(
            f"{path} was changed by hand: its fingerprint is {fingerprint[:12]}, not {card.fingerprint[:12]}"
        )
    if not (folder / WEIGHTS_FILE).is_file():
        raise DamagedExtractor(
            f"the extractor's weights, {folder / WEIGHTS_FILE}, are missing; build the catalogue again"
        )
    return card
