"""Pictures by URL, fetched so that no caller can use this service to look at what only it can reach.

A name is resolved once, every address it has must be public, and the connection is made to an address that was looked at:
a name that resolves to something else a moment later changes nothing. Redirects are followed by the same rules. OWASP's
"Server Side Request Forgery Prevention Cheat Sheet" has the threats.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from yarl import URL

from model import ImageTooLarge
from server.api.errors import URL_REFUSED, URL_UNAVAILABLE, RequestError
from server.telemetry.metrics import STEP_SECONDS

if TYPE_CHECKING:
    import aiohttp

LONGEST_URL = 2048  # characters
REDIRECTS = 3
AT_ONCE = 16  # fetches of a process, and names it looks up
PORTS = {"http": 80, "https": 443}
CHUNK = 64 * 1024
# What ipaddress calls global has changed from one Python to the next, so the registries of IANA have their say here too:
# addresses for special purposes, and those of IPv6 with an IPv4 address inside, which a gateway would lead to it.
SPECIAL = tuple(
    ipaddress.ip_network(block)
    for block in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
        *("192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24"),
        *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
        "168.63.129.16/32",  # Azure's own, from inside its machines
        *("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"),
    )
)
UNICAST = ipaddress.ip_network("2000::/3")  # all of IPv6 that has been given out

Resolve = Callable[[str, int], list[Any]]  # socket.getaddrinfo, of a host and a port


def is_public(address: str) -> bool:
    """Return whether an address is public: not private, loopback, link-local, shared, reserved or multicast."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if parsed.version == 6 and parsed not in UNICAST:
        return False
    return parsed.is_global and not any(parsed in block for block in SPECIAL)


def may_ask(hosts: str, url: URL) -> bool:
    """Return whether an allow-list has a URL's host: ``example.com``, ``*.example.com`` (below it), ``host:port``, or ``*``.

    Ports are 80 and 443 unless the entry names another, or ``*`` for any.
    """
    host, port = (url.host or "").lower().rstrip("."), url.port
    for entry in hosts.lower().replace(",", " ").split():
        name, _, wanted = entry.partition(":")
        below = name.startswith("*.") and host.endswith(name[1:])
        if (below or name in ("*", host)) and (wanted in (str(port), "*") if wanted else port == PORTS.get(url.scheme)):
            return True
    return False


class UrlFetcher:
    """Fetches pictures from the hosts of an allow-list; ``hosts`` None allows none.

    ``hold`` is called with the number of bytes as they come in, and may refuse them by raising. ``private``: addresses that
    are not public are fetched from too.
    """

    def __init__(
        self,
        hosts: str | None,
        seconds: float,
        max_bytes: int,
        resolve: Resolve = socket.getaddrinfo,
        hold: Callable[[int], None] = lambda count: None,
        *,
        private: bool = False,
    ) -> None:
        self._hosts = hosts
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._resolve = resolve
        self._hold = hold
        self._private = private
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._names = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="names")

    async def fetch(self, text: str) -> bytes:
        """Fetch the bytes at a URL; what they are is for the decoder to say.

        Raises RequestError (422: it may not be fetched; 400: it cannot be) and ImageTooLarge.
        """
        if self._hosts is None:
            raise RequestError(URL_REFUSED, "URLs are not fetched here")
        import aiohttp

        try:
            with STEP_SECONDS.labels("fetch").time():
                async with asyncio.timeout(self._seconds), self._turns, self._session() as session:
                    return await self._follow(session, text)
        except TimeoutError:
            raise RequestError(URL_UNAVAILABLE, f"the URL was not fetched within {self._seconds:g} s") from None
        except aiohttp.InvalidURL:  # such as an IPv4 address in another spelling
            raise RequestError(URL_REFUSED, "this is not a URL that can be read") from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise RequestError(URL_UNAVAILABLE, "nothing could be fetched from the URL") from None

    async def _follow(self, session: aiohttp.ClientSession, text: str) -> bytes:
        url = self._checked(text)
        for _ in range(REDIRECTS + 1):
            async with session.get(url, allow_redirects=False) as answer:
                if answer.status in (301, 302, 303, 307, 308) and "location" in answer.headers:
                    url = self._checked(answer.headers["location"], url)
                    continue
                if answer.status != 200:
                    raise RequestError(URL_UNAVAILABLE, f"the URL answered with status {answer.status}")
                return await self._read(answer)
        raise RequestError(URL_UNAVAILABLE, f"the URL leads through more than {REDIRECTS} redirects")

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        too_large = ImageTooLarge(f"the URL has more than the {self._max_bytes:,} bytes allowed")
        if (answer.content_length or 0) > self._max_bytes:
            raise too_large
        data = bytearray()
        async for chunk in answer.content.iter_chunked(CHUNK):
            self._hold(len(chunk))
            data += chunk
            if len(data) > self._max_bytes:
                raise too_large
        return bytes(data)

    def _checked(self, text: str, base: URL | None = None) -> URL:
        """Return the URL that a text means. Raises RequestError (422) unless it may be asked for."""
        if len(text) > LONGEST_URL:
            raise RequestError(URL_REFUSED, f"a URL has {LONGEST_URL} characters at most")
        try:
            url = base.join(URL(text)) if base else URL(text)
            host, port = url.host, url.port
        except ValueError:
            raise RequestError(URL_REFUSED, "this is not a URL that can be read") from None
        if url.scheme not in PORTS or not host or port is None:
            raise RequestError(URL_REFUSED, "only http and https URLs are fetched")
        if url.user is not None or url.password is not None:
            raise RequestError(URL_REFUSED, "a URL with a user or password is not fetched")
        if not may_ask(self._hosts or "", url):
            raise RequestError(URL_REFUSED, "the URL's host and port are not among those allowed here")
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return url  # a name: its addresses are looked at when they are known
        if not self._may_reach(host):
            raise _not_public()
        return url

    def _may_reach(self, address: str) -> bool:
        return self._private or is_public(address)

    @asynccontextmanager
    async def _session(self) -> AsyncGenerator[aiohttp.ClientSession, None]:
        import aiohttp
        from aiohttp.abc import AbstractResolver, ResolveResult

        fetcher = self

        class PublicOnly(AbstractResolver):
            """Resolves a name, and refuses it unless all its addresses are public."""

            async def resolve(
                self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
            ) -> list[ResolveResult]:
                found = await asyncio.get_running_loop().run_in_executor(
                    fetcher._names, lambda: fetcher._resolve(host, port)
                )
                addresses = {str(address[0]): kind for kind, _, _, _, address in found}
                if not addresses or not all(map(fetcher._may_reach, addresses)):
                    raise _not_public()
                return [
                    ResolveResult(
                        hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST
                    )
                    for address, kind in addresses.items()
                ]

            async def close(self) -> None:
                """Nothing is held."""

        made_by = None if self._private else _public_socket
        connector = aiohttp.TCPConnector(resolver=PublicOnly(), use_dns_cache=False, socket_factory=made_by)
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # a few bytes would become gigabytes
            headers={"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "BentoLens"},
            timeout=aiohttp.ClientTimeout(total=None),  # the whole has one
        ) as session:
            yield session


def _not_public() -> RequestError:
    return RequestError(URL_REFUSED, "the URL's host is not on the public internet")


def _public_socket(address: Any) -> socket.socket:
    """Return a socket for the address that is about to be connected to, whatever has led to it."""
    family, kind, protocol, _, target = address
    if not is_public(str(target[0])):
        raise _not_public()
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    return made
