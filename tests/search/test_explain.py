"""What each position adds to a similarity: the parts sum to the cosine, and the strongest is where the object is."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from index import Catalogue
from model import MapUnavailable, Precision, build_extractor, open_engine, open_map_engine, read_card, read_picture
from model.engines.openvino_compile import cpu_has_bf16
from model.fidelity import read_golden
from search import (
    Admitted,
    Explainer,
    ItemQuery,
    LocalEmbedder,
    LocalMaps,
    PictureQuery,
    SearchEngine,
    Shaping,
    TextQuery,
    contrast_of,
    mean_of,
    open_catalogue_with_extractor,
    parts_of,
)
from tests.search.test_regions import TRIALS, choose_objects, paste

EXACT, ROUGH = True, False
needs_bf16 = pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU has no bf16")


@pytest.mark.parametrize(
    ("model", "precision", "exact"),
    [
        ("resnet50", "f32", EXACT),
        ("tf_efficientnet_lite0", "f32", EXACT),
        pytest.param("tf_efficientnet_lite0", "bf16", EXACT, marks=needs_bf16),
        ("tf_efficientnet_lite0", "int8", EXACT),
        ("vit_tiny_patch16_224", "f32", ROUGH),
    ],
)
def test_parts_sum_to_the_cosine(
    model: str, precision: Precision, exact: bool, photos: list[Path], tmp_path: Path
) -> None:
    weights = None
    if model != "tf_efficientnet_lite0":
        torch.manual_seed(0)
        weights = tmp_path / "weights.pth"
        torch.save(timm.create_model(model).state_dict(), weights)

    def samples(card: object, count: int) -> np.ndarray:
        look = card.preprocessing  # type: ignore[attr-defined]
        return np.stack([look.to_pixels(read_picture(path.read_bytes()).image) for path in photos[:12]])

    with build_extractor(model, weights, samples, precision=precision) as extractor:
        maps = open_map_engine(extractor.folder, extractor.card, 2)
        pixels, _ = read_golden(extractor.folder, extractor.card)
        vectors = extractor.embed(pixels).astype(np.float64)
        for picture, vector in zip(pixels, vectors, strict=True):
            found = maps.compute(picture)
            assert found.exact is exact
            for other in vectors:
                total = float(parts_of(found, other.astype(np.float32)).sum())
                cosine = vector @ other / np.linalg.norm(vector) / np.linalg.norm(other)
                assert not exact or abs(total - cosine) < 1e-6


def test_a_network_of_one_size_says_so(tmp_path: Path) -> None:
    torch.save(timm.create_model("vit_tiny_patch16_224").state_dict(), tmp_path / "weights.pth")

    def samples(card: object, count: int) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)

    with (
        build_extractor("vit_tiny_patch16_224", tmp_path / "weights.pth", samples, precision="f32") as extractor,
        pytest.raises(MapUnavailable, match="one size"),
    ):
        open_map_engine(extractor.folder, extractor.card, 2, scale=2)


@pytest.mark.soak
@pytest.mark.parametrize(("scale", "least"), [(1, 0.85), (2, 0.95)])
def test_the_strongest_part_is_where_the_object_is(
    scale: int, least: float, stamps: Catalogue, photos: list[Path]
) -> None:
    folder = stamps.extractor_folder
    card = read_card(folder)
    engine, maps = open_engine(folder), open_map_engine(folder, card, 2, scale)
    mean = mean_of(stamps.index)
    rng = np.random.default_rng(7)
    rooms = [path for path in photos if path.parent.name != "imagenet"]
    inside, covered = [], []
    for one in choose_objects(rng):
        data, box = paste(one, rooms[rng.integers(len(rooms))], rng.uniform(0.15, 0.25), rng)
        image = read_picture(data).image
        (vector,) = engine.embed(card.preprocessing.to_pixels(read_picture(one.read_bytes()).image)[None])
        parts = contrast_of(maps.compute(maps.preprocessing.to_pixels(image)), vector, mean)
        row, column = np.unravel_index(parts.argmax(), parts.shape)
        left, top, width, height = maps.preprocessing.view(*image.size)
        x = left + (column + 0.5) / parts.shape[1] * width
        y = top + (row + 0.5) / parts.shape[0] * height
        inside.append(box.x <= x <= box.x + box.width and box.y <= y <= box.y + box.height)
        covered.append(box.width * box.height)
    print(f"{maps.preprocessing.size[0]} pixels: {np.mean(inside):.3f} in the box, which covers {np.mean(covered):.2f}")
    assert len(inside) == TRIALS
    assert np.mean(inside) >= least


def test_the_view_is_what_the_network_sees(stamps: Catalogue) -> None:
    """A dot in a picture comes out where the view says, cropped and padded, wide and tall."""
    look = read_card(stamps.extractor_folder).preprocessing
    crop = type(look)(look.size, look.interpolation, 0.875, "center", look.mean, look.std)
    shapes: list[tuple[int, int]] = [(640, 400), (400, 640), (500, 500)]
    for one in (look, crop):
        for width, height in shapes:
            image = Image.new("RGB", (width, height))
            image.paste((255, 255, 255), (width // 2, height // 2, width // 2 + 20, height // 2 + 20))
            seen = one.to_pixels(image).sum(axis=2) > 600
            rows, columns = np.nonzero(seen)
            left, top, wide, tall = one.view(width, height)
            assert left + (columns.mean() + 0.5) / 224 * wide == pytest.approx((width / 2 + 10) / width, abs=0.01)
            assert top + (rows.mean() + 0.5) / 224 * tall == pytest.approx((height / 2 + 10) / height, abs=0.01)


class Counted:
    """An admission that counts what it lets in and what was finished, and refuses where it is told to."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.let_in, self.finished, self.refuses = 0, 0, refuses

    @contextmanager
    def admit(self, count: int) -> Iterator[Admitted]:
        """Let work in, or raise."""
        if self.refuses:
            raise RuntimeError("refused")
        self.let_in += count
        admitted = Admitted()
        yield admitted
        self.finished += admitted.finished

    def reset(self) -> None:
        """Forget nothing."""


def test_maps_are_admitted_for_what_they_cost(catalogue: Path, photos: list[Path]) -> None:
    """A map at twice the edge takes the network as long as four pictures."""
    opened, card = open_catalogue_with_extractor(catalogue)
    maps, data = LocalMaps(opened.extractor_folder, card, 2), photos[0].read_bytes()
    admission = Counted()
    embedder = LocalEmbedder(lambda: open_engine(opened.extractor_folder))
    engine = SearchEngine(opened, card, embedder, admission=admission, maps=maps)
    explainer = Explainer(engine, opened, card, maps, admission=admission)
    pictures, parts = [PictureQuery(data), PictureQuery(b"none")], Shaping(3, parts="query")

    def counts(work: Coroutine[Any, Any, object]) -> tuple[int, int]:
        admission.let_in = admission.finished = 0
        asyncio.run(work)
        return admission.let_in, admission.finished

    assert counts(engine.search(pictures, parts)) == (8, 4)
    assert counts(explainer.explain(ItemQuery(1), 2)) == (2, 2)
    assert counts(explainer.explain(TextQuery("dog"), 2, 2)) == (4, 4)
    admission.refuses = True
    for work in (engine.search(pictures, parts), explainer.explain(ItemQuery(1), 2)):
        with pytest.raises(RuntimeError, match="refused"):
            asyncio.run(work)
    opened.close()
