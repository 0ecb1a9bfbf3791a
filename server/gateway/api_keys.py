"""API keys: read from the environment or a file, which is read again when it changes."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import time
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from server.api.route import SCOPES
from settings import SettingsError

log = logging.getLogger("bentoml.bentolens")

SHORTEST = 16  # characters of a key: what cannot be guessed needs no lock against guessing
LOOK_SECONDS = 0.5  # between looks at the file
FORM = "NAME SCOPES KEY [PICTURES_PER_SECOND]"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key: who has it, what for, its SHA-256, and the pictures, queries or items a second that it may ask for."""

    name: str
    scopes: frozenset[str]
    digest: bytes
    rate: float | None = None


def read_keys(text: str) -> tuple[ApiKey, ...]:
    """Read the keys of a text, one a line; a word that begins with # begins a comment.

    ``KEY`` is the key itself (16 characters or more) or ``sha256:`` and its digest in hexadecimal. Raises SettingsError,
    which names the place and never the key.
    """
    keys: dict[str, ApiKey] = {}
    lines = (list(takewhile(lambda word: not word.startswith("#"), line.split())) for line in text.splitlines())
    for number, words in enumerate(lines, 1):
        if words:
            key = _read_key(words, f"key {number}")
            if key.name in keys:
                raise SettingsError(f"key {number}: there are two keys called {key.name}")
            if twin := next((one for one in keys.values() if one.digest == key.digest), None):
                raise SettingsError(f"key {number}: {twin.name} and {key.name} are the same key; give each its own")
            keys[key.name] = key
    return tuple(keys.values())


def _read_key(words: list[str], place: str) -> ApiKey:
    if not 3 <= len(words) <= 4:
        raise SettingsError(f"{place}: write {FORM}")
    name, scopes, secret = words[0], frozenset(words[1].split(",")), words[2]
    if not re.fullmatch(r"[\w.-]{1,64}", name, re.ASCII):
        raise SettingsError(f"{place}: a name has letters, digits, points, hyphens and underscores, 64 at most")
    if not scopes <= SCOPES:
        raise SettingsError(f"{place} ({name}): the scopes are read, write or read,write")
    if secret.startswith("sha256:"):
        if not re.fullmatch("sha256:[0-9a-fA-F]{64}", secret):
            raise SettingsError(f"{place} ({name}): after sha256: come 64 hexadecimal digits")
        digest = bytes.fromhex(secret.partition(":")[2])
    elif len(secret) < SHORTEST:
        raise SettingsError(
            f"{place} ({name}): a key of {len(secret)} characters is guessed too easily; take {SHORTEST}"
        )
    else:
        digest = hashlib.sha256(secret.encode()).digest()
    return ApiKey(name, scopes, digest, _read_rate(words[3], f"{place} ({name})") if len(words) > 3 else None)


def _read_rate(text: str, place: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1e9:
        raise SettingsError(f"{place}: the pictures a second are a number above 0")
    return rate


class ApiKeys:
    """The keys that are valid now."""

    def __init__(self, inline: str | None, file: Path | None) -> None:
        """Read them. Raises SettingsError."""
        try:
            self._inline = read_keys(inline.replace(";", "\n")) if inline else ()
        except SettingsError as fault:
            raise SettingsError(f"LENS_KEYS: {fault}") from None
        self._file = file
        self._looked = 0.0
        self._seen: object = None
        self._from_file: tuple[ApiKey, ...] = ()
        if file is not None:
            self._from_file = self._read(file)
        if not self._inline + self._from_file:
            raise SettingsError(f"LENS_KEYS and LENS_KEYS_FILE have no key; a key is a line: {FORM}")

    def valid(self) -> tuple[ApiKey, ...]:
        """Return all of them. A file that has become unreadable leaves those that were in it valid, and is logged."""
        if self._file is not None and time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            if self._state(self._file) != self._seen:
                try:
                    self._from_file = self._read(self._file)
                    level = logging.INFO if self._from_file else logging.WARNING
                    log.log(level, "LENS_KEYS_FILE was read again: %d keys", len(self._from_file))
                except SettingsError as fault:
                    log.error("%s; the keys that were read before stay valid", fault)
        return self._inline + self._from_file

    def find(self, presented: str) -> ApiKey | None:
        """Return the key that was presented, or None; it takes as long whichever it is, or none."""
        digest = hashlib.sha256(presented.encode("utf-8", "surrogateescape")).digest()
        found = None
        for key in self.valid():
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    def _read(self, file: Path) -> tuple[ApiKey, ...]:
        self._seen = self._state(file)
        try:
            keys = read_keys(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise SettingsError(f"LENS_KEYS_FILE={str(file)!r} cannot be read ({reason})") from None
        except SettingsError as fault:
            raise SettingsError(f"LENS_KEYS_FILE={str(file)!r}, {fault}") from None
        if len({key.name for key in self._inline + keys}) < len(self._inline) + len(keys):
            raise SettingsError(f"LENS_KEYS_FILE={str(file)!r} and LENS_KEYS have a key of the same name")
        return keys

    @staticmethod
    def _state(file: Path) -> object:
        try:
            facts = file.stat()
        except OSError:
            return None
        return facts.st_mtime_ns, facts.st_size, facts.st_ino
