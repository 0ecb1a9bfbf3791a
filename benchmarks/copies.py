"""Recall and calibration of the match of altered copies: python -m benchmarks.copies [--quick]

A catalogue of the pictures of ``make data`` (stamps, dishes, photos), without glyphs, blank ones and pictures that are
mirrored copies of others. Each alteration of some of them is a query twice: with its original in the catalogue, and without.
The match model is fitted on pictures of one half of the folders and scored on the other, and the other way round. A decision
is the best match of a query: right where it is the original. Strict: whatever else is wrong; else a picture of the original's
own folder, which may show the same thing, does not count.
"""

from __future__ import annotations

import argparse
import hashlib
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from benchmarks.pictures import CACHE, FOOD, MODEL, SAMPLES, STAMPS, on_white
from benchmarks.report import arguments, deliver, table
from copies import ALTERATIONS, CopyFinder, Subject, alter, fit_match_model
from index import Catalogue, Neighbours, hash_distances, open_catalogue
from ingest import SourceSamples, build_catalogue, find_sources
from model import Extractor, Limits, build_extractor, open_extractor, perceptual_hash, read_picture, sign, turned_hashes

PICTURES = CACHE / "bench" / "copies"
CATALOGUE = CACHE / "catalogues" / "copies"
LEFT_OUT = "symbols"  # letters and other glyphs, of a few strokes
BLANK, TWINS = 8, 50  # grey levels; bits of a hash in which mirrored twins differ at most
PRECISION = 0.99


class Decision(NamedTuple):
    """What was decided of a query: the best match, whether it is the original, of its folder, and whether that was there.

    Or the nearest embedding, whose cosine then is the ``match``.
    """

    alteration: str
    match: float
    right: bool
    same_folder: bool
    present: bool


def main() -> None:
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument(
        "--built-in", action="store_true", help="print the weights of a model fitted on all of the pictures"
    )
    options = arguments(__doc__, own)
    write_pictures()
    with closing(open_copies_catalogue()) as catalogue:
        extractor = open_extractor(catalogue.extractor_folder)
        if options.built_in:
            print(fit_match_model(catalogue, extractor, pictures=600, prior=None))
            return
        decisions, by_cosine = decide(catalogue, extractor, queries=60 if options.quick else 480)
    rows = {name: figures(decisions, strict=name == "strict") for name in ("lenient", "strict")}
    rows |= {f"{name}, cosine alone": figures(by_cosine, strict=name == "strict") for name in ("lenient", "strict")}
    shown = table(
        "copies, one vector", "", "recall at precision 0.99", "copies among matches ≥ 0.9", "ECE", "best is right"
    )
    for name, row in rows.items():
        shown.add_row(name, *(f"{row[key]:.3f}" for key in ("recall", "high", "ece", "top")))
    each = table("recall of each alteration at precision 0.99, strict", "", "recall")
    for name, value in by_alteration(decisions, rows["strict"]["threshold"]).items():
        each.add_row(name, f"{value:.2f}")
    deliver("copies", options, [shown, each], {"figures": rows, "decisions": [list(one) for one in decisions]})


def write_pictures() -> None:
    """Write the pictures as PNG files in folders that are their labels; done once."""
    if (PICTURES / ".ready").is_file():
        return
    hashes: list[NDArray[np.uint64]] = []
    for folder, pattern in ((STAMPS, "*.png"), (FOOD, "*.jpeg"), (SAMPLES, "*.jpg")):
        for file in sorted(folder.rglob(pattern)):
            label = file.parent.relative_to(STAMPS) if folder == STAMPS else Path(folder.parts[-1], file.name[:1])
            image = on_white(Image.open(file))
            luma = sign(image)
            if label.parts[0] == LEFT_OUT or luma.std() < BLANK:
                continue
            if hashes and hash_distances(np.stack(hashes), turned_hashes(luma)).min() <= TWINS:
                continue
            hashes.append(perceptual_hash(luma))
            path = PICTURES / label / f"{file.stem}-{hashlib.sha256(str(file).encode()).hexdigest()[:6]}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    (PICTURES / ".ready").touch()


def open_copies_catalogue() -> Catalogue:
    """Open the catalogue of the pictures, built if it is not there."""
    if not CATALOGUE.is_dir():
        sources = find_sources([PICTURES])
        with build_extractor(MODEL, None, SourceSamples(sources, Limits())) as extractor:
            build_catalogue(sources, CATALOGUE, extractor, labels=True)
    return open_catalogue(CATALOGUE)


def decide(catalogue: Catalogue, extractor: Extractor, queries: int) -> tuple[list[Decision], list[Decision]]:
    """Fit on one half of the folders and decide on pictures of the other, both ways; by match, and by cosine alone."""
    snapshot = catalogue.snapshot()
    items = catalogue.items(snapshot.base.columns.ids.tolist())
    half = {item_id: hashlib.sha256(folder_of(one.key).encode()).digest()[0] % 2 for item_id, one in items.items()}
    chosen = np.random.default_rng(1).permutation(sorted(items))[:queries].tolist()
    found, by_cosine = [], []
    for side in (0, 1):
        others = [item_id for item_id, where in half.items() if where != side]
        prior = fit_match_model(catalogue, extractor, among=others, pictures=300, prior=None)
        model = fit_match_model(catalogue, extractor, among=others, prior=prior)
        finder = CopyFinder(snapshot, catalogue.signatures, model)
        for item_id in track([one for one in chosen if half[one] == side], f"half {side + 1}", transient=True):
            original = read_picture((PICTURES / items[item_id].key).read_bytes()).image
            for name, subject in altered(original, extractor, item_id):
                for present in (True, False):
                    without = frozenset() if present else frozenset([item_id])
                    best = finder.find(subject, 0.0, without=without)[0]
                    same = folder_of(items[best.id].key) == folder_of(items[item_id].key)
                    found.append(Decision(name, best.match, best.id == item_id, same, present))
                    (near,) = snapshot.search(subject.vector[None], 2)
                    label, cosine = _first(near, without)
                    same = folder_of(items[label].key) == folder_of(items[item_id].key)
                    by_cosine.append(Decision(name, cosine, label == item_id, same, present))
    return found, by_cosine


def _first(near: Neighbours, without: frozenset[int]) -> tuple[int, float]:
    """Return the nearest item that is not left out, and its cosine."""
    pairs = zip(near.labels.tolist(), near.distances.tolist(), strict=True)
    label, distance = next(pair for pair in pairs if pair[0] not in without)
    return label, 1 - distance


def altered(original: Image.Image, extractor: Extractor, seed: int) -> list[tuple[str, Subject]]:
    """Return a picture altered in each way, as queries."""
    look = extractor.card.preprocessing
    images = [read_picture(alter(original, name, seed + 10_000), enough=look.enough).image for name in ALTERATIONS]
    vectors = extractor.embed(np.stack([look.to_pixels(image) for image in images]))
    subjects = [Subject(vector, sign(image)) for vector, image in zip(vectors, images, strict=True)]
    return list(zip(ALTERATIONS, subjects, strict=True))


def folder_of(key: str) -> str:
    """Return the folder that a picture is in."""
    return key.rpartition("/")[0]


def figures(decisions: list[Decision], *, strict: bool) -> dict[str, Any]:
    """Return the recall at precision 0.99 and its threshold, and how well the match is calibrated."""
    counted = [one for one in decisions if strict or one.right or not one.same_folder]
    match, right = np.array([one.match for one in counted]), np.array([one.right for one in counted])
    order = np.argsort(-match, kind="stable")
    hits = np.cumsum(right[order])
    good = np.flatnonzero(hits / np.arange(1, len(order) + 1) >= PRECISION)
    present = sum(one.present for one in decisions)
    bins = np.minimum((match * 10).astype(int), 9)
    gaps = [abs(match[bins == at].mean() - right[bins == at].mean()) * (bins == at).sum() for at in set(bins.tolist())]
    return {
        "recall": float(hits[good[-1]] / present) if len(good) else 0.0,
        "threshold": float(match[order][good[-1]]) if len(good) else 1.0,
        "high": float(right[match >= 0.9].mean()),
        "ece": float(sum(gaps) / len(match)),
        "top": float(right.sum() / present),
        "decisions": len(counted),
    }


def by_alteration(decisions: list[Decision], threshold: float) -> dict[str, float]:
    """Return the recall of each alteration where the original is there."""
    return {
        name: float(
            np.mean(
                [one.right and one.match >= threshold for one in decisions if one.present and one.alteration == name]
            )
        )
        for name in ALTERATIONS
    }


if __name__ == "__main__":
    main()
