"""What an extractor is, on disk: one JSON card next to its files, readable without torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from model.errors import DamagedExtractor
from model.preprocessing import Preprocessing

CARD_FILE = "extractor.json"
WEIGHTS_FILE = "weights.safetensors"
GRAPH_FILE = "graph.xml"
GRAPH_WEIGHTS_FILE = "graph.bin"
GOLDEN_FILE = "golden.npz"

Precision = Literal["f32", "bf16", "int8"]
Wanted = Precision | Literal["auto"]


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How an engine's vectors compare with the reference's, over so many ``pictures``.

    ``mean`` and ``minimum`` are of the cosine between the two vectors of a picture; ``overlap`` is the mean share of a
    picture's ten nearest by the reference (itself left out) that are its ten nearest by the engine too.
    """

    pictures: int
    mean: float
    minimum: float
    overlap: float

    def __str__(self) -> str:
        return (
            f"cosine to the reference {self.mean:.5f} in the mean and {self.minimum:.5f} at least, "
            f"top-10 overlap {self.overlap:.3f}, over {self.pictures} pictures"
        )


@dataclass(frozen=True, slots=True)
class ExtractorCard:
    """A model, its weights, its preprocessing and its precision, pinned. ``dim`` is the length of its embeddings.

    ``normalized``: embeddings are scaled to unit length, as the metric cosine needs; ip and l2 take them as they are.
    ``fidelity`` is what was measured when it was exported, with ``kept_in_f32`` operations of a bf16 graph in float32.
    """

    model: str
    dim: int
    preprocessing: Preprocessing
    weights_sha256: str
    precision: Precision = "f32"
    kept_in_f32: int = 0
    normalized: bool = True
    fidelity: Fidelity | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all but what was measured: extractors with equal ones give equal vectors, but for rounding."""
        pinned = {name: value for name, value in asdict(self).items() if name != "fidelity"}
        if self.normalized:  # as all were before there was a choice
            del pinned["normalized"]
        return hashlib.sha256(json.dumps(pinned, sort_keys=True).encode()).hexdigest()


def write_card(card: ExtractorCard, folder: Path) -> None:
    """Write the card into an extractor folder."""
    text = json.dumps({**asdict(card), "fingerprint": card.fingerprint}, indent=2)
    (folder / CARD_FILE).write_text(text + "\n", encoding="utf-8")


def read_card(folder: Path) -> ExtractorCard:
    """Read an extractor folder's card. Raises DamagedExtractor when it was changed, or it or a file is missing."""
    path = folder / CARD_FILE
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        fingerprint = stored.pop("fingerprint")
        look = stored.pop("preprocessing")
        sizes = {name: tuple(look[name]) for name in ("size", "mean", "std")}
        measured = stored.pop("fidelity")
        card = ExtractorCard(
            preprocessing=Preprocessing(**{**look, **sizes}), fidelity=measured and Fidelity(**measured), **stored
        )
        if card.precision not in get_args(Precision):
            raise ValueError(f"there is no precision {card.precision!r}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedExtractor(f"{path} is not an extractor's card ({error}); build the catalogue again") from None
    if card.fingerprint != fingerprint:
        raise DamagedExtractor(
            f"{path} was changed by hand: its fingerprint is {str(fingerprint)[:12]}, not {card.fingerprint[:12]}"
        )
    for name in (GRAPH_FILE, GRAPH_WEIGHTS_FILE, GOLDEN_FILE):
        if not (folder / name).is_file():
            raise DamagedExtractor(f"the extractor's {folder / name} is missing; build the catalogue again")
    return card
