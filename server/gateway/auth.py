"""Who may ask: API keys with scopes and rates, from the environment or a file that is read again when it changes.

Without keys only this machine is answered, unless LENS_OPEN says otherwise.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from urllib.parse import urlsplit

from server.api.errors import NO_KEY, NOT_LOCAL, SCOPE_MISSING, WRONG_KEY, RequestFault
from settings import Settings, SettingsFault

log = logging.getLogger("bentoml.bentolens")

SCOPES = frozenset({"read", "write"})
SHORTEST = 16  # characters of a key: what cannot be guessed needs no lock against guessing
LOOK_SECONDS = 0.5  # between looks at the file
SIGNED_IN_SECONDS = 12 * 3600
FORM = "NAME SCOPES KEY [PICTURES_PER_SECOND]"
# A request that another machine's browser or proxy has passed on comes from here, but is not from here.
PASSED_ON = (
    *("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-real-ip"),
    *("x-client-ip", "cf-connecting-ip", "true-client-ip", "x-envoy-external-address", "x-original-forwarded-for"),
)


@dataclass(frozen=True, slots=True)
class Key:
    """An API key: who has it, what for, its SHA-256, and the pictures, queries or items a second that it may ask for."""

    name: str
    scopes: frozenset[str]
    digest: bytes
    rate: float | None = None


def read_keys(text: str) -> tuple[Key, ...]:
    """The keys of a text, one a line; a word that begins with # begins a comment.

    ``KEY`` is the key itself (16 characters or more) or ``sha256:`` and its digest in hexadecimal. Raises SettingsFault,
    which names the place and never the key.
    """
    keys: dict[str, Key] = {}
    lines = (list(takewhile(lambda word: not word.startswith("#"), line.split())) for line in text.splitlines())
    for number, words in enumerate(lines, 1):
        if words:
            key = _read_key(words, f"key {number}")
            if key.name in keys:
                raise SettingsFault(f"key {number}: there are two keys called {key.name}")
            keys[key.name] = key
    return tuple(keys.values())


def _read_key(words: list[str], place: str) -> Key:
    if not 3 <= len(words) <= 4:
        raise SettingsFault(f"{place}: write {FORM}")
    name, scopes, secret = words[0], frozenset(words[1].split(",")), words[2]
    if not re.fullmatch(r"[\w.-]{1,64}", name, re.ASCII):
        raise SettingsFault(f"{place}: a name has letters, digits, points, hyphens and underscores, 64 at most")
    if not scopes <= SCOPES:
        raise SettingsFault(f"{place} ({name}): the scopes are read, write or read,write")
    if secret.startswith("sha256:"):
        if not re.fullmatch("sha256:[0-9a-fA-F]{64}", secret):
            raise SettingsFault(f"{place} ({name}): after sha256: come 64 hexadecimal digits")
        digest = bytes.fromhex(secret.partition(":")[2])
    elif len(secret) < SHORTEST:
        raise SettingsFault(
            f"{place} ({name}): a key of {len(secret)} characters is guessed too easily; take {SHORTEST}"
        )
    else:
        digest = hashlib.sha256(secret.encode()).digest()
    return Key(name, scopes, digest, _read_rate(words[3], f"{place} ({name})") if len(words) > 3 else None)


def _read_rate(text: str, place: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1e9:
        raise SettingsFault(f"{place}: the pictures a second are a number above 0")
    return rate


class KeyRing:
    """The keys that are valid now."""

    def __init__(self, inline: str | None, file: Path | None) -> None:
        """Read them. Raises SettingsFault."""
        try:
            self._inline = read_keys(inline.replace(";", "\n")) if inline else ()
        except SettingsFault as fault:
            raise SettingsFault(f"LENS_KEYS: {fault}") from None
        self._file = file
        self._looked = 0.0
        self._seen: object = None
        self._from_file: tuple[Key, ...] = ()
        if file is not None:
            self._from_file = self._read(file)
        if not self._inline + self._from_file:
            raise SettingsFault(f"LENS_KEYS and LENS_KEYS_FILE have no key; a key is a line: {FORM}")

    def valid(self) -> tuple[Key, ...]:
        """All of them. A file that has become unreadable leaves those that were in it valid, and is told in the log."""
        if self._file is not None and time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            if self._state(self._file) != self._seen:
                try:
                    self._from_file = self._read(self._file)
                    level = logging.INFO if self._from_file else logging.WARNING
                    log.log(level, "LENS_KEYS_FILE was read again: %d keys", len(self._from_file))
                except SettingsFault as fault:
                    log.error("%s; the keys that were read before stay valid", fault)
        return self._inline + self._from_file

    def find(self, presented: str) -> Key | None:
        """The key that was presented, or None; it takes as long whichever it is, or none."""
        digest = hashlib.sha256(presented.encode("utf-8", "surrogateescape")).digest()
        found = None
        for key in self.valid():
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    def _read(self, file: Path) -> tuple[Key, ...]:
        self._seen = self._state(file)
        try:
            keys = read_keys(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise SettingsFault(f"LENS_KEYS_FILE={str(file)!r} cannot be read ({reason})") from None
        except SettingsFault as fault:
            raise SettingsFault(f"LENS_KEYS_FILE={str(file)!r}, {fault}") from None
        if len({key.name for key in self._inline + keys}) < len(self._inline) + len(keys):
            raise SettingsFault(f"LENS_KEYS_FILE={str(file)!r} and LENS_KEYS have a key of the same name")
        return keys

    @staticmethod
    def _state(file: Path) -> object:
        try:
            facts = file.stat()
        except OSError:
            return None
        return facts.st_mtime_ns, facts.st_size, facts.st_ino


class Access:
    """Tells who a request is from, and whether they may."""

    def __init__(self, settings: Settings) -> None:
        """Read the keys. Raises SettingsFault."""
        self._open = settings.open
        self._ring: KeyRing | None = None
        if settings.keys is not None or settings.keys_file is not None:
            if settings.open:
                raise SettingsFault("LENS_OPEN=1 answers everyone: take it away, or LENS_KEYS and LENS_KEYS_FILE")
            self._ring = KeyRing(settings.keys, settings.keys_file)

    @property
    def needs_key(self) -> bool:
        """Whether there are keys, and so a page that asks for one."""
        return self._ring is not None

    def admit(
        self, client: str | None, headers: Mapping[str, str], scope: str, cookie: str | None = None
    ) -> Key | None:
        """The key of who asks, or None where none is needed, if they may do what needs ``scope``.

        Raises RequestFault (401, 403).

        ``client`` is the address the request came from. A key comes as ``Authorization: Bearer KEY`` or ``X-API-Key``; a
        ``cookie`` is what ``sign_in`` gave.
        """
        if self._ring is None:
            if not self._open and not _is_local(client, headers):
                raise RequestFault(NOT_LOCAL, "without API keys only the machine itself is answered")
            return None
        presented = _presented(headers)
        key = self._ring.find(presented) if presented else self._signed_in(cookie)
        if key is None:
            raise (
                RequestFault(WRONG_KEY, "there is no such key")
                if presented
                else RequestFault(NO_KEY, "a key is needed")
            )
        if scope not in key.scopes:
            raise RequestFault(SCOPE_MISSING, f"the key {key.name} may not {scope}")
        return key

    def sign_in(self, presented: str) -> str | None:
        """What a browser keeps in place of a key that may read, for a while; None for any other."""
        key = self._ring.find(presented) if self._ring else None
        if key is None or "read" not in key.scopes:
            return None
        until = str(int(time.time()) + SIGNED_IN_SECONDS)
        return f"{key.name}:{until}:{_seal(key, until)}"

    def _signed_in(self, cookie: str | None) -> Key | None:
        name, _, rest = (cookie or "").partition(":")
        until, _, seal = rest.partition(":")
        if not (until.isascii() and until.isdigit() and len(until) < 12) or int(until) < time.time() or not self._ring:
            return None
        for key in self._ring.valid():
            if key.name == name and hmac.compare_digest(_seal(key, until).encode(), seal.encode()):
                return key
        return None


def _seal(key: Key, until: str) -> str:
    """Proof that this service has seen the key: with the key it ends."""
    return hmac.new(key.digest, f"signed in until {until}".encode(), "sha256").hexdigest()


def _presented(headers: Mapping[str, str]) -> str | None:
    kind, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else headers.get("x-api-key")


def _is_local(client: str | None, headers: Mapping[str, str]) -> bool:
    """Whether a request was made on this machine, to this machine by name, and by no other site's page."""
    return (
        _is_loopback(client)
        and _names_loopback(f"//{headers.get('host', '')}")
        and not _is_from_another_site(headers)
        and not any(header in headers for header in PASSED_ON)
    )


def _is_from_another_site(headers: Mapping[str, str]) -> bool:
    """Whether a browser has been made to send this by another site's page; to follow a link is the person's own doing."""
    if (origin := headers.get("origin")) is not None:
        return not _names_loopback(origin)
    return headers.get("sec-fetch-site") in ("cross-site", "same-site") and headers.get("sec-fetch-mode") != "navigate"


def _names_loopback(url: str) -> bool:
    try:
        name = urlsplit(url).hostname
    except ValueError:
        return False
    return name == "localhost" or _is_loopback(name)


def _is_loopback(address: str | None) -> bool:
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False
