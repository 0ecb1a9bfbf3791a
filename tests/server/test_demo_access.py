"""The page's own routes, called by what is not the page."""

from __future__ import annotations

import random
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.api.errors import RequestError
from server.gateway import Authenticator, DemoAccess
from server.gateway.demo_access import cookie_of
from settings import Settings
from tests.serving import Server, serving

AWKWARD: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 2**70, "", "a" * 1000, "\0", "../../etc/passwd", [], {}, [[]]),
    *(
        {"path": "/etc/passwd"},
        {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
        {"url": "http://127.0.0.1/"},
    ),
)
EVENTS = (
    "run/predict",
    "run/by_item",
    "run/by_picture",
    "api/predict",
    "queue/join",
    "call/again",
    "component_server",
    "reset",
)

FORM = "multipart/form-data; boundary=a"
PART = '--a\r\nContent-Disposition: form-data; name="files"\r\n\r\n'  # a field without a file's name is kept in memory
PART_CHUNK = f"{len(PART):x}\r\n{PART}\r\n"


@pytest.fixture
def page(server: Server) -> Iterator[httpx.Client]:
    """A client of the page, which has been opened before."""
    with httpx.Client(base_url=f"{server.url}/demo", timeout=60) as client:
        assert client.get("/config").status_code == 200
        yield client


def test_events_that_no_page_sends_are_the_callers_fault(server: Server, page: httpx.Client) -> None:
    dice = random.Random(1)
    events = page.get("/config").json()["dependencies"]
    statuses: Counter[int] = Counter()
    alive = {process.pid for process in server.main.children(recursive=True)}
    for _ in range(250):
        event = dice.choice(events)
        count = len(event["inputs"]) + dice.choice([0, 0, 0, -1, 1])
        body = {
            "data": [dice.choice(AWKWARD) for _ in range(max(0, count))],
            "fn_index": event["id"],
            "session_hash": "a",
            "event_data": dice.choice(AWKWARD),
        }
        if dice.random() < 0.3:
            body[dice.choice(list(body))] = dice.choice(AWKWARD)
        answer = page.post(f"/gradio_api/{dice.choice(EVENTS)}", json=body)
        statuses[answer.status_code] += 1
        assert b"Traceback" not in answer.content
    assert not [status for status in statuses if status >= 500], statuses
    assert {process.pid for process in server.main.children(recursive=True)} == alive


def test_uploads_that_are_none_are_refused(page: httpx.Client) -> None:
    dice = random.Random(2)
    kinds = ("multipart/form-data; boundary=a", "multipart/form-data", "text/plain", "application/json", "")
    for _ in range(60):
        answer = page.post(
            "/gradio_api/upload", content=dice.randbytes(200), headers={"content-type": dice.choice(kinds)}
        )
        assert 400 <= answer.status_code < 500
    large = raw(
        page, "POST /demo/gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000000\r\n\r\n"
    )
    assert large.startswith(b"HTTP/1.1 413 ")
    for path, megabytes in (("run/by_picture", 2), ("run/none", 2), ("upload", 66)):
        head = f"POST /demo/gradio_api/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\n"
        assert too_large(raw(page, f"{head}Content-Length: {megabytes * 2**20}\r\n\r\n"))
        chunks = (f"{2**20:x}\r\n" + "a" * 2**20 + "\r\n") * megabytes
        assert too_large(raw(page, f"{head}Transfer-Encoding: chunked\r\n\r\n{PART_CHUNK}{chunks}"))
    for path in ("/etc/passwd", "..%2f..%2fetc/passwd", "/proc/self/environ"):
        assert page.get(f"/gradio_api/file={path}").status_code in (403, 404)


def test_the_page_fetches_nothing(server: Server, page: httpx.Client) -> None:
    for url in ("http://some-host.example/a.jpg", "http://127.0.0.1:1/a.jpg"):
        file = {"path": url, "url": url, "meta": {"_type": "gradio.FileData"}}
        answer = page.post("/gradio_api/run/by_picture", json={"data": [file, 5], "fn_index": 0, "session_hash": "a"})
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "bad_request"
        queued = page.post("/gradio_api/queue/join", json={"data": [file, 5], "fn_index": 0, "session_hash": "a"})
        assert queued.status_code == 404
    log = server.log.read_text()
    assert "resolve" not in log
    assert "some-host" not in log


def test_any_other_cookie_may_stand_beside_the_pages() -> None:
    for others in ('x={"a":1}', "a[b]=1", "foo", "caf\u00e9=1", "path=/", "expires=1", "", "bentolensx=2"):
        assert cookie_of({"cookie": f"{others}; bentolens=a:1:b; z=1"}) == "a:1:b"
    assert cookie_of({"cookie": "a=b"}) is cookie_of({}) is None


def too_large(answer: bytes) -> bool:
    """Whether it is the error for a body that is larger than allowed, in our words."""
    return answer.startswith(b"HTTP/1.1 413 ") and b"request_too_large" in answer


def raw(page: httpx.Client, request: str) -> bytes:
    """The answer to a request that no library would send."""
    with socket.create_connection((page.base_url.host, page.base_url.port or 80), timeout=30) as connection:
        with suppress(OSError):  # it may be refused before it has been sent
            connection.sendall(request.encode())
        answer = b""
        while not answer.endswith(b"}") and (more := connection.recv(1000)):
            answer += more
        return answer


def test_uploads_are_gone_when_the_service_is(catalogue: Path, photos: list[Path], tmp_path: Path) -> None:
    """What a service that has ended left behind would count against the room for uploads of the next one."""
    with serving(catalogue, tmp_path / "log") as server:
        assert httpx.get(f"{server.url}/demo/config", timeout=60).status_code == 200
        sent = httpx.post(f"{server.url}/demo/gradio_api/upload", files={"files": photos[0].read_bytes()}, timeout=30)
        assert sent.status_code == 200
        (kept,) = sent.json()
        assert Path(kept).read_bytes() == photos[0].read_bytes()
    assert not Path(kept).exists()


def test_a_full_disk_takes_no_uploads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import asyncio

    rules = DemoAccess(Authenticator(Settings()), tmp_path, max_upload_bytes=10**6, max_kept_bytes=10**8)
    scope = {"method": "POST", "path": "/demo/gradio_api/upload"}

    async def nothing() -> Any:
        raise AssertionError("nothing is read")

    assert asyncio.run(rules.answer(scope, {"content-length": "1000"}, nothing)) is None
    (tmp_path / "kept").write_bytes(bytes(99_500_000))  # of earlier uploads
    with pytest.raises(RequestError, match="no room for uploads"):
        asyncio.run(rules.answer(scope, {"content-length": "1000"}, nothing))
    (tmp_path / "kept").unlink()
    assert asyncio.run(rules.answer(scope, {"content-length": "1000"}, nothing)) is None
    monkeypatch.setattr("server.gateway.demo_access.shutil.disk_usage", lambda _: type("Usage", (), {"free": 10**6}))
    with pytest.raises(RequestError, match="no room for uploads") as raised:
        asyncio.run(rules.answer(scope, {"content-length": "1000"}, nothing))
    assert (raised.value.kind.status, raised.value.retry_after) == (429, 60)
