"""The page and the API behind a proxy's path prefix, and a page of another site that calls the API: in Chromium."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.demo.test_page import HITS, browser, loaded, upload  # noqa: F401
from tests.proxy import PREFIX, proxied
from tests.serving import Server, serving


def searched(browser: Browser, url: str, photos: list[Path]) -> None:  # noqa: F811
    """Open the page, upload a picture, and go on from one of its neighbours."""
    page: Page = browser.new_page()
    page.set_default_timeout(60_000)
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(url)
    upload(page, photos[30])
    assert loaded(page) == [True] * 10
    page.locator(HITS).nth(3).click()
    expect(page.locator("#note")).to_contain_text("nearest to interiors/")
    base = url[: url.index(PREFIX) + len(PREFIX)]
    assert [one for one in requested if not one.startswith((base + "/", "data:", "blob:"))] == []
    page.close()


def test_the_page_works_behind_a_prefix_that_the_proxy_tells(
    browser: Browser,  # noqa: F811
    catalogue: Path,
    photos: list[Path],
    tmp_path: Path,
) -> None:
    # Behind a proxy nobody counts as being at this machine.
    open_to_all = serving(catalogue, tmp_path / "log", LENS_ALLOW_ANONYMOUS="1")
    with open_to_all as server, proxied(server.url) as proxy:
        searched(browser, f"{proxy.url}/", photos)
        assert httpx.get(f"{proxy.url}/").headers["location"] == f"{PREFIX}/demo/"
        assert httpx.get(f"{proxy.url}/demo").next_request is not None
        assert str(httpx.get(f"{proxy.url}/demo").next_request.url) == f"{proxy.url}/demo/"  # type: ignore[union-attr]
        assert httpx.get(f"{proxy.url}/docs.json").json()["servers"] == [{"url": PREFIX}]
        answer = httpx.post(f"{proxy.url}/query", json={"queries": [{"id": 1}]}, timeout=60)
        assert answer.status_code == 200
        assert proxy.missed == []
        searched(browser, f"{proxy.url}/demo", photos)
        assert "servers" not in httpx.get(f"{server.url}/docs.json").json()


@pytest.mark.soak
@pytest.mark.parametrize("strip", [True, False])
def test_the_page_works_behind_a_prefix_that_the_setting_tells(
    strip: bool,
    browser: Browser,  # noqa: F811
    catalogue: Path,
    photos: list[Path],
    tmp_path: Path,
) -> None:
    key = "reader-0123456789abcdef"
    settings = {"LENS_ROOT_PATH": PREFIX, "LENS_KEYS": f"shop read {key}"}
    with (
        serving(catalogue, tmp_path / "log", **settings) as server,
        proxied(server.url, tell=False, strip=strip) as proxy,
    ):
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{proxy.url}/demo")
        page.locator("#key").fill(key)
        page.get_by_role("button", name="Open the page").click()
        upload(page, photos[30])
        assert loaded(page) == [True] * 10
        assert [one["path"] for one in page.context.cookies()] == [f"{PREFIX}/demo"]
        assert page.url == f"{proxy.url}/demo/"
        assert proxy.missed == []
        page.close()


SITE = """<!doctype html><meta charset="utf-8"><p id="told"></p><script>
const headers = {"Content-Type": "application/json", "X-API-Key": "%s"};
fetch("%s/query", {method: "POST", headers, body: JSON.stringify({queries: [{id: 1}], k: 3})})
  .then(answer => answer.json().then(body => body.results[0].hits.length + " hits " + answer.headers.get("x-request-id")))
  .catch(String).then(text => { document.getElementById("told").textContent = text })
</script>"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """Another site: what it serves lies in its folder."""
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ExitStack() as stack:
        other = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=other.serve_forever, daemon=True).start()
        stack.callback(other.shutdown)
        yield f"http://127.0.0.1:{other.server_port}"


@pytest.mark.soak
def test_a_page_of_another_site_asks_where_its_origin_is_allowed(
    browser: Browser,  # noqa: F811
    server: Server,
    catalogue: Path,
    site: str,
    tmp_path: Path,
) -> None:
    key = "reader-0123456789abcdef"
    page = browser.new_page()
    settings = {"LENS_CORS_ORIGINS": site, "LENS_KEYS": f"shop read {key}"}
    with serving(catalogue, tmp_path / "log", **settings) as allowing:
        (tmp_path / "page.html").write_text(SITE % (key, allowing.url))
        page.goto(f"{site}/page.html")
        expect(page.locator("#told")).to_contain_text("3 hits ")
        assert len(page.inner_text("#told").split()[-1]) == 32
    (tmp_path / "page.html").write_text(SITE % (key, server.url))
    page.goto(f"{site}/page.html")
    expect(page.locator("#told")).to_contain_text("Failed to fetch")
    page.close()
