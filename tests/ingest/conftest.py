"""What the tests of builds share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def folder(photos: list[Path], tmp_path: Path) -> Path:
    """Twelve photos in two folders, one of them below the other."""
    for number, photo in enumerate(photos[:12]):
        target = tmp_path / "photos" / ("inner/deep" if number % 2 else ".") / f"{number:02d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, target)
    return tmp_path / "photos"
