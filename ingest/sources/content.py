"""Where the bytes of a picture are: in a file, in an archive, in a store, or at a URL."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from model import ImageTooLarge, Limits, UnreadableImage, read_file


class Fetch(Protocol):
    """Fetches http and https URLs. ``private``: also from one's own network; then stores may be of any kind."""

    private: bool

    def __call__(self, url: str) -> bytes:
        """Return what is at a URL. Raises OSError or ImageError."""

    def __hash__(self) -> int:
        """Return the hash of the object itself."""


Stamp = tuple[int, int]  # bytes, and a number that changes with them: a modification time in ns, a hash, or a checksum
URL_SCHEMES = ("http://", "https://")


class Content(Protocol):
    """The bytes of one picture."""

    @property
    def address(self) -> str:
        """Where they are, so that they can be read again: a path, a URL, or an archive's member as fsspec writes it."""
        ...

    @property
    def remote(self) -> bool:
        """Whether reading them waits for a network."""
        ...

    def stamp(self) -> Stamp | None:
        """Return what tells these bytes from others that were there before, or None where reading has to say."""
        ...

    def read(self, limits: Limits) -> tuple[bytes, Stamp]:
        """Read them, and their stamp. Raises ImageError or OSError."""
        ...


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of this machine."""

    path: Path
    remote = False

    @property
    def address(self) -> str:
        return str(self.path.absolute())

    def stamp(self) -> Stamp | None:
        with suppress(OSError):  # gone since it was listed: reading it will say so
            facts = self.path.stat()
            return facts.st_size, facts.st_mtime_ns
        return None

    def read(self, limits: Limits) -> tuple[bytes, Stamp]:
        data, facts = read_file(self.path, limits)
        return data, (facts.st_size, facts.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """An object of a store that fsspec reads: ``facts`` are what the store says of it."""

    store: Any
    path: str
    facts: dict[str, Any] | None = None
    remote = True

    @property
    def address(self) -> str:
        return str(self.store.unstrip_protocol(self.path))

    def stamp(self) -> Stamp | None:
        return None if self.facts is None else _version_of(self.facts)

    def read(self, limits: Limits) -> tuple[bytes, Stamp]:
        facts = self.facts or remote_call(lambda: self.store.info(self.path), self.address)
        check_size(int(facts.get("size") or 0), limits)
        return remote_call(lambda: self.store.cat_file(self.path), self.address), _version_of(facts)


@dataclass(frozen=True, slots=True)
class UrlFile:
    """What is at an http or https URL, which counts as unchanged once it is in the catalogue."""

    url: str
    fetch: Fetch | None
    refetch: bool = False
    remote = True

    @property
    def address(self) -> str:
        return self.url

    def stamp(self) -> Stamp | None:
        return None if self.refetch else self._stamp

    def read(self, limits: Limits) -> tuple[bytes, Stamp]:
        if self.fetch is None:
            raise UnreadableImage("URLs are not fetched here")
        return self.fetch(self.url), self._stamp

    @property
    def _stamp(self) -> Stamp:
        return 0, number_of(self.url)


@dataclass(frozen=True, slots=True)
class Missing:
    """What a source names and does not have; reading it gives the reason."""

    address: str
    reason: str
    remote = False

    def stamp(self) -> Stamp | None:
        return None

    def read(self, limits: Limits) -> tuple[bytes, Stamp]:
        raise UnreadableImage(self.reason)


def number_of(text: str) -> int:
    """Return a number of 63 bits that stands for a text."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest()[:8], "big") >> 1


def remote_call(call: Callable[[], Any], address: str) -> Any:
    """Do what a store is asked for; whatever its library raises becomes an OSError of one line."""
    try:
        return call()
    except FileNotFoundError:
        raise FileNotFoundError(f"there is nothing at {address}") from None
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise OSError(f"{address} cannot be read ({reason[:200]})") from None


def _version_of(facts: dict[str, Any]) -> Stamp:
    known = [
        facts.get(name) for name in ("ETag", "etag", "LastModified", "mtime", "last_modified", "updated", "created")
    ]
    version = next((str(one) for one in known if one), "")
    return int(facts.get("size") or 0), number_of(version)


def check_size(size: int, limits: Limits) -> None:
    """Raise ImageTooLarge for a picture of more bytes than allowed, before it is read."""
    if size > limits.bytes:
        raise ImageTooLarge(f"the picture has {size:,} bytes, more than the {limits.bytes:,} allowed (LENS_MAX_BYTES)")
