"""Duplicates against imagededup, in one run: python -m benchmarks.dedup_peers [--quick]

A folder of pictures of ``benchmarks.copies`` and altered copies of them, four each, by turns of the 14 alterations.
Each method finds pairs: BentoLens by ``build`` and ``duplicates``, imagededup by PHash and by CNN at its default thresholds.
The CNN is EfficientNet-Lite0, as here, since its own weights come from a hub. Right is a pair of one original. Pictures/s is
from files to pairs, the start of the process and the export of the network apart.
"""

from __future__ import annotations

import itertools
import logging
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from benchmarks.copies import PICTURES, write_pictures
from benchmarks.pictures import CACHE, MODEL
from benchmarks.report import arguments, deliver, table
from copies import ALTERATIONS, DuplicateFinder, Wanted, alter
from index import open_catalogue
from ingest import SourceSamples, build_catalogue, find_sources
from model import Limits, build_extractor, build_reference, read_picture

COPIES = 4
Pair = frozenset[str]


class Outcome(NamedTuple):
    """The pairs that were found, and the seconds that it took."""

    pairs: set[Pair]
    seconds: float


def make_folder(originals: int) -> Path:
    """Write originals and their copies, as ORIGINAL-N.jpg; done once."""
    folder = CACHE / "bench" / f"dedup-{originals}"
    if folder.is_dir():
        return folder
    write_pictures()
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    files = sorted(PICTURES.rglob("*.png"))
    names = itertools.cycle(ALTERATIONS)
    for number in np.random.default_rng(3).permutation(len(files))[:originals].tolist():
        image = read_picture(files[number].read_bytes()).image
        image.save(partial / f"{number}-0.jpg", quality=95)
        for copy in range(1, COPIES + 1):
            (partial / f"{number}-{copy}.jpg").write_bytes(alter(image, next(names), number))
    return partial.rename(folder)


def ours(folder: Path, out: Path) -> Outcome:
    """Build a catalogue and group its duplicates."""
    shutil.rmtree(out, ignore_errors=True)
    sources = find_sources([folder])
    with build_extractor(MODEL, None, SourceSamples(sources, Limits())) as extractor:
        begun = time.perf_counter()
        build_catalogue(sources, out, extractor)
        with closing(open_catalogue(out)) as catalogue, closing(DuplicateFinder(catalogue)) as finder:
            finder.update()
            groups = finder.groups(Wanted())
        seconds = time.perf_counter() - begun
    keys = [[group.keep.key, *(member.picture.key for member in group.members)] for group in groups]
    return Outcome({frozenset(pair) for some in keys for pair in itertools.combinations(some, 2)}, seconds)


def theirs(find: Callable[[], dict[str, list[str]]]) -> Outcome:
    """Find duplicates by a method of imagededup."""
    begun = time.perf_counter()
    found = find()
    seconds = time.perf_counter() - begun
    return Outcome({frozenset((one, other)) for one, others in found.items() for other in others}, seconds)


def cnn() -> Any:
    """imagededup's CNN with our network."""
    from imagededup.methods import CNN
    from imagededup.utils.models import CustomModel

    reference: Any = build_reference(MODEL)
    look = reference.card.preprocessing

    def transform(image: Image.Image) -> Any:
        import torch

        return torch.from_numpy(look.to_pixels(image.convert("RGB")).copy())

    return CNN(verbose=False, model_config=CustomModel(name=MODEL, model=reference.graph, transform=transform))


def main() -> None:
    from imagededup.methods import PHash

    options = arguments(__doc__)
    logging.disable(logging.INFO)
    folder = make_folder(40 if options.quick else 400)
    names = sorted(path.name for path in folder.iterdir())
    by_original = itertools.groupby(sorted(names), key=lambda name: name.partition("-")[0])
    true = {frozenset(pair) for _, some in by_original for pair in itertools.combinations(sorted(some), 2)}
    hashing, network = PHash(verbose=False), cnn()
    outcomes = {
        "BentoLens": ours(folder, CACHE / "bench" / "dedup-catalogue"),
        "imagededup, PHash": theirs(lambda: hashing.find_duplicates(image_dir=str(folder))),
        "imagededup, CNN": theirs(lambda: network.find_duplicates(image_dir=str(folder))),
    }
    shown = table(f"{len(names):,} pictures, {len(true):,} pairs", "", "precision", "recall", "pictures/s")
    raw = {}
    for name, found in outcomes.items():
        right = len(found.pairs & true)
        row = {
            "precision": right / max(1, len(found.pairs)),
            "recall": right / len(true),
            "rate": len(names) / found.seconds,
        }
        shown.add_row(name, f"{row['precision']:.4f}", f"{row['recall']:.3f}", f"{row['rate']:.0f}")
        raw[name] = row
    deliver("dedup_peers", options, [shown], {"outcomes": raw, "pictures": len(names), "pairs": len(true)})


if __name__ == "__main__":
    main()
