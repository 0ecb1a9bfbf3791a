"""The object as query finds the picture that it was pasted into, and in which box."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index import Catalogue
from ingest import build_catalogue, find_sources
from model import WINDOWS, Region, WindowEncoder, open_extractor
from search import Found, LocalEmbedder, PictureQuery, SearchEngine, Shaping, open_catalogue_with_extractor
from tests.search.conftest import STAMPS
from tests.search.test_regions import TRIALS, choose_objects, paste

SIZES = ((0.15, 0.25, 0.95), (0.05, 0.08, 0.80))  # the object's share of the area, and how often it is to be found


def test_windows_are_boxes_in_the_picture() -> None:
    assert len(WINDOWS) == len(set(WINDOWS)) == 14
    for x, y, width, height in WINDOWS:
        Region(x, y, width, height)
        assert x + width <= 1 + 1e-9
        assert y + height <= 1 + 1e-9


def overlap(box: tuple[float, ...], region: Region) -> float:
    """Return the share of the smaller of two boxes that is in the other."""
    x, y, width, height = box
    across = min(x + width, region.x + region.width) - max(x, region.x)
    down = min(y + height, region.y + region.height) - max(y, region.y)
    return max(0.0, across) * max(0.0, down) / min(width * height, region.width * region.height)


@pytest.mark.soak
def test_an_object_finds_the_pictures_that_show_it_and_where(
    stamps: Catalogue, photos: list[Path], tmp_path: Path
) -> None:
    """Among 179 pictures: those with objects pasted in, and the rooms without."""
    rooms = [path for path in photos if path.parent.name != "imagenet"]
    made: dict[str, tuple[Path, Region]] = {}
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for least, most, _ in SIZES:
        rng = np.random.default_rng(int(100 * least))
        for number, one in enumerate(choose_objects(rng)):
            data, region = paste(one, rooms[rng.integers(len(rooms))], rng.uniform(least, most), rng)
            made[name := f"{least}-{number}.jpg"] = (one, region)
            (pictures / name).write_bytes(data)
    extractor = open_extractor(stamps.extractor_folder)
    extractor = replace(extractor, windows=WindowEncoder(extractor.folder, extractor.card))
    build_catalogue(find_sources([pictures, *photos]), tmp_path / "catalogue", extractor)
    catalogue, card = open_catalogue_with_extractor(tmp_path / "catalogue")
    engine = SearchEngine(catalogue, card, LocalEmbedder(lambda: extractor.engine))
    for least, most, wanted in SIZES:
        names = [name for name in made if name.startswith(f"{least}-")]
        queries = [PictureQuery((STAMPS / made[name][0]).read_bytes()) for name in names]
        shares = {}
        for parts in ("items", None):
            results = asyncio.run(engine.search(queries, Shaping(5, parts=parts))).results
            boxes = [
                {hit.item.key.split("/")[-1]: hit.box for hit in one.hits} for one in results if isinstance(one, Found)
            ]
            assert len(boxes) == TRIALS
            shares[parts] = np.mean([name in found for name, found in zip(names, boxes, strict=True)])
            if parts:
                right = [
                    overlap(box, made[name][1]) >= 0.5
                    for name, found in zip(names, boxes, strict=True)
                    if (box := found.get(name))
                ]
        print(
            f"{least:.0%} to {most:.0%} of the area: among parts {shares['items']:.3f}, the right box in {np.mean(right):.3f}"
            f" of these; among whole pictures {shares[None]:.3f}"
        )
        assert shares["items"] >= wanted
        assert np.mean(right) >= 0.9
        assert shares["items"] > shares[None]
    catalogue.close()
