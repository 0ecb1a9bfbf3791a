"""Zip and tar files as sources: their members are listed once, and each is read where it stands, in any order.

Nothing is unpacked under a name that an archive gives. A compressed tar file has no places to read from, so it is
decompressed into a temporary file without a name; of these, and of archives fetched from a store, a few are kept at once.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import lzma
import os
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any, Literal

from ingest.sources.content import Stamp, check_size
from model import Limits, UnreadableImage

KINDS: dict[str, Literal["zip", "tar"]] = {".zip": "zip", ".tar": "tar", ".tgz": "tar", ".tbz2": "tar", ".txz": "tar"}
COMPRESSED = (".gz", ".bz2", ".xz")
DECOMPRESSORS: tuple[tuple[bytes, Any], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\0", lzma.open),
)
KEPT_OPEN = 3
CHUNK = 256 * 1024
ENCRYPTED = 1  # a flag of a zip file's member
# What reading a broken archive raises, besides OSError.
BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, NotImplementedError)


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive. ``version`` changes when its bytes may have; ``offset`` is where they begin in a tar file."""

    name: str
    size: int
    version: int
    offset: int = 0


def archive_kind(name: str) -> Literal["zip", "tar"] | None:
    """Return what kind of archive a file name stands for, or None."""
    path = PurePosixPath(name.lower())
    if path.suffix in COMPRESSED and PurePosixPath(path.stem).suffix == ".tar":
        return "tar"
    return KINDS.get(path.suffix)


@dataclass(frozen=True)
class Archive:
    """A zip or tar file, at ``address``; ``open`` opens its bytes, and ``version`` is what tells them from others."""

    kind: Literal["zip", "tar"]
    address: str
    version: Stamp
    open: Callable[[], IO[bytes]]

    def members(self) -> Iterator[Member]:
        """Yield the files in it. Raises OSError where it is damaged, after what could be listed."""
        try:
            if self.kind == "zip":
                for info in self._opened()[0].infolist():
                    if not info.is_dir():
                        yield Member(_plain(info.filename), info.file_size, info.CRC, info.header_offset)
            else:
                with os.fdopen(os.dup(self._opened().fileno()), "rb") as file:
                    file.seek(0)  # whoever read it before shares its place
                    with tarfile.open(fileobj=file, mode="r:") as tar:
                        yield from self._tar_members(tar)
        except BROKEN as error:
            raise OSError(f"the archive is damaged or cut off ({error})") from None

    def read(self, member: Member) -> bytes:
        """Return a member's bytes. Raises UnreadableImage or OSError."""
        try:
            if self.kind == "tar":
                data = os.pread(self._opened().fileno(), member.size, member.offset)
            else:
                opened, infos = self._opened()
                if infos[member.offset].flag_bits & ENCRYPTED:
                    raise UnreadableImage("it is encrypted in the archive")
                data = opened.read(infos[member.offset])
        except BROKEN as error:
            raise UnreadableImage(f"it cannot be unpacked from the archive ({error})") from None
        if len(data) != member.size:
            raise UnreadableImage(
                f"the archive is cut off in the middle of it ({len(data):,} of {member.size:,} bytes)"
            )
        return data

    def _tar_members(self, tar: tarfile.TarFile) -> Iterator[Member]:
        while info := tar.next():
            if info.isreg() and not info.issparse():
                yield Member(_plain(info.name), info.size, self.version[1], info.offset_data)
            tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep all that it has seen

    def _opened(self) -> Any:
        with _OPENING:
            return _open(self)


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """A file in a zip or tar file."""

    archive: Archive
    member: Member
    remote = False

    @property
    def address(self) -> str:
        return f"{self.archive.kind}://{self.member.name}::{self.archive.address}"

    def stamp(self) -> Stamp | None:
        return self.member.size, self.member.version

    def read(self, limits: Limits) -> tuple[bytes, Stamp]:
        check_size(self.member.size, limits)
        return self.archive.read(self.member), (self.member.size, self.member.version)


_OPENING = threading.Lock()


@functools.lru_cache(KEPT_OPEN)
def _open(archive: Archive) -> Any:
    """Open an archive: a ZipFile with its members by their offset, or the bytes of an uncompressed tar file."""
    file = archive.open()
    try:
        if archive.kind == "zip":
            opened = zipfile.ZipFile(file)
            return opened, {info.header_offset: info for info in opened.infolist()}
        beginning = file.read(8)
        file.seek(0)
        for magic, decompress in DECOMPRESSORS:
            if beginning.startswith(magic):
                with file, decompress(file) as packed:
                    file = tempfile.TemporaryFile()  # noqa: SIM115
                    _copy_what_can_be_read(packed, file)
        return file
    except BaseException:
        file.close()
        raise


def _copy_what_can_be_read(packed: Any, target: IO[bytes]) -> None:
    """Decompress up to where it is damaged: the members before that can be read, and listing the rest says so."""
    try:
        while chunk := packed.read1(CHUNK):  # read would keep to itself what stands before the damage
            target.write(chunk)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile):
        pass
    except OSError as error:
        if error.errno is not None:  # the disk's, as when it is full; bz2 has none
            raise
    target.flush()


def _plain(name: str) -> str:
    """Return a member's name as a relative path without ``.`` and ``..``."""
    parts = (part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", "."))
    return "/".join(parts) or name
