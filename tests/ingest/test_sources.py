"""The pictures that an extractor is measured on are spread over the sources, and those that cannot be read left out."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from index import EmptyCatalogue
from ingest.sources import SourceSamples, find_sources
from model import Extractor, Limits, read_picture


def test_samples_are_spread_and_readable(extractor: Extractor, photos: list[Path], tmp_path: Path) -> None:
    for place, photo in enumerate(photos[:12]):
        shutil.copy(photo, tmp_path / f"{place:02}.jpg")
    for place in (0, 4):
        (tmp_path / f"{place:02}.jpg").write_bytes(b"no picture")
    samples = SourceSamples(find_sources([tmp_path]), Limits())
    look = extractor.card.preprocessing

    def pixels(place: int) -> np.ndarray:
        return look.to_pixels(read_picture(photos[place].read_bytes(), enough=look.enough).image)

    # A step of four: 0 and 4 cannot be read, 8 can; then those next to them.
    assert np.array_equal(samples(extractor.card, 3), [pixels(8), pixels(1), pixels(5)])
    assert len(samples(extractor.card, 100)) == 10


def test_without_a_readable_picture_there_is_nothing_to_measure_on(extractor: Extractor, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(EmptyCatalogue, match="none of 1 files could be read"):
        SourceSamples(find_sources([tmp_path]), Limits())(extractor.card, 4)
