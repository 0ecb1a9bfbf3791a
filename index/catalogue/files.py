"""The names of every file in a catalogue folder, their hashes, and where a folder may be put."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from index.errors import CatalogueExists, DiskFull
from index.mapped_file import forget_pages

DATABASE = "catalogue.sqlite"
EXTRACTOR = "extractor"
REPORT = "report.json"
BASE = "base-"
ORIGINALS = "originals"
MERGE_LOCK = f"{DATABASE}.merging"
# 2: the index file has a companion of codes, and meta the SHA-256 of every file. 3: the extractor is an exported graph.
# 4: generations, items that no index has yet, and columns of metadata. 5: where pictures were read, jobs, originals. 6: codes
# of rotated vectors, and their signs. 7: signatures of pictures, and their perceptual hashes.
FORMAT_VERSION = 7
PROBE = 1024**2  # bytes that a disk must take before a build begins


def base_file(generation: int) -> str:
    """Return the name of a generation's index file."""
    return f"{BASE}{generation:06d}.hnsw"


def codes_file(base: str) -> str:
    """Return the name of an index file's companion."""
    return base.removesuffix(".hnsw") + ".codes"


def columns_file(base: str) -> str:
    """Return the name of the file of an index's columns."""
    return base.removesuffix(".hnsw") + ".columns"


def hashes_file(base: str) -> str:
    """Return the name of the file of the perceptual hashes of an index's items."""
    return base.removesuffix(".hnsw") + ".hashes"


def base_files(base: str) -> tuple[str, str, str, str]:
    """Return the names of an index file and its companions."""
    return base, codes_file(base), columns_file(base), hashes_file(base)


def region_files(base: str) -> tuple[str, str]:
    """Return the names of the index of regional vectors that goes with an index file, and of its companion."""
    name = base.removesuffix(".hnsw") + ".regions.hnsw"
    return name, codes_file(name)


def hash_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in a folder that never changes: in a catalogue, all but database and base files."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.relative_to(folder).parts[0].startswith((DATABASE, BASE, ORIGINALS)):
            digests[path.relative_to(folder).as_posix()] = hash_file(path)
            with path.open("rb") as file:
                forget_pages(file)  # hashing has read it in small pages, and a search wants huge ones
    return digests


def hash_file(path: Path) -> str:
    """Return a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush_folder(folder: Path) -> None:
    """Make renames in ``folder`` survive a power cut, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def original_file(folder: Path, sha256: str) -> Path:
    """Return where a catalogue keeps a picture's own file, if it does."""
    return folder / ORIGINALS / sha256[:2] / sha256


def write_original(folder: Path, sha256: str, data: bytes) -> None:
    """Keep a picture's own file, durably; one that is there already is left alone."""
    path = original_file(folder, sha256)
    if path.is_file() and path.stat().st_size == len(data):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(0o644)
            Path(file.name).replace(path)
        except OSError as error:
            Path(file.name).unlink(missing_ok=True)
            raise DiskFull(f"nothing was written, since the disk does not take it ({error}); free some space") from None
    flush_folder(path.parent)


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Have a folder written, and put it in the place of the one that may be there, durably."""
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        made = Path(temporary) / "made"
        write(made)
        for path in made.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        if folder.exists():
            folder.rename(Path(temporary) / "old")
        made.rename(folder)
    flush_folder(folder.parent)


def check_place(folder: Path, *, overwrite: bool) -> None:
    """Raise CatalogueExists unless a build may put a catalogue at ``folder``, OSError where nothing can be written there.

    It is asked before any long work.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        if not (folder / DATABASE).is_file():
            raise CatalogueExists(
                f"{folder} is there already and is not a catalogue, so it is left alone; choose another --out"
            )
        if not overwrite:
            raise CatalogueExists(
                f"{folder} is a catalogue already; choose another --out, or replace it with --overwrite"
            )
    place = next(parent for parent in folder.parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=place) as probe:
            probe.write(bytes(PROBE))
    except OSError as error:
        raise OSError(f"nothing can be written in {place} ({error.strerror}); choose another --out") from None
