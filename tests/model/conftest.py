"""What the tests of the model share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model import Extractor, read_picture
from model.engines.torch import TorchEngine


@pytest.fixture(scope="module")
def pixels(photos: list[Path], reference: TorchEngine) -> np.ndarray:
    look = reference.card.preprocessing
    return np.stack([look.to_pixels(read_picture(photo.read_bytes()).image) for photo in photos])


@pytest.fixture
def folder(extractor: Extractor, tmp_path: Path) -> Path:
    """A copy of the extractor's folder, to be damaged."""
    extractor.save(tmp_path / "extractor")
    return tmp_path / "extractor"
