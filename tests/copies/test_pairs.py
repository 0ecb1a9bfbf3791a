"""Pairs: what is kept of each, from whichever side it is seen, and which are read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from copies import BUILT_IN, PairStore
from index import Catalogue, CatalogueBusy, Entry, Signature, open_catalogue, start_catalogue
from model import perceptual_hash, read_picture, sign

DIM = 8
A, B = 1, 2


@pytest.fixture
def catalogue_of_a_crop(photos: list[Path], tmp_path: Path) -> Iterator[Catalogue]:
    """A picture, a crop of it, and five others whose embeddings are nearer to the crop's than the picture's is."""
    image = read_picture(photos[0].read_bytes()).image
    width, height = image.size
    crop = image.crop((width // 4, height // 4, width // 4 + 2 * width // 3, height // 4 + 2 * height // 3))
    others = [read_picture(photo.read_bytes()).image for photo in photos[10:15]]
    rows = np.eye(DIM, dtype=np.float32)
    vectors = [rows[0], 0.81 * rows[0] + 0.586 * rows[1]]
    vectors += [0.83 * vectors[1] + 0.558 * rows[2 + at] for at in range(5)]
    with closing(build(tmp_path, [sign(one) for one in (image, crop, *others)], vectors)) as opened:
        yield opened


def build(folder: Path, lumas: Sequence[NDArray[np.uint8]], vectors: Sequence[NDArray[np.float32]]) -> Catalogue:
    writer = start_catalogue(folder / "catalogue", model="m", fingerprint="f", dim=DIM)
    writer.extractor_folder.mkdir(exist_ok=True)
    writer.add([entry(at, *one) for at, one in enumerate(zip(lumas, vectors, strict=True))])
    writer.build_index()
    writer.publish({})
    return open_catalogue(folder / "catalogue")


def entry(number: int, luma: NDArray[np.uint8], vector: NDArray[np.float32]) -> Entry:
    signature = Signature(luma.tobytes(), perceptual_hash(luma).tobytes(), number.to_bytes(16, "big"), 1000, "JPEG")
    return Entry(f"{number}", vector, {}, f"{number:064x}", b"\xff\xd8", 10, 10, signature=signature)


def test_what_one_side_of_a_pair_has_found_stays(catalogue_of_a_crop: Catalogue, tmp_path: Path) -> None:
    with closing(PairStore(tmp_path / "pairs.sqlite", catalogue_of_a_crop)) as store:
        store.update()
        pairs = store.read(BUILT_IN)
    matches = {
        (first, second): match for first, second, match in zip(pairs.first, pairs.second, pairs.match, strict=True)
    }
    assert matches[A, B] > 0.5  # the crop itself looks at its four nearest, of which none is a copy
    assert len(matches) == 6
    assert all(first < second for first, second in matches)


def test_pairs_that_another_process_writes_are_busy(
    catalogue_of_a_crop: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("copies.pairs.BUSY_SECONDS", 0.1)
    path = tmp_path / "pairs.sqlite"
    with closing(PairStore(path, catalogue_of_a_crop)) as store, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CatalogueBusy, match="another process has been writing"):
            store.update()


def test_pairs_are_read_that_match_or_are_alike(catalogue_of_a_crop: Catalogue, tmp_path: Path) -> None:
    with closing(PairStore(tmp_path / "pairs.sqlite", catalogue_of_a_crop)) as store:
        store.update()
        every, copies, alike = store.read(BUILT_IN), store.read(BUILT_IN, 0.5), store.read(BUILT_IN, 2, 0.82)
    assert len(every.first) == 6
    assert (copies.first.tolist(), copies.second.tolist()) == ([A], [B])
    assert alike.first.tolist() == [B] * 5


@pytest.mark.parametrize("hashed", [0, 1000])
def test_every_pair_of_many_copies_is_found(
    hashed: int, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("copies.pairs.HASHED", hashed)
    rng = np.random.default_rng(0)
    luma = sign(read_picture(photos[0].read_bytes()).image).astype(float)
    lumas = [np.clip(luma + rng.normal(0, 3, luma.shape), 0, 255).astype(np.uint8) for _ in range(40)]
    vectors = [np.eye(DIM, dtype=np.float32)[0] + rng.normal(0, 0.05, DIM).astype(np.float32) for _ in range(40)]
    path = tmp_path / "pairs.sqlite"
    with closing(build(tmp_path, lumas, vectors)) as catalogue, closing(PairStore(path, catalogue)) as store:
        store.update()
        assert len(store.read(BUILT_IN, 0.9).first) == 40 * 39 // 2  # more than the 16 nearest of each
