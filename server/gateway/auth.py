"""Authentication: who may call a route. Without keys only this machine is answered, unless LENS_ALLOW_ANONYMOUS is set."""

from __future__ import annotations

import hmac
import ipaddress
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from server.api.errors import NO_KEY, NOT_LOCAL, SCOPE_MISSING, WRONG_KEY, RequestError
from server.gateway.api_keys import ApiKey, ApiKeys
from settings import Settings, SettingsError

SIGNED_IN_SECONDS = 12 * 3600
# A request that another machine's browser or proxy has passed on comes from here, but is not from here.
PASSED_ON = (
    *("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-real-ip"),
    *("x-client-ip", "cf-connecting-ip", "true-client-ip", "x-envoy-external-address", "x-original-forwarded-for"),
)


class Authenticator:
    """Finds out who a request is from, and whether they may do what it asks for."""

    def __init__(self, settings: Settings) -> None:
        """Read the keys. Raises SettingsError."""
        self._allow_anonymous = settings.allow_anonymous
        self._ring: ApiKeys | None = None
        if settings.keys is not None or settings.keys_file is not None:
            if settings.allow_anonymous:
                raise SettingsError(
                    "LENS_ALLOW_ANONYMOUS=1 answers everyone: take it away, or LENS_KEYS and LENS_KEYS_FILE"
                )
            self._ring = ApiKeys(settings.keys, settings.keys_file)

    @property
    def needs_key(self) -> bool:
        """Whether there are keys, and so a page that asks for one."""
        return self._ring is not None

    def authorize(
        self, client: str | None, headers: Mapping[str, str], scope: str, cookie: str | None = None
    ) -> ApiKey | None:
        """Return the key of who asks, or None where none is needed, if they may do what needs ``scope``.

        Raises RequestError (401, 403).

        ``client`` is the address the request came from. A key comes as ``Authorization: Bearer KEY`` or ``X-API-Key``; a
        ``cookie`` is what ``sign_in`` gave.
        """
        if self._ring is None:
            if not self._allow_anonymous and not _is_local(client, headers):
                raise RequestError(NOT_LOCAL, "without API keys only the machine itself is answered")
            return None
        presented = _presented(headers)
        key = self._ring.find(presented) if presented else self._signed_in(cookie)
        if key is None:
            raise (
                RequestError(WRONG_KEY, "there is no such key")
                if presented
                else RequestError(NO_KEY, "a key is needed")
            )
        if scope not in key.scopes:
            raise RequestError(SCOPE_MISSING, f"the key {key.name} may not {scope}")
        return key

    def sign_in(self, presented: str) -> str | None:
        """Return what a browser keeps in place of a key that may read, for a while; None for any other."""
        key = self._ring.find(presented) if self._ring else None
        if key is None or "read" not in key.scopes:
            return None
        until = str(int(time.time()) + SIGNED_IN_SECONDS)
        return f"{key.name}:{until}:{_seal(key, until)}"

    def _signed_in(self, cookie: str | None) -> ApiKey | None:
        name, _, rest = (cookie or "").partition(":")
        until, _, seal = rest.partition(":")
        if not (until.isascii() and until.isdigit() and len(until) < 12) or int(until) < time.time() or not self._ring:
            return None
        for key in self._ring.valid():
            if key.name == name and hmac.compare_digest(_seal(key, until).encode(), seal.encode()):
                return key
        return None


def _seal(key: ApiKey, until: str) -> str:
    """Proof that this service has seen the key: with the key it ends."""
    return hmac.new(key.digest, f"signed in until {until}".encode(), "sha256").hexdigest()


def _presented(headers: Mapping[str, str]) -> str | None:
    kind, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else headers.get("x-api-key")


def _is_local(client: str | None, headers: Mapping[str, str]) -> bool:
    """Return whether a request was made on this machine, to this machine by name, and by no other site's page."""
    return (
        _is_loopback(client)
        and _names_loopback(f"//{headers.get('host', '')}")
        and not _is_from_another_site(headers)
        and not any(header in headers for header in PASSED_ON)
    )


def _is_from_another_site(headers: Mapping[str, str]) -> bool:
    """Return whether another site's page has made a browser send this; following a link is the person's own doing."""
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
