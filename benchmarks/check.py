"""What a check for copies costs beyond a plain search: python -m benchmarks.check [--quick]

Altered copies of pictures of ``benchmarks.copies``, over the catalogue of all of them. Times are of the search engine without
HTTP. Embeddings come from the cache, so that only what differs is timed: a plain search, one that says how well each hit
matches, and a check. Each runs in every round, one picture at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np

from benchmarks.copies import CATALOGUE, PICTURES, open_copies_catalogue, write_pictures
from benchmarks.report import arguments, deliver, in_turn, table
from copies import ALTERATIONS, alter
from model import Limits, open_extractor, read_picture
from search import DuplicateChecker, LocalEmbedder, PictureQuery, SearchEngine, Shaping, open_catalogue_with_extractor

PLAIN, MATCHED = Shaping(10), Shaping(10, match=True)
LEAST = 0.9
FULL, QUICK = (42, 15), (5, 3)  # pictures, rounds


class Bench(NamedTuple):
    """What answers, by what it is run, and how many items there are."""

    engine: SearchEngine
    checker: DuplicateChecker
    runner: asyncio.Runner
    items: int


def open_bench(runner: asyncio.Runner) -> Bench:
    """Open the catalogue of the pictures, and what searches it."""
    open_copies_catalogue().close()
    catalogue, card = open_catalogue_with_extractor(CATALOGUE)
    embedder = LocalEmbedder(lambda: open_extractor(catalogue.extractor_folder).engine)
    engine = SearchEngine(catalogue, card, embedder, cache_size=1000)
    checker = DuplicateChecker(catalogue, engine.pictures, Limits(), card.preprocessing.enough)
    return Bench(engine, checker, runner, len(catalogue.snapshot()))


def altered_pictures(count: int) -> list[bytes]:
    """Return altered copies of some of the pictures, each alteration in turn."""
    files = sorted(PICTURES.rglob("*.png"))
    chosen = np.random.default_rng(5).permutation(len(files))[:count].tolist()
    names = list(ALTERATIONS)
    return [
        alter(read_picture(files[number].read_bytes()).image, names[at % len(names)], number)
        for at, number in enumerate(chosen)
    ]


def tasks(bench: Bench, data: bytes) -> dict[str, Callable[[], object]]:
    """Return what is timed of a picture."""

    def search(shaping: Shaping) -> None:
        _sound(bench.runner.run(bench.engine.search([PictureQuery(data)], shaping)).results)

    def check() -> None:
        _sound(bench.runner.run(bench.checker.check([data], LEAST))[0])

    return {"search": lambda: search(PLAIN), "search with match": lambda: search(MATCHED), "check": check}


def _sound(found: Iterable[object]) -> None:
    for one in found:
        if isinstance(one, Exception):
            raise one


def main() -> None:
    """Print the table."""
    options = arguments(__doc__)
    pictures, rounds = QUICK if options.quick else FULL
    write_pictures()
    with asyncio.Runner() as runner:
        bench = open_bench(runner)
        seconds = [in_turn(tasks(bench, data), rounds) for data in altered_pictures(pictures)]
    shown = table(
        f"{pictures} pictures among {bench.items:,}, embeddings cached",
        "",
        "p50, ms",
        "p95, ms",
        "more than a search: p50, p95",
    )
    for name in seconds[0]:
        own = [1000 * median(one[name]) for one in seconds]
        more = [1000 * median(a - b for a, b in zip(one[name], one["search"], strict=True)) for one in seconds]
        shown.add_row(name, f"{median(own):.2f}", f"{_high(own):.2f}", f"{median(more):.2f}, {_high(more):.2f}")
    deliver("check", options, [shown], {"items": bench.items, "seconds": seconds})


def _high(values: Sequence[float]) -> float:
    return float(np.percentile(values, 95))


if __name__ == "__main__":
    main()
