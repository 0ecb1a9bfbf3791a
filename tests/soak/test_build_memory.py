"""Nothing of the pictures stays in memory while they are embedded."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from tests.serving import ROOT

FEW, MANY = 300, 3000
SLACK = 30 * 2**20  # bytes: what an allocator keeps, and the list of files


def peak(count: int, catalogue: Path, folder: Path) -> int:
    """The most anonymous memory, in bytes, while so many pictures are added: a build does the same once it has exported."""
    copy = shutil.copytree(catalogue, folder / "catalogue", ignore=shutil.ignore_patterns("*-wal", "*-shm"))
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    for number in range(count):
        blocks = np.random.default_rng(number).integers(0, 255, (6, 8, 3), np.uint8)
        Image.fromarray(blocks).resize((480, 360), Image.Resampling.BICUBIC).save(pictures / f"{number}.jpg")
    command = [sys.executable, "cli.py", "add", str(copy), str(pictures)]
    process = psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    most = 0
    while process.poll() is None:
        try:
            some = process.memory_info()
            most = max(most, some.rss - some.shared)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.02)
    assert process.wait() == 0
    return most


def test_memory_does_not_grow_with_the_pictures_that_are_embedded(catalogue: Path, tmp_path: Path) -> None:
    few, many = peak(FEW, catalogue, tmp_path / "few"), peak(MANY, catalogue, tmp_path / "many")
    print(f"peak of {FEW} pictures: {few / 2**20:.0f} MB, of {MANY}: {many / 2**20:.0f} MB")
    assert many - few < SLACK
