"""Pictures by URL: fetched from public hosts that are allowed, and from nowhere else, by no trick."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from model import ImageTooLarge
from server.api.errors import RequestError
from server.gateway import UrlFetcher, url_fetcher
from server.gateway.url_fetcher import is_public
from tests.serving import Server, free_port, serving

PORT = free_port()


def without_port(url: str) -> str:
    """Name a test by its URL, the same in each process that collects it."""
    return url.replace(str(PORT), "PORT")


PUBLIC = "127.0.0.2"  # stands for a host of the open internet, where a test says so
seen: list[str] = []

NOT_PUBLIC = (
    *(
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "0",
        "0.0.0.0",
        "localhost",
        "LOCALHOST.",
    ),
    *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::1]"),
    *(
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[fe80::1]",
        "[fe80::1%25lo]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fec0::1]",
    ),
    *("[ff02::1]", "[2001:db8::1]", "169.254.169.254", "169.254.170.2", "10.0.0.1", "172.16.0.1", "192.168.0.1"),
    *(
        "100.64.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "198.18.0.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
    ),
    *("168.63.129.16", "100.100.100.200", "192.0.0.8", "192.88.99.1", "198.51.100.1", "[2620:4f:8000::1]", "[4000::1]"),
    *("\u2460\u2461\u2466.\u24ea.\u24ea.\u2460", "127.0.0.1.", "127\u30020\u30020\u30021", "%31%32%37.0.0.1"),
)
ODD = (
    *(
        "file:///etc/passwd",
        "ftp://example.com/a",
        "gopher://127.0.0.1:6379/_INFO",
        "data:image/png;base64,AAAA",
        "dict://a:1/",
    ),
    *(
        "//127.0.0.1/a",
        "example.com/a.jpg",
        "",
        "http://",
        "http:///a",
        "http://:80/",
        "javascript:alert(1)",
        "unix:///a.sock",
    ),
    f"http://{PUBLIC}:{PORT}@127.0.0.1:{PORT}/",
    f"http://user:password@{PUBLIC}:{PORT}/",
    f"http://{PUBLIC}:{PORT}\\@127.0.0.1:{PORT}/",
    *("http://[::1", "http://a:99999/", "http://a\r\nHost: b/", "http://" + "a" * 3000 + "/", "http://\0/"),
)


class Canary(BaseHTTPRequestHandler):
    """Notes who was asked for what, and answers with a picture, a redirect, or something else that the path names."""

    def do_GET(self) -> None:
        host = self.connection.getsockname()[0]
        seen.append(f"{host}{self.path}")
        what, _, rest = self.path[1:].partition("/")
        match what:
            case "to":
                self.send_response(302)
                self.send_header("Location", rest)
                self.end_headers()
            case "size":
                self.send_response(200)
                self.send_header("Content-Length", rest)
                self.end_headers()
                self.wfile.write(bytes(min(int(rest), 10_000)))
            case "packed":
                self.send_response(200)
                self.send_header("Content-Encoding", "gzip")
                self.end_headers()
                self.wfile.write(gzip.compress(bytes(100_000)))
            case "endless":
                self.send_response(200)
                self.end_headers()
                with suppress(OSError):  # whoever asked has heard enough
                    while True:
                        self.wfile.write(bytes(65536))
            case "slow":
                self.send_response(200)
                self.end_headers()
                with suppress(OSError):  # whoever asked has heard enough
                    while True:
                        self.wfile.write(b"a")
                        threading.Event().wait(0.2)
            case _:
                self.send_response(200 if what == "picture" else 404)
                self.end_headers()
                self.wfile.write(b"a picture")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module", autouse=True)
def canaries() -> Iterator[None]:
    """Servers on this machine's loopback: one that no caller may reach, and one that stands for the internet."""
    servers = [ThreadingHTTPServer((host, PORT), Canary) for host in ("127.0.0.1", PUBLIC)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield
    for server in servers:
        server.shutdown()


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have one address stand for the open internet."""
    monkeypatch.setattr(url_fetcher, "is_public", lambda address: address == PUBLIC or is_public(address))


def fetch(url: str, hosts: str | None = f"*:{PORT},*", resolve: Any = socket.getaddrinfo, **more: Any) -> bytes:
    async def run() -> bytes:
        return await UrlFetcher(hosts, more.get("seconds", 3), more.get("max_bytes", 1000), resolve).fetch(url)

    seen.clear()
    return asyncio.run(run())


def code_of(url: str, **more: Any) -> str:
    with pytest.raises(RequestError) as raised:
        fetch(url, **more)
    return raised.value.kind.code


NO_NAME = ("LOCALHOST.", "%31%32%37.0.0.1")  # which a resolver may not know, and which are refused where it does


@pytest.mark.parametrize("host", NOT_PUBLIC)
def test_no_address_that_is_not_public_is_reached(host: str) -> None:
    code = code_of(f"http://{host}:{PORT}/picture")
    assert code == "url_refused" or host in NO_NAME
    assert not seen


@pytest.mark.parametrize("host", [host for host in NOT_PUBLIC if host.isascii()])
def test_nor_by_a_redirect(host: str, internet: None) -> None:
    code = code_of(f"http://{PUBLIC}:{PORT}/to/http://{host}:{PORT}/picture")
    assert code == "url_refused" or host in NO_NAME
    assert len(seen) == 1


@pytest.mark.parametrize("url", ODD, ids=without_port)
def test_odd_urls_are_refused(url: str) -> None:
    assert code_of(url) in ("url_refused", "url_unavailable")
    assert not seen


def resolving(*answers: list[str]) -> Any:
    """A resolver that gives other addresses each time."""
    remaining = iter(answers)

    def resolve(host: str, port: int) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in next(remaining)]

    return resolve


def test_a_name_that_leads_inside_is_refused_whatever_else_it_leads_to(internet: None) -> None:
    url = f"http://pictures.example:{PORT}/picture"
    for addresses in (["127.0.0.1"], [PUBLIC, "127.0.0.1"], ["169.254.169.254"], []):
        assert code_of(url, resolve=resolving(addresses)) == "url_refused"
        assert not seen


def test_a_name_that_changes_its_address_is_asked_once_and_the_connection_goes_there(internet: None) -> None:
    assert fetch(f"http://rebind.example:{PORT}/picture", resolve=resolving([PUBLIC])) == b"a picture"
    assert seen == [f"{PUBLIC}/picture"]
    # The second time, for the redirect, it leads inside.
    url = f"http://rebind.example:{PORT}/to/http://rebind.example:{PORT}/picture"
    assert code_of(url, resolve=resolving([PUBLIC], ["127.0.0.1"])) == "url_refused"
    assert len(seen) == 1


def test_the_socket_itself_is_made_for_public_addresses_only() -> None:
    for address in ("127.0.0.1", "::1", "10.0.0.1"):
        with pytest.raises(RequestError):
            url_fetcher._public_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)))


def test_only_hosts_and_ports_that_are_allowed_are_asked(internet: None) -> None:
    resolve = resolving(*[[PUBLIC]] * 10)
    for hosts, host, allowed in (
        (f"a.example:{PORT}", "a.example", True),
        (f"b.example, *.a.example:{PORT}", "x.y.a.example", True),
        (f"*.a.example:{PORT}", "a.example", False),
        (f"a.example:{PORT}", "aa.example", False),
        (f"a.example:{PORT}", "a.example.evil.example", False),
        ("a.example", "a.example", False),  # the port is not 80
        (f"a.example:{PORT}", "A.EXAMPLE.", True),
        ("", "a.example", False),
        (None, "a.example", False),
    ):
        if allowed:
            assert fetch(f"http://{host}:{PORT}/picture", hosts, resolve) == b"a picture"
        else:
            assert code_of(f"http://{host}:{PORT}/picture", hosts=hosts, resolve=resolve) == "url_refused"


def test_bytes_seconds_and_redirects_are_bounded(internet: None) -> None:
    base = f"http://{PUBLIC}:{PORT}"
    for path in ("size/1001", "endless"):
        with pytest.raises(ImageTooLarge):
            fetch(f"{base}/{path}")
    assert code_of(f"{base}/slow", seconds=0.5) == "url_unavailable"
    around = f"{base}/to/" * 4 + f"{base}/picture"
    assert code_of(around) == "url_unavailable"
    assert fetch(f"{base}/to/" * 3 + f"{base}/picture") == b"a picture"
    assert code_of(f"{base}/missing") == "url_unavailable"
    assert len(fetch(f"{base}/size/1000")) == 1000
    with pytest.raises(ImageTooLarge):  # by what it says, before it is read: it has less, and so would be unavailable
        fetch(f"{base}/size/30000", max_bytes=20_000)
    assert gzip.decompress(fetch(f"{base}/packed")) == bytes(100_000)  # left as it came, for the decoder to refuse


def test_a_user_or_password_is_sent_to_nobody(internet: None) -> None:
    for who in ("user", "user:password", ":password"):
        for url in (
            f"http://{who}@{PUBLIC}:{PORT}/picture",
            f"http://{PUBLIC}:{PORT}/to/http://{who}@{PUBLIC}:{PORT}/",
        ):
            seen.clear()
            assert code_of(url) == "url_refused"
            assert len(seen) == ("/to/" in url)


def test_the_served_process_fetches_nothing_unless_it_is_told_to(
    server: Server, catalogue: Path, tmp_path: Path
) -> None:
    seen.clear()
    refused = server.json("query", {"queries": [{"url": f"http://127.0.0.1:{PORT}/picture"}]})
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "url_refused")
    with serving(catalogue, tmp_path / "log", LENS_URL_HOSTS=f"*,*:{PORT}") as other:
        urls = [f"http://{host}:{PORT}/picture" for host in ("127.0.0.1", "localhost", "[::1]", "2130706433")]
        answer = other.json("query", {"queries": [{"id": 1}, *({"url": url} for url in urls)]})
        found, *errors = answer.json()["results"]
        assert found["hits"]
        assert {error["error"]["code"] for error in errors} == {"url_refused"}
    assert not seen
