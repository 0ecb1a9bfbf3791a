"""API keys: who may ask, for what and how much; keys that come and go while the service runs; the page that asks for one."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import bentoml
import httpx
import pytest

from server.api.errors import RequestError
from server.gateway import Authenticator, RateLimiter
from server.gateway.api_keys import ApiKey, ApiKeys, read_keys
from settings import Settings, SettingsError
from tests.serving import Server, eventually, serving

READER, WRITER, SLOW = "reader-0123456789abcdef", "writer-0123456789abcdef", "slow-0123456789abcdef"
HOST = {"host": "localhost:3000"}


def digest_of(key: str) -> str:
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def test_keys_are_read_from_lines() -> None:
    some = f"importer read,write {digest_of(WRITER)}\nslow read {SLOW} .5"
    keys = read_keys(f"shop read {READER} 20 # a comment\n\n# none\n{some}")
    assert [(key.name, sorted(key.scopes), key.rate) for key in keys] == [
        ("shop", ["read"], 20),
        ("importer", ["read", "write"], None),
        ("slow", ["read"], 0.5),
    ]
    assert keys[1].digest == hashlib.sha256(WRITER.encode()).digest()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("shop read", "write NAME SCOPES KEY"),
        (f"shop read {READER} 1 2", "write NAME SCOPES KEY"),
        (f"a/b read {READER}", "a name has letters"),
        (f"shop all {READER}", "the scopes are read, write or read,write"),
        ("shop read short", "a key of 5 characters is guessed too easily"),
        ("shop read sha256:abc", "64 hexadecimal digits"),
        (f"shop read {READER} none", "a number above 0"),
        (f"shop read {READER} -1", "a number above 0"),
        (f"shop read {READER}; shop read {WRITER}", "two keys called shop"),
        (f"shop read {READER}; importer write {READER}", "shop and importer are the same key"),
    ],
)
def test_a_wrong_line_is_named_and_its_key_is_not_quoted(line: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told) as raised:
        read_keys(line.replace(";", "\n"))
    assert READER not in str(raised.value)
    with pytest.raises(SettingsError, match="LENS_KEYS: "):
        Authenticator(Settings(keys=line))


def test_a_file_of_keys_is_read_again_when_it_changes_and_kept_when_it_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.gateway.api_keys.LOOK_SECONDS", 0)
    file = tmp_path / "keys"
    file.write_text(f"shop read {READER}")
    ring = ApiKeys(None, file)
    assert ring.find(READER)
    file.write_text(f"shop read {WRITER}")
    assert (ring.find(READER) is None, ring.find(WRITER) is None) == (True, False)
    file.write_text("shop read")
    assert ring.find(WRITER)
    file.unlink()
    assert ring.find(WRITER)
    file.write_text("# no key any more")
    assert not ring.find(WRITER)
    with pytest.raises(SettingsError, match="cannot be read"):
        ApiKeys(None, tmp_path / "missing")


def test_a_service_with_no_key_at_all_is_not_started(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# none\n")
    for settings in (Settings(keys=";"), Settings(keys_file=tmp_path / "keys")):
        with pytest.raises(SettingsError, match="have no key"):
            Authenticator(settings)


def refused(authenticator: Authenticator, client: str | None, headers: dict[str, str], scope: str = "read") -> str:
    with pytest.raises(RequestError) as raised:
        authenticator.authorize(client, headers, scope)
    return f"{int(raised.value.kind.status)} {raised.value.kind.code}"


def test_without_keys_only_this_machine_is_answered() -> None:
    authenticator = Authenticator(Settings())
    for address, host in (("127.0.0.1", "localhost"), ("127.0.0.1", "127.0.0.1:3000"), ("::1", "[::1]:3000")):
        authenticator.authorize(address, {"host": host}, "write")
    authenticator.authorize(
        "127.0.0.1", HOST | {"origin": "http://localhost:3000", "sec-fetch-site": "same-origin"}, "read"
    )
    authenticator.authorize(
        "127.0.0.1", HOST | {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, "read"
    )  # a link
    refusals: list[tuple[str | None, dict[str, str]]] = [
        ("192.168.0.7", HOST),
        (None, HOST),
        ("127.0.0.1", {}),
        ("127.0.0.1", {"host": "evil.example"}),  # a name that has come to lead here: DNS rebinding
        ("127.0.0.1", {"host": "localhost.evil.example"}),
        ("127.0.0.1", HOST | {"x-forwarded-for": "127.0.0.1"}),  # from a proxy on this machine
        ("127.0.0.1", HOST | {"forwarded": "for=1.2.3.4"}),
        ("127.0.0.1", HOST | {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}),  # another site's page
        ("127.0.0.1", HOST | {"sec-fetch-mode": "navigate", "origin": "https://evil.example"}),  # and its form
        ("127.0.0.1", HOST | {"origin": "null"}),
        ("127.0.0.1", {"host": "[::1"}),
    ]
    for client, headers in refusals:
        assert refused(authenticator, client, headers) == "401 key_required"
    Authenticator(Settings(allow_anonymous=True)).authorize("192.168.0.7", {"host": "evil.example"}, "write")
    with pytest.raises(SettingsError, match="LENS_ALLOW_ANONYMOUS=1 answers everyone"):
        Authenticator(Settings(allow_anonymous=True, keys=f"shop read {READER}"))


def test_a_key_opens_what_its_scopes_say() -> None:
    authenticator = Authenticator(Settings(keys=f"shop read {READER}; importer write {WRITER}"))
    assert refused(authenticator, "127.0.0.1", HOST) == "401 key_required"
    assert refused(authenticator, None, {"authorization": "Bearer nothing"}) == "401 wrong_key"
    assert refused(authenticator, None, {"authorization": f"Basic {READER}"}) == "401 key_required"
    assert refused(authenticator, None, {"x-api-key": "\udcff"}) == "401 wrong_key"
    for headers in (
        {"authorization": f"Bearer {READER}"},
        {"authorization": f"bearer  {READER} "},
        {"x-api-key": READER},
    ):
        assert authenticator.authorize(None, headers, "read") == authenticator.authorize(None, headers, "read")
        assert refused(authenticator, None, headers, "write") == "403 scope_missing"
    assert refused(authenticator, None, {"x-api-key": WRITER}) == "403 scope_missing"
    authenticator.authorize(None, {"x-api-key": WRITER}, "write")


def test_signing_in_lasts_as_long_as_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.api_keys.LOOK_SECONDS", 0)
    file = tmp_path / "keys"
    file.write_text(f"shop read {READER}\nimporter write {WRITER}")
    authenticator = Authenticator(Settings(keys_file=file))
    assert authenticator.sign_in("wrong") is authenticator.sign_in(WRITER) is None
    kept = authenticator.sign_in(READER)
    assert kept is not None
    assert READER not in kept
    authenticator.authorize(None, {}, "read", kept)
    name, until, seal = kept.split(":")
    later = f"{name}:{int(until) + 1}:{seal}"
    for forged in (later, f"importer:{until}:{seal}", f"{name}:1:{seal}", f"{name}:{until}:", ":", "\u00fc:9:\u00fc"):
        with pytest.raises(RequestError):
            authenticator.authorize(None, {}, "read", forged)
    with monkeypatch.context() as tomorrow:
        now = time.time() + 13 * 3600
        tomorrow.setattr("server.gateway.auth.time.time", lambda: now)
        with pytest.raises(RequestError):
            authenticator.authorize(None, {}, "read", kept)
    file.write_text(f"shop read {READER}x")
    with pytest.raises(RequestError):
        authenticator.authorize(None, {}, "read", kept)


def test_a_rate_is_kept_by_all_processes_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    # That clock alone: one that can be set back would keep a key out for as long.
    monkeypatch.setattr("server.gateway.rate_limit.time", SimpleNamespace(monotonic=lambda: now))
    key = ApiKey("shop", frozenset({"read"}), b"a" * 32, 10.0)
    one, other = RateLimiter(tmp_path / "rates"), RateLimiter(tmp_path / "rates")
    for turn in range(10):  # a second's worth at once
        (one, other)[turn % 2].charge(key, 1, refuse=True)
    with pytest.raises(RequestError) as raised:
        other.charge(key, 1, refuse=True)
    assert raised.value.retry_after == 1
    now += 0.1  # and what comes in meanwhile
    other.charge(key, 1, refuse=True)
    with pytest.raises(RequestError):
        one.charge(key, 1, refuse=True)
    one.charge(key, 50, refuse=False)  # what a request turned out to have delays the next one
    with pytest.raises(RequestError) as raised:
        other.charge(key, 1, refuse=True)
    assert raised.value.retry_after == 6
    slow = ApiKey("slow", frozenset(), b"c" * 32, 0.5)
    one.charge(slow, 1, refuse=True)
    with pytest.raises(RequestError):
        other.charge(slow, 1, refuse=True)
    one.charge(ApiKey("free", frozenset(), b"b" * 32), 10**9, refuse=True)


def test_nothing_is_lost_of_what_many_charge_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.rate_limit.time", SimpleNamespace(monotonic=lambda: 1000.0))
    key = ApiKey("shop", frozenset({"read"}), b"a" * 32, 10.0)

    def charge(_: int) -> None:
        rates = RateLimiter(tmp_path / "rates")  # as each process has one
        for _ in range(200):
            rates.charge(key, 1, refuse=False)

    charge(0)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(charge, range(7)))
    with pytest.raises(RequestError) as raised:
        RateLimiter(tmp_path / "rates").charge(key, 1, refuse=True)
    assert raised.value.retry_after == 160  # 1,600 and one more at ten a second, but for the second's worth at once


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A file of keys."""
    file = tmp_path / "keys"
    file.write_text(f"shop read {READER}\nimporter write {digest_of(WRITER)}\nslow read {SLOW} 0.2\n")
    return file


def bearing(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_the_served_process_asks_for_keys(catalogue: Path, photos: list[Path], keys: Path, tmp_path: Path) -> None:
    inside = {"LENS_KEYS_FILE": str(keys), "LENS_WORKERS": "2"}
    image = {"images": photos[0].read_bytes()}
    with (
        serving(catalogue, tmp_path / "log", **inside) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):

        def status(key: str, route: str = "/search") -> int:
            return client.post(route, files=image, headers=bearing(key)).status_code

        answer = client.post("/search", files=image)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "key_required")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert (status(READER), status(WRITER), status("wrong-0123456789abcdef")) == (200, 403, 401)
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers=bearing(READER)).status_code == 200
        assert [client.get(path).status_code for path in ("/livez", "/readyz", "/docs.json")] == [200, 200, 200]
        assert client.get("/docs.json").json()["paths"]["/search"]["post"]["security"]
        with bentoml.SyncHTTPClient(server.url, token=READER) as theirs:
            assert theirs.query(queries=[{"id": 1}], k=1)["results"][0]["hits"]
        limited = [client.post("/query", json={"queries": [{"id": 1}]}, headers=bearing(SLOW)) for _ in range(8)]
        assert {answer.status_code for answer in limited} == {200, 429}
        assert int(limited[-1].headers["retry-after"]) >= 1
        assert limited[-1].json()["error"]["code"] == "rate_limited"
        signs_in(server)
        rotates(client, keys, server, image)
    log = (tmp_path / "log").read_text()
    assert not [key for key in (READER, WRITER, SLOW) if key in log]


def signs_in(server: Server) -> None:
    """The page's form takes a key from itself alone, and no other site's frame shows it."""
    form, page = f"{server.url}/demo/sign-in", {"key": READER}
    shown = httpx.get(f"{server.url}/demo/")
    assert (shown.status_code, "frame-ancestors 'none'" in shown.headers["content-security-policy"]) == (401, True)
    # Another site's form would have its visitors search as whoever it likes.
    elsewhere = httpx.post(form, data=page, headers={"origin": "https://evil.example"})
    assert (elsewhere.status_code, "set-cookie" in elsewhere.headers) == (401, False)
    here = httpx.post(form, data=page, headers={"origin": server.url})
    assert (here.status_code, "Secure" in here.headers["set-cookie"]) == (303, False)
    behind_tls = httpx.post(form, data=page, headers={"x-forwarded-proto": "https"})
    assert "Secure" in behind_tls.headers["set-cookie"]


def rotates(client: httpx.Client, keys: Path, server: Server, image: dict[str, bytes]) -> None:
    """Both keys are valid for a while, then the new one only; nothing is started again."""
    alive = {process.pid for process in server.main.children(recursive=True)}
    fresh = "fresh-0123456789abcdef"

    def both() -> tuple[set[int], set[int]]:
        old, new = set(), set()
        for _ in range(6):  # by new connections, so that both workers are asked
            old.add(httpx.post(f"{server.url}/search", files=image, headers=bearing(READER)).status_code)
            new.add(httpx.post(f"{server.url}/search", files=image, headers=bearing(fresh)).status_code)
        return old, new

    keys.write_text(f"shop read {READER}\nshop2 read {fresh}\n")
    eventually(lambda: both() == ({200}, {200}), "the new key is not valid yet")
    keys.write_text(f"shop2 read {fresh}\n")
    time.sleep(0.6)
    eventually(lambda: both() == ({401}, {200}), "the old key is valid still")
    assert {process.pid for process in server.main.children(recursive=True)} == alive
