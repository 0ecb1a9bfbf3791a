"""Fit a match model on a catalogue's own pictures: altered copies of some, against everything else that is near to them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from copies.alterations import ALTERATIONS, alter
from copies.finder import CopyFinder, Subject, as_luma
from copies.match import BUILT_IN, MatchModel, features, fit_logistic, match_model_of
from index import (
    Catalogue,
    Snapshot,
    correlations,
    hash_distances,
    hashes_of,
    near_hashes,
    open_catalogue,
    unit_rows,
    write_match_model,
)
from model import Extractor, read_picture, sign, turned_hashes

PICTURES, SHARE = 100, 4  # whose copies a model is fitted on: so many, but no more than every fourth,
LEAST_PICTURES = 15  # but so many in any case
COPIES = 5  # of each, by as many alterations, which take turns
FEWEST = 30  # items that it takes: of fewer there is nothing to learn
LOOKED_AT = 3  # nearest items of a copy, and as many nearest by hash
DOUBTFUL = 0.5  # what matches a picture so well, by what is known before, may be a copy of it
PROBED = 200  # items whose nearest other tells how close items are
GROWN = 2.0  # times as many items as at the fit, or that part of them, is drift
MOVED = 0.05  # so is a median cosine to the nearest other that has moved by more
Progress = Callable[[str, int, int], None]  # stage, done, total
Features = NDArray[np.float64]


def fit_match_model(
    catalogue: Catalogue,
    extractor: Extractor,
    *,
    pictures: int | None = None,
    among: Sequence[int] | None = None,
    prior: MatchModel | None = BUILT_IN,
    progress: Progress = lambda *_: None,
) -> MatchModel:
    """Fit the match model of a catalogue, whose extractor this is; the built-in one for a catalogue of few items.

    The pictures are thumbnails of items, or of those ``among`` them. It is calibrated for pictures of which every second one
    has a copy in the catalogue. What is a copy of one of these pictures by the ``prior``, which the model stays near to, is
    left out: catalogues have copies, and none of them says so. With None there are known to be none.
    ``progress``: "match" (copies). Raises DamagedIndex.
    """
    snapshot = catalogue.snapshot()
    ids = item_ids(snapshot)
    if len(ids) < FEWEST:
        return BUILT_IN
    count = pictures or min(PICTURES, max(LEAST_PICTURES, len(ids) // SHARE))
    chosen = np.sort(np.random.default_rng(0).permutation(ids if among is None else among)[:count]).tolist()
    rows: list[Features] = []
    targets: list[NDArray[np.bool_]] = []
    total = len(chosen) * COPIES
    alterations = itertools.cycle(ALTERATIONS)
    finder = None if prior is None else CopyFinder(snapshot, catalogue.signatures, prior)
    progress("match", 0, total)
    with ThreadPoolExecutor() as pool:
        for done, item_id in enumerate(chosen, 1):
            thumbnail = catalogue.thumbnail(item_id)
            if thumbnail is not None:
                names = list(itertools.islice(alterations, COPIES))
                found = list(_learn(catalogue, snapshot, extractor, item_id, thumbnail, names, finder, pool))
                rows += [one for one, _ in found]
                targets += [is_copy for _, is_copy in found]
            progress("match", done * COPIES, total)
    return _fitted(np.concatenate(rows), np.concatenate(targets), len(chosen), snapshot, prior)


def _fitted(
    rows: Features, targets: NDArray[np.bool_], pictures: int, snapshot: Snapshot, prior: MatchModel | None
) -> MatchModel:
    if targets.all() or not targets.any():
        return BUILT_IN
    # What is no copy is met with and without the original there, a copy only where it is.
    weights, constant = fit_logistic(rows, targets, np.where(targets, 1.0, 2.0), prior)
    fingerprint = snapshot.generation.fingerprint
    return MatchModel(tuple(weights.tolist()), constant, fingerprint, pictures, len(snapshot), nearest_cosine(snapshot))


def refit_match_model(
    folder: Path, open_extractor: Callable[[Path], Extractor], progress: Progress = lambda *_: None
) -> MatchModel | None:
    """Fit the match model of the catalogue in ``folder`` where it has none or has drifted, keep it, and return it, or None.

    ``open_extractor`` opens the extractor in a folder, if there is something to fit. Raises DamagedIndex, CatalogueBusy.
    """
    with closing(open_catalogue(folder)) as catalogue:
        snapshot = catalogue.snapshot()
        if not has_drifted(snapshot, match_model_of(catalogue)):
            return None
        model = fit_match_model(catalogue, open_extractor(catalogue.extractor_folder), progress=progress)
    # The last to close a database moves its log into it, which a reader cannot.
    write_match_model(folder, snapshot.generation.generation, model.to_json())
    return model


def _learn(
    catalogue: Catalogue,
    snapshot: Snapshot,
    extractor: Extractor,
    item_id: int,
    thumbnail: bytes,
    names: Sequence[str],
    finder: CopyFinder | None,
    pool: ThreadPoolExecutor,
) -> Iterator[tuple[Features, NDArray[np.bool_]]]:
    """Yield the features of pairs of what is near to an item's copies, altered by ``names``, and which are of the item."""
    with Image.open(BytesIO(thumbnail)) as decoded:
        original = decoded.convert("RGB")
    look = extractor.card.preprocessing

    def read(name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        image = read_picture(alter(original, name, item_id), enough=look.enough).image
        return look.to_pixels(image), sign(image)

    copies = list(pool.map(read, names))
    vectors = extractor.embed(np.stack([pixels for pixels, _ in copies]))
    nearest = snapshot.search(vectors, LOOKED_AT + 1)
    same = _own_copies(catalogue, snapshot, item_id, finder)
    for (_, luma), vector, found in zip(copies, vectors, nearest, strict=True):
        turned = turned_hashes(luma)
        near, _ = near_hashes(snapshot, turned)
        ids = dict.fromkeys([item_id, *found.labels.tolist(), *near[: LOOKED_AT + 1].tolist()])
        pairs = [one for one in ids if one == item_id or one not in same]
        yield _features(catalogue, snapshot, vector, luma, turned, pairs), np.array([one == item_id for one in pairs])


def _features(
    catalogue: Catalogue,
    snapshot: Snapshot,
    vector: NDArray[np.float32],
    luma: NDArray[np.uint8],
    turned: NDArray[np.uint64],
    ids: Sequence[int],
) -> Features:
    cosines = unit_rows(snapshot.vectors(ids)) @ unit_rows(vector[None])[0]
    distances = hash_distances(hashes_of(snapshot, ids), turned)
    stored = catalogue.signatures.get(ids)
    fits = correlations(luma, np.stack([as_luma(stored[one].luma) for one in ids]))
    return features(cosines, distances, fits)


def _own_copies(catalogue: Catalogue, snapshot: Snapshot, item_id: int, finder: CopyFinder | None) -> set[int]:
    """Return which items are copies of one: nothing is to be learnt from a copy that is called none."""
    if finder is None:
        return set()
    signed = catalogue.signatures.get([item_id])
    luma = as_luma(signed[item_id].luma) if signed else None
    (vector,) = snapshot.vectors([item_id])
    return {one.id for one in finder.find(Subject(vector, luma), DOUBTFUL, without=frozenset([item_id]))}


def has_drifted(snapshot: Snapshot, model: MatchModel) -> bool:
    """Return whether a catalogue has become another since its match model was fitted, so that it is to be fitted again."""
    items = len(snapshot)
    if items < FEWEST:
        return False
    if not model.pictures or not items / GROWN < model.items < items * GROWN:
        return True
    return abs(nearest_cosine(snapshot) - model.nearest) > MOVED


def nearest_cosine(snapshot: Snapshot) -> float:
    """Return the median cosine of some items to their nearest other."""
    ids = item_ids(snapshot)
    some = ids[np.unique(np.linspace(0, len(ids) - 1, min(PROBED, len(ids))).astype(int))].tolist()
    vectors = snapshot.vectors(some)
    nearest = []
    for item_id, vector, found in zip(some, vectors, snapshot.search(vectors, 2), strict=True):
        if others := [one for one in found.labels.tolist() if one != item_id]:
            nearest.append(float((unit_rows(snapshot.vectors(others[:1])) @ unit_rows(vector[None])[0])[0]))
    return float(np.median(nearest)) if nearest else 0.0


def item_ids(snapshot: Snapshot) -> NDArray[np.int64]:
    """Return the ids of all items, int64 [n], ascending."""
    merged = snapshot.base.columns.ids
    there = merged if not snapshot.removed else merged[~np.isin(merged, list(snapshot.removed))]
    return np.append(there, snapshot.unmerged.ids)
