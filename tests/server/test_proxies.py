"""Behind proxies and from other sites: a path prefix, CORS, and bodies that are encoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.server.test_gateway import READER, App, ask, codes


def where(request: Request) -> Response:
    return JSONResponse([request.scope["path"], request.scope.get("root_path", ""), str(request.url)])


def seen(path: str, folder: Path, root_path: str | None = None, prefix: str | None = None) -> Any:
    """The path, root_path and URL that an app behind the gateway sees, or the answer's status."""
    headers = {} if prefix is None else {"x-forwarded-prefix": prefix}
    (answer,) = ask(App(where), ("GET", path, {"headers": headers}), folder=folder, root_path=root_path)
    return answer.json() if answer.status_code == 200 else answer.status_code


@pytest.mark.parametrize("path", ["/livez", "/lens/livez"])
@pytest.mark.parametrize("told", [{"root_path": "/lens"}, {"prefix": "/lens"}, {"prefix": "/lens/"}])
def test_a_prefix_is_taken_away_or_left_by_the_proxy(path: str, told: dict[str, str], tmp_path: Path) -> None:
    assert seen(path, tmp_path, **told) == ["/lens/livez", "/lens", "http://localhost:3000/lens/livez"]


def test_without_a_prefix_nothing_changes(tmp_path: Path) -> None:
    assert seen("/livez", tmp_path) == ["/livez", "", "http://localhost:3000/livez"]
    assert seen("/lens/livez", tmp_path) == 404
    assert seen("/lens", tmp_path, root_path="/lens")[0] == "/lens/"
    assert seen("/lensx/livez", tmp_path, root_path="/lens") == 404


def test_prefixes_of_several_proxies_are_joined_and_the_setting_comes_first(tmp_path: Path) -> None:
    assert seen("/livez", tmp_path, prefix="/outer, /inner")[1] == "/outer/inner"
    assert seen("/livez", tmp_path, root_path="/lens", prefix="/other")[1] == "/lens"


@pytest.mark.parametrize(
    "prefix",
    *[
        [
            "//evil.example",
            "/../x",
            "https://evil.example",
            "/a b",
            "/<script>",
            "lens",
            "/a//b",
            "/" + "a" * 300,
            "/%2e",
        ]
    ],
)
def test_a_prefix_that_could_lead_elsewhere_is_ignored(prefix: str, tmp_path: Path) -> None:
    assert seen("/livez", tmp_path, prefix=prefix) == ["/livez", "", "http://localhost:3000/livez"]


def test_the_sign_in_cookie_is_for_the_page_under_its_prefix(tmp_path: Path) -> None:
    sent: dict[str, Any] = {"data": {"key": READER}, "headers": {"x-forwarded-prefix": "/lens"}}
    (answer,) = ask(App(), ("POST", "/demo/sign-in", sent), folder=tmp_path, keys=f"shop read {READER}")
    assert answer.status_code == 303
    assert "Path=/lens/demo;" in answer.headers["set-cookie"]


ORIGIN = "https://shop.example"
PREFLIGHT = {
    "headers": {
        "origin": ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-api-key",
    }
}


def test_other_sites_may_ask_only_where_they_are_allowed(tmp_path: Path) -> None:
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("OPTIONS", "/query", PREFLIGHT),
        ("POST", "/query", {"headers": {"origin": ORIGIN}}),
        ("POST", "/nothing", {"headers": {"origin": ORIGIN}}),
    ]
    preflight, allowed, error = ask(App(), *asked, folder=tmp_path, cors_origins=f"{ORIGIN}, https://other.example")
    assert preflight.status_code == 200
    assert "x-api-key" in preflight.headers["access-control-allow-headers"].lower()
    assert "POST" in preflight.headers["access-control-allow-methods"]
    for answer in (preflight, allowed, error):  # errors too, or a page could not read them
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "access-control-allow-credentials" not in answer.headers
        assert answer.headers["x-request-id"]
    assert codes([error]) == [(404, "no_such_route")]
    assert "Retry-After" in allowed.headers["access-control-expose-headers"]
    for settings in ({}, {"cors_origins": "https://other.example"}):
        for answer in ask(App(), *asked, folder=tmp_path, **settings):
            assert "access-control-allow-origin" not in answer.headers
    (anyone,) = ask(App(), asked[1], folder=tmp_path, cors_origins="*")
    assert anyone.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip", "GZIP"])
def test_an_encoded_body_is_refused_by_name(encoding: str, tmp_path: Path) -> None:
    app = App()
    (answer,) = ask(app, ("POST", "/query", {"headers": {"content-encoding": encoding}}), folder=tmp_path)
    assert codes([answer]) == [(415, "wrong_media_type")]
    assert encoding.lower() in answer.json()["error"]["message"]
    assert "uncompressed" in answer.json()["error"]["message"]
    assert app.asked == []
    (plain,) = ask(app, ("POST", "/query", {"headers": {"content-encoding": "identity"}}), folder=tmp_path)
    assert plain.status_code == 200
