"""What words, examples and shaping cost beyond a plain query: python -m benchmarks.queries

Times are of the search engine, without HTTP, next to a query by an item in the same rounds, over clustered vectors with the
model of the sample catalogue: none of these queries needs the network. A broader word's first query after a merge finds its
pictures; that is timed apart.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.data import clusters
from benchmarks.report import arguments, deliver, in_turn, table
from index import Entry, start_catalogue
from ingest import SourceSamples, find_sources
from model import Limits, build_extractor
from search import (
    CombinedQuery,
    Example,
    ItemQuery,
    LocalEmbedder,
    QueryInput,
    SearchEngine,
    Shaping,
    Sorting,
    TextQuery,
    open_catalogue_with_extractor,
)

SAMPLES = Path(__file__).parents[1] / ".cache" / "samples"
MODEL = "tf_efficientnet_lite0"
FULL, QUICK = (20_000, 20), (2_000, 3)
WORDS = ("fruit", "dog", "musical instrument", "vehicle", "animal")  # of 13 to 398 classes
PLAIN = Shaping(10)
ITEM = ItemQuery(7)
TWO = CombinedQuery((Example(ITEM), Example(ItemQuery(8))), (Example(ItemQuery(9)),))
BEST = CombinedQuery(TWO.positive, TWO.negative, "best")
QUERIES: dict[str, tuple[QueryInput, Shaping]] = {
    "an item": (ITEM, PLAIN),
    "a class word (zebra)": (TextQuery("zebra"), PLAIN),
    "a broader word (animal), again": (TextQuery("animal"), PLAIN),
    "two positive and a negative example, mean": (TWO, PLAIN),
    "the same, best": (BEST, PLAIN),
    "fold": (ITEM, Shaping(10, fold=0.98)),
    "group_by": (ITEM, Shaping(10, group_by=("label",))),
    "diversity": (ITEM, Shaping(10, diversity=0.5)),
    "sort of 100, facets, classify": (
        ITEM,
        Shaping(100, limit=10, sort=Sorting(("n",)), facets=(("label",),), classify=("label",)),
    ),
    "k=1000": (ITEM, Shaping(1000)),
    "a page of 10 of these": (ITEM, Shaping(1000, offset=500, limit=10)),
}


def make_catalogue(folder: Path, count: int) -> None:
    """Write a catalogue of ``count`` clustered vectors, with labels, and the extractor of the sample catalogue."""
    samples = SourceSamples(find_sources([SAMPLES]), Limits())
    with build_extractor(MODEL, None, samples) as extractor:
        card = extractor.card
        writer = start_catalogue(folder, model=card.model, fingerprint=card.fingerprint, dim=card.dim)
        extractor.save(writer.extractor_folder)
    for at in range(0, count, 1000):
        writer.add(
            [
                Entry(f"{at + n}.jpg", vector, {"n": at + n, "label": f"label {(at + n) % 97}"}, "0" * 64, b"", 1, 1)
                for n, vector in enumerate(clusters(1000, card.dim, at + 1))
            ]
        )
    writer.build_index()
    writer.publish({})


def open_engine(folder: Path) -> SearchEngine:
    """Open a search engine that has no network."""
    catalogue, card = open_catalogue_with_extractor(folder)
    return SearchEngine(catalogue, card, LocalEmbedder(lambda: None))  # type: ignore[arg-type,return-value]


def measure(count: int, rounds: int) -> dict[str, Any]:
    """Return the milliseconds of each query, and of the first one by each broader word."""
    with tempfile.TemporaryDirectory() as temporary, asyncio.Runner() as runner:
        folder = Path(temporary) / "catalogue"
        make_catalogue(folder, count)
        engine = open_engine(folder)
        tasks = {name: partial(answer, runner, engine, *asked) for name, asked in QUERIES.items()}
        seconds = in_turn(tasks, rounds)
        first = {}
        for word in WORDS:
            fresh = open_engine(folder)
            answer(runner, fresh, TextQuery("zebra"), PLAIN)
            begun = time.perf_counter()
            answer(runner, fresh, TextQuery(word), PLAIN)
            first[word] = 1000 * (time.perf_counter() - begun)
    return {"count": count, "seconds": seconds, "first_ms": first}


def answer(runner: asyncio.Runner, engine: SearchEngine, query: QueryInput, shaping: Shaping) -> None:
    """Answer a query; raises what it ends in."""
    (found,) = runner.run(engine.search([query], shaping)).results
    if isinstance(found, Exception):
        raise found


def main() -> None:
    """Print the table."""
    options = arguments(__doc__)
    raw = measure(*(QUICK if options.quick else FULL))
    plain = raw["seconds"]["an item"]
    made = table(f"{raw['count']:,} × 1280, one query at a time", "query", "ms", "more than by an item, ms")
    for name, seconds in raw["seconds"].items():
        more = median(one - other for one, other in zip(seconds, plain, strict=True))
        made.add_row(name, f"{1000 * median(seconds):.2f}", f"{1000 * more:.2f}")
    for word, milliseconds in raw["first_ms"].items():
        made.add_row(f"{word}, for the first time", f"{milliseconds:.1f}", "")
    deliver("queries", options, [made], raw)


if __name__ == "__main__":
    main()
