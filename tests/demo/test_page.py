"""The page at /demo in a real browser: upload, neighbours, click to go on; on a phone; and on two workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.serving import Server, serving, shared_folder

FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
HITS = "#hits .thumbnail-item"
expect.set_options(timeout=60_000)  # a busy machine is no failure


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield browser
        browser.close()


def opened(browser: Browser, server: Server, width: int = 1280, height: int = 900) -> Page:
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(60_000)
    page.goto(f"{server.url}/demo")
    expect(page.get_by_text("How many (k)")).to_be_visible()
    return page


def upload(page: Page, photo: Path) -> None:
    page.set_input_files("input[type=file]", photo)
    expect(page.locator("#note")).to_contain_text("nearest to your picture")


def loaded(page: Page) -> list[bool]:
    """Whether each picture on the page has arrived."""
    expect(page.locator("#hits img")).not_to_have_count(0)
    page.wait_for_function("[...document.querySelectorAll('#hits img')].every(image => image.complete)")
    return page.eval_on_selector_all("#hits img", "images => images.map(image => image.naturalWidth > 0)")


def test_a_picture_finds_its_neighbours_and_a_click_goes_on(
    browser: Browser, server: Server, photos: list[Path]
) -> None:
    page = opened(browser, server)
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    upload(page, photos[30])
    assert loaded(page) == [True] * 10
    captions = page.locator("#hits .caption-label").all_inner_texts()
    assert captions[0] == f"1.000 {photos[30].name}"
    page.locator(HITS).nth(3).click()
    name = captions[3].split()[1]
    expect(page.locator("#note")).to_contain_text(f"nearest to interiors/{name}")
    expect(page.locator("#hits .caption-label", has_text=f"1.000 {photos[30].name}")).to_have_count(0)
    expect(page.locator(HITS)).to_have_count(10)
    page.locator("input[type=number]").fill("4")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#note")).to_contain_text("4 nearest to")
    assert name in page.inner_text("#note")  # still the clicked one
    assert [url for url in requested if not url.startswith((server.url, "data:", "blob:"))] == []
    page.close()


def test_what_cannot_be_read_is_said_on_the_page(browser: Browser, server: Server, tmp_path: Path) -> None:
    page = opened(browser, server)
    (tmp_path / "text.jpg").write_text("text")
    page.set_input_files("input[type=file]", tmp_path / "text.jpg")
    expect(page.locator("#note")).to_contain_text("Not searched: the bytes are not a picture")
    page.close()


def test_a_picture_with_a_turned_orientation_reaches_the_search_as_it_was_sent(
    browser: Browser, server: Server, photos: list[Path], tmp_path: Path
) -> None:
    from PIL import ExifTags, Image

    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    with Image.open(photos[31]) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    page = opened(browser, server)
    upload(page, tmp_path / "turned.jpg")
    assert photos[31].name in page.locator("#hits .caption-label").first.inner_text()
    page.close()


def predicted(server: Server, function: int, *data: object) -> httpx.Response:
    body = {"data": data, "fn_index": function, "session_hash": "x", "event_data": {"index": 0, "value": None}}
    return httpx.post(f"{server.url}/demo/gradio_api/run/predict", json=body, timeout=60)


def uploads_of(server: Server) -> Path:
    """The folder that the page's uploads are in, seen from here if it is in a container too."""
    worker = server.workers("ImageSearch")[0]
    return shared_folder(worker) / "uploads"


def test_a_request_cannot_make_the_page_read_files_of_the_machine(server: Server, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_text("no one's business")
    os.mkfifo(tmp_path / "pipe")
    assert httpx.get(f"{server.url}/demo/", timeout=60).status_code == 200
    uploads = uploads_of(server)
    for path in (secret, tmp_path / "pipe", tmp_path / "none", tmp_path, Path("/etc/passwd")):
        for named in ({"path": str(path)}, {"path": str(path), "meta": {"_type": "gradio.FileData"}}):
            answer = predicted(server, 0, named, 3)
            assert "nearest" not in answer.text
            assert "not a picture" not in answer.text  # which would mean that it was read
            assert "Errno" not in answer.text
    assert [*uploads.rglob("secret.jpg"), *uploads.rglob("passwd")] == []
    assert uploads.stat().st_mode & 0o077 == 0
    assert httpx.get(f"{server.url}/livez", timeout=60).status_code == 200


def test_nonsense_in_what_the_browser_keeps_is_no_error(server: Server) -> None:
    assert httpx.get(f"{server.url}/demo/", timeout=60).status_code == 200
    for asked in ("notjson", "[]", '[99999999999999999999999, "x"]', '[999, "x"]', '["a", 1]', "{}"):
        assert predicted(server, 1, None, asked, 3).status_code == 200, asked
    for kept in ("notjson", "[]", '[[12345, "a"]]', "7"):
        assert predicted(server, 2, kept, 3).status_code == 200, kept


def test_the_front_page_leads_to_it_and_asks_no_other_host(browser: Browser, server: Server) -> None:
    page = browser.new_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(f"{server.url}/")
    expect(page.get_by_text("How many (k)")).to_be_visible()
    assert page.url == f"{server.url}/demo/"
    assert [url for url in requested if not url.startswith((server.url, "data:", "blob:"))] == []
    page.close()


def test_it_fits_a_phone(browser: Browser, server: Server, photos: list[Path]) -> None:
    page = opened(browser, server, 390, 844)
    upload(page, photos[30])
    assert all(loaded(page))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    lefts = {round(box["x"]) for hit in page.locator(HITS).all() if (box := hit.bounding_box())}
    assert len(lefts) == 2  # two columns
    page.close()


def test_it_works_on_two_workers(browser: Browser, catalogue: Path, photos: list[Path], tmp_path: Path) -> None:
    """Each worker in turn is the only one that runs, so that no luck decides which of them answers."""
    with serving(catalogue, tmp_path / "log", LENS_WORKERS="2") as server:
        workers = server.workers("ImageSearch")
        assert len(workers) == 2
        files: list[str] = []
        for running, stopped in (workers, reversed(workers)):
            running.resume()
            stopped.suspend()
            for url in files:  # what the other worker took in and what it showed
                assert httpx.get(url, timeout=30).status_code == 200, url
            page = opened(browser, server)
            page.on("request", lambda request: files.append(request.url) if "/file=" in request.url else None)
            upload(page, photos[30])
            assert all(loaded(page))
            page.locator(HITS).nth(1).click()
            expect(page.locator("#note")).to_contain_text("nearest to interiors/")
            assert all(loaded(page))
            page.close()
            assert any(photos[30].name in url for url in files)
        stopped.resume()


def test_the_page_asks_for_a_key_where_there_are_keys(
    browser: Browser, catalogue: Path, photos: list[Path], tmp_path: Path
) -> None:
    key = "a-key-of-the-page-0123456789"
    with serving(catalogue, tmp_path / "log", LENS_KEYS=f"shop read {key}", LENS_WORKERS="2") as server:
        for path in ("config", "gradio_api/info", "gradio_api/file=a", "assets/index.js"):
            assert httpx.get(f"{server.url}/demo/{path}").status_code == 401, path
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.set_default_timeout(60_000)
        page.goto(f"{server.url}/demo")
        page.get_by_label("API key").fill("wrong")
        page.get_by_role("button", name="Open the page").click()
        expect(page.get_by_role("alert")).to_contain_text("There is no such key")
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Open the page").click()
        expect(page.get_by_text("How many (k)")).to_be_visible()
        for photo in photos[:4]:  # on either worker
            upload(page, photo)
            assert loaded(page) == [True] * 10
            page.get_by_label("Remove").or_(page.get_by_label("Clear")).first.click()
            # Taking a picture away is a request of its own: until it is answered the note is the last search's.
            expect(page.locator("#note")).to_contain_text("to begin")
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/demo")
        assert key not in cookie["value"]
        page.close()
