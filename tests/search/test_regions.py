"""A box in a picture finds what it shows: objects pasted into photos of rooms, by the box and by the whole picture."""

from __future__ import annotations

import asyncio
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from index import Catalogue
from model import Region, open_engine, read_picture
from search import Found, LocalEmbedder, PictureQuery, SearchEngine, Shaping, open_catalogue_with_extractor
from tests.search.conftest import STAMPS

TRIALS = 60
KINDS = ("animals", "clothes", "food", "hobbies", "household", "plants", "vehicles")  # whose pictures are of objects


def paste(stamp: Path, room: Path, share: float, rng: np.random.Generator) -> tuple[bytes, Region]:
    """Paste what a stamp shows into a photo, over ``share`` of its area; return the picture and the object's box."""
    with Image.open(stamp) as opened:
        cut = opened.convert("RGBA")
    cut = cut.crop(cut.getchannel("A").point(lambda alpha: 255 * (alpha > 128)).getbbox())
    photo = read_picture(room.read_bytes()).image.copy()
    scale = (share * photo.width * photo.height / (cut.width * cut.height)) ** 0.5
    scale = min(scale, 0.95 * photo.width / cut.width, 0.95 * photo.height / cut.height)
    cut = cut.resize((max(1, round(cut.width * scale)), max(1, round(cut.height * scale))), Image.Resampling.LANCZOS)
    left, top = (int(rng.integers(0, room - own + 1)) for room, own in zip(photo.size, cut.size, strict=True))
    photo.paste(cut, (left, top), cut)
    stored = BytesIO()
    photo.save(stored, "JPEG", quality=92)
    box = (left / photo.width, top / photo.height, cut.width / photo.width, cut.height / photo.height)
    return stored.getvalue(), Region(*box)


def choose_objects(rng: np.random.Generator) -> list[Path]:
    """Return stamps of objects, one for each trial."""
    objects = sorted(path for kind in KINDS for path in (STAMPS / kind).rglob("*.png"))
    return [objects[place] for place in rng.choice(len(objects), TRIALS, replace=False)]


@pytest.mark.soak
@pytest.mark.parametrize(("least", "most"), [(0.15, 0.25), (0.05, 0.08)])
def test_a_box_finds_the_picture_of_what_it_shows(
    least: float, most: float, stamps: Catalogue, photos: list[Path]
) -> None:
    catalogue, card = open_catalogue_with_extractor(stamps.folder)
    engine = SearchEngine(catalogue, card, LocalEmbedder(lambda: open_engine(catalogue.extractor_folder, many=True)))
    rng = np.random.default_rng(int(100 * least))
    rooms = [path for path in photos if path.parent.name != "imagenet"]
    chosen = choose_objects(rng)
    made = [paste(one, rooms[rng.integers(len(rooms))], rng.uniform(least, most), rng) for one in chosen]
    found = {}
    for name, queries in {
        "box": [PictureQuery(data, box) for data, box in made],
        "whole": [PictureQuery(data) for data, _ in made],
    }.items():
        results = asyncio.run(engine.search(queries, Shaping(5))).results
        assert all(isinstance(one, Found) for one in results)
        hits = [[hit.item.key for hit in one.hits] for one in results if isinstance(one, Found)]
        found[name] = float(
            np.mean([str(one.relative_to(STAMPS)) in keys for one, keys in zip(chosen, hits, strict=True)])
        )
    print(
        f"{least:.0%} to {most:.0%} of the area: by the box {found['box']:.3f}, by the whole picture {found['whole']:.3f}"
    )
    assert found["box"] >= 0.95
    assert found["box"] > found["whole"] + 0.15
    catalogue.close()
