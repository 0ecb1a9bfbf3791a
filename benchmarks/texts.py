"""Queries by text with a CLIP model: python -m benchmarks.texts

open_clip's ViT-B-32 (quick: a smaller one) with random weights: the speed is that of any weights, and nothing is said of
quality. The text network by OpenVINO is timed next to open_clip's own in torch, both with all cores, and a query by text of
a search engine next to a query by item. Every text is another one, so that none is cached.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.data import clusters
from benchmarks.report import arguments, deliver, in_turn, ratio, table
from index import Entry, start_catalogue
from ingest import SourceSamples, find_sources
from model import Limits, build_extractor, open_text_engine
from model.card import Wanted
from search import ItemQuery, LocalEmbedder, LocalTexts, SearchEngine, Shaping, TextQuery, open_catalogue_with_extractor

SAMPLES = Path(__file__).parents[1] / ".cache" / "samples"
FULL, QUICK = ("ViT-B-32", 20_000, 20), ("ViT-S-32-alt", 1_000, 3)


def make_catalogue(place: Path, model: str, count: int, precision: Wanted = "f32") -> Path:
    """Write a catalogue of clustered vectors with the extractor of a random model; return its folder."""
    import open_clip

    torch.manual_seed(0)
    weights = place / "weights.pt"
    torch.save(open_clip.create_model(model, load_weights=False).state_dict(), weights)
    samples = SourceSamples(find_sources([SAMPLES]), Limits())
    with build_extractor(f"open_clip:{model}", weights, samples, precision=precision) as extractor:
        card = extractor.card
        writer = start_catalogue(place / "catalogue", model=card.model, fingerprint=card.fingerprint, dim=card.dim)
        extractor.save(writer.extractor_folder)
    vectors = clusters(count, card.dim, 1)
    writer.add([Entry(f"{n}.jpg", one, {}, "0" * 64, b"", 1, 1) for n, one in enumerate(vectors)])
    writer.build_index()
    writer.publish({})
    return place / "catalogue"


@torch.inference_mode()
def measure(model: str, count: int, rounds: int) -> dict[str, Any]:
    """Return the seconds of each task in each round."""
    import open_clip

    with tempfile.TemporaryDirectory() as temporary, asyncio.Runner() as runner:
        catalogue, card = open_catalogue_with_extractor(make_catalogue(Path(temporary), model, count))
        folder = catalogue.extractor_folder
        engine = open_text_engine(folder, card, None)
        network = open_clip.create_model(model, load_weights=False).eval()
        tokenize = open_clip.get_tokenizer(model)
        search = SearchEngine(
            catalogue,
            card,
            LocalEmbedder(lambda: None),  # type: ignore[arg-type,return-value]
            texts=LocalTexts(folder, card, None),
        )
        texts = (f"a photo of {number} dogs on a red sofa" for number in itertools.count())

        def ask(query: Any) -> None:
            (found,) = runner.run(search.search([query], Shaping(10))).results
            assert not isinstance(found, Exception)

        tasks: dict[str, Callable[[], object]] = {
            "the text network": lambda: engine.embed([next(texts)]),
            "the same, 16 texts": lambda: engine.embed([next(texts) for _ in range(16)]),
            "open_clip in torch": lambda: network.encode_text(tokenize([next(texts)])),
            "open_clip in torch, 16 texts": lambda: network.encode_text(tokenize([next(texts) for _ in range(16)])),
            "a query by text": lambda: ask(TextQuery(next(texts))),
            "a query by an item": partial(ask, ItemQuery(7)),
        }
        seconds = in_turn(tasks, rounds)
        catalogue.close()
    return {"model": model, "count": count, "dim": card.dim, "seconds": seconds}


def main() -> None:
    """Print the table."""
    options = arguments(__doc__)
    raw = measure(*(QUICK if options.quick else FULL))
    seconds = raw["seconds"]
    made = table(f"{raw['model']}, {raw['count']:,} × {raw['dim']}", "task", "ms", "texts a second")
    for name, each in seconds.items():
        texts = 16 if "16" in name else 1
        made.add_row(name, f"{1000 * median(each):.2f}", f"{texts / median(each):.0f}")
    faster = ratio(seconds["open_clip in torch"], seconds["the text network"])
    made.add_row("torch ÷ ours, one text", f"{faster:.2f}", "")
    more = np.subtract(seconds["a query by text"], seconds["the text network"])
    made.add_row("a query by text beyond its network", f"{1000 * median(more):.2f}", "")
    deliver("texts", options, [made], raw)


if __name__ == "__main__":
    main()
