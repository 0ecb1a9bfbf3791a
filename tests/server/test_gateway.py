"""The gateway over ASGI, around an app that notes what reaches it: routes, keys, bodies, errors, ids and the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import Gauge
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from server.api.errors import NOT_READY, RequestError
from server.api.route import Route
from server.api.routes import ROUTES
from server.gateway import Authenticator, BodyBudget, DemoAccess, Gateway, GatewayConfig, RateLimiter
from server.telemetry import current_request
from settings import Settings, split_list

READER, WRITER = "reader-0123456789abcdef", "writer-0123456789abcdef"
KEYS = f"shop read {READER} 5; importer write {WRITER}"
ADD = Route("/items/add", "POST", "write", "A route that changes the catalogue.")
LIMIT = 1000
GAUGE = Gauge("test_gateway_body_bytes", "Bytes of bodies in the tests of the gateway")

Answer = Callable[[Request], Any]


class App:
    """Answers every request with ``answer``, and notes the paths that it was asked for."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.asked: list[str] = []
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        self.asked.append(scope["path"])
        body = await request.body()
        response = self._answer(request) if self._answer else PlainTextResponse(str(len(body)))
        await response(scope, receive, send)


def config_of(folder: Path, **settings: Any) -> GatewayConfig:
    """A gateway's config with a small limit."""
    authenticator = Authenticator(Settings(**settings))
    return GatewayConfig(
        authenticator=authenticator,
        rate_limiter=RateLimiter(folder / "rates"),
        body_budget=BodyBudget(10 * LIMIT, GAUGE),
        max_body_bytes=LIMIT,
        timeout=5,
        demo=DemoAccess(authenticator, folder, 100, 10**6),
        cors_origins=split_list(settings.get("cors_origins")),
        root_path=settings.get("root_path"),
        routes=(*ROUTES, ADD),
    )


def ask(app: App, *requests: tuple[str, str, dict[str, Any]], folder: Path, **settings: Any) -> list[httpx.Response]:
    """Send requests through the gateway, from this machine."""

    async def send() -> list[httpx.Response]:
        transport = httpx.ASGITransport(Gateway(app, config_of(folder, **settings)), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:3000") as client:
            return [await client.request(method, path, **more) for method, path, more in requests]

    return asyncio.run(send())


def codes(answers: list[httpx.Response]) -> list[tuple[int, str | None]]:
    return [
        (one.status_code, one.json()["error"]["code"] if one.headers["content-type"] == "application/json" else None)
        for one in answers
    ]


def bearing(key: str) -> dict[str, Any]:
    return {"headers": {"authorization": f"Bearer {key}"}}


def test_a_path_without_a_route_ends_here(tmp_path: Path) -> None:
    app = App()
    paths = ("/nothing", "/search/", "/SEARCH", "/items", "/demox", "/fault")
    answers = ask(app, *(("POST", path, {}) for path in paths), folder=tmp_path)
    assert codes(answers) == [(404, "no_such_route")] * len(paths)
    assert app.asked == []
    assert codes(ask(app, ("POST", "/search", {}), ("GET", "/livez", {}), folder=tmp_path)) == [(200, None)] * 2
    assert app.asked == ["/search", "/livez"]


def test_each_route_needs_the_scope_that_the_table_names(tmp_path: Path) -> None:
    paths = [(route.method, route.path, route.scope) for route in (*ROUTES, ADD) if route.path != "/demo"]
    for key, scopes in ((None, {None}), (READER, {None, "read"}), (WRITER, {None, "write"})):
        for method, path, scope in paths:
            more = bearing(key) if key else {}
            (answer,) = ask(App(), (method, path, more), folder=tmp_path / f"{key}{path}", keys=KEYS)
            expected = 200 if scope in scopes else 403 if key else 401
            assert answer.status_code == expected, (path, key)
            assert ("www-authenticate" in answer.headers) == (expected == 401)


def test_a_key_pays_for_what_its_request_turned_out_to_have(tmp_path: Path) -> None:
    def count(request: Request) -> Response:
        current_request().count_items(11)
        return PlainTextResponse("")

    search = ("POST", "/search", bearing(READER))
    first, second = ask(App(count), search, search, folder=tmp_path, keys=KEYS)
    assert codes([first, second]) == [(200, None), (429, "rate_limited")]
    assert int(second.headers["retry-after"]) >= 1


def test_bodies_are_bounded_however_they_are_sent(tmp_path: Path) -> None:
    async def chunks() -> AsyncGenerator[bytes, None]:
        for _ in range(LIMIT):
            yield b"aa"

    app = App()
    sound, declared, streamed = ask(
        app,
        ("POST", "/search", {"content": bytes(LIMIT)}),
        ("POST", "/search", {"content": bytes(LIMIT + 1)}),
        ("POST", "/search", {"content": chunks()}),
        folder=tmp_path,
    )
    assert (sound.status_code, sound.text) == (200, str(LIMIT))
    assert codes([declared, streamed]) == [(413, "request_too_large")] * 2
    assert app.asked == ["/search", "/search"], "what declares too many bytes is refused before it is read"
    assert GAUGE._value.get() == 0


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "bad_request"),
        (404, "no_such_route"),
        (405, "wrong_method"),
        (500, "internal_error"),
        (503, "extractor_unavailable"),
    ],
)
def test_an_untyped_error_of_the_app_gets_a_typed_body(status: int, code: str, tmp_path: Path) -> None:
    def fail(request: Request) -> Response:
        return PlainTextResponse("the golden pictures have drifted", status, {"Allow": "GET"})

    (answer,) = ask(App(fail), ("POST", "/search", {}), folder=tmp_path)
    assert codes([answer]) == [(status, code)]
    assert answer.headers.get("allow") == "GET"
    if status == 503:
        assert answer.json()["error"]["message"] == "the golden pictures have drifted"


def test_what_the_app_raises_is_answered_and_its_text_is_kept_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def named(request: Request) -> Response:
        raise RequestError(NOT_READY, "not yet")

    def unnamed(request: Request) -> Response:
        raise RuntimeError("/etc/secret")

    (first,) = ask(App(named), ("POST", "/search", {}), folder=tmp_path)
    assert codes([first]) == [(503, "extractor_unavailable")]
    assert first.headers["retry-after"] == "2"
    (second,) = ask(App(unnamed), ("POST", "/search", {}), folder=tmp_path)
    assert codes([second]) == [(500, "internal_error")]
    assert "secret" not in second.text
    assert "RuntimeError" in caplog.text, "and the log has its traceback"


def test_an_app_that_breaks_off_in_an_error_gets_a_whole_typed_answer(tmp_path: Path) -> None:
    class BreaksOff(App):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 500, "headers": []})
            raise RuntimeError("before its body")

    (answer,) = ask(BreaksOff(), ("POST", "/search", {}), folder=tmp_path)
    assert codes([answer]) == [(500, "internal_error")]


def test_ids_are_the_callers_own_where_they_are_sound(tmp_path: Path) -> None:
    ids = ("mine-1", 'a"} {', "", "a" * 65)
    answers = ask(App(), *(("GET", "/livez", {"headers": {"x-request-id": one}}) for one in ids), folder=tmp_path)
    given = [answer.headers["x-request-id"] for answer in answers]
    assert given[0] == "mine-1"
    assert all(len(one) == 32 for one in given[1:])
    assert {answer.headers["x-content-type-options"] for answer in answers} == {"nosniff"}


def test_a_request_is_one_line_in_the_log_and_health_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bentoml.access")
    ask(App(), ("GET", "/livez", {}), ("POST", "/search", {}), ("GET", "/made-up", {}), folder=tmp_path)
    lines = [(record.route, record.status, record.code) for record in caplog.records]  # type: ignore[attr-defined]
    assert lines == [("/search", 200, None), ("none", 404, "no_such_route")]


def test_bentomls_own_media_types_and_websockets_are_refused(tmp_path: Path) -> None:
    (answer,) = ask(
        App(), ("POST", "/search", {"headers": {"content-type": "application/vnd.bentoml+pickle"}}), folder=tmp_path
    )
    assert codes([answer]) == [(415, "wrong_media_type")]
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    asyncio.run(Gateway(App(), config_of(tmp_path))({"type": "websocket"}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_errors_of_the_page_stay_as_its_script_reads_them(tmp_path: Path) -> None:
    def fail(request: Request) -> Response:
        return PlainTextResponse("as Gradio says it", 500 if "gradio_api" in request.url.path else 404)

    own, event = ask(
        App(fail), ("GET", "/demo/theme.css", {}), ("POST", "/demo/gradio_api/run/predict", {}), folder=tmp_path
    )
    assert (own.status_code, own.text) == (404, "as Gradio says it")
    assert codes([event]) == [(400, "bad_request")]
    (queue,) = ask(App(), ("POST", "/demo/gradio_api/queue/join", {}), folder=tmp_path)
    assert codes([queue]) == [(404, "no_such_route")]
