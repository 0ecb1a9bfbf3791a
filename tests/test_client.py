"""The client that the documents offer for copying: typed, and patient where the service asks for patience."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from docs.bentolens_client import BentoLens, BentoLensError, Example, Hit, Hits, Item, Query, Refused, Shape
from tests.serving import ROOT, Server, serving


def test_it_searches_queries_embeds_and_gets_items(server: Server, photos: list[Path]) -> None:
    with BentoLens(server.url) as lens:
        first, bad = lens.search([photos[0], b"text"], k=2, where={"width": {"$gt": 0}})
        assert isinstance(first, list)
        assert [type(hit) for hit in first] == [Hit, Hit]
        assert first[0].key.endswith(photos[0].name)
        assert isinstance(bad, Refused)
        assert bad.code == "unsupported_image"
        by_id, by_picture, by_url = lens.query([first[0].id, photos[1].read_bytes(), "http://127.0.0.1/"], k=1)
        assert isinstance(by_id, list)
        assert isinstance(by_picture, list)
        assert isinstance(by_url, Refused)
        (vector,) = lens.embed([str(photos[0])])
        assert np.linalg.norm(np.array(vector)) == pytest.approx(1, abs=1e-5)
        item, missing = lens.items(ids=[first[0].id, 9999], thumbnails=True)
        assert isinstance(item, Item)
        assert item.thumbnail is not None
        assert item.thumbnail.startswith(b"\xff\xd8")
        assert isinstance(missing, Refused)
        (alone,) = lens.search([b"text"])
        assert isinstance(alone, Refused)
        with pytest.raises(BentoLensError, match="k: 5000 is more than") as raised:
            lens.search([photos[0]], k=5000)
        assert (raised.value.status, raised.value.refused.code) == (422, "invalid_field")


def test_it_asks_by_examples_and_words_and_has_its_answer_shaped(server: Server, photos: list[Path]) -> None:
    with BentoLens(server.url) as lens:
        both = Query(id=1, positive=[Example(picture=photos[5], region=[0, 0, 1, 0.5])], negative=[Example(id=9)])
        found, words, unknown = lens.query([both, Query(text="zebra"), Query(text="zebar")], k=5)
        assert isinstance(found, Hits)
        assert len(found) == 5
        assert not {1, 9} & {hit.id for hit in found}
        assert isinstance(words, Hits)
        assert isinstance(unknown, Refused)
        assert "zebra" in unknown.message
        shape: Shape = {"k": 30, "limit": 4, "facets": ["label"], "classify": "label", "sort": "-width"}
        for shaped in (*lens.query([1], **shape), *lens.search([photos[0]], **shape)):
            assert isinstance(shaped, Hits)
            assert (len(shaped), shaped.total) == (4, 30)
            assert shaped.facets
            assert sum(one["count"] for one in shaped.facets[0]["values"]) == 30
            assert shaped.classify
        (groups,) = lens.query([1], group_by="label", fold=0.99)
        assert isinstance(groups, Hits)
        assert all(hit.group and hit.folded is not None for hit in groups)


def test_it_sends_a_key(catalogue: Path, photos: list[Path], tmp_path: Path) -> None:
    key = "a-key-of-the-client-01234"
    with serving(catalogue, tmp_path / "log", LENS_KEYS=f"client read {key}") as server:
        with BentoLens(server.url, key) as lens:
            assert isinstance(lens.search([photos[0]])[0], list)
        with BentoLens(server.url) as lens, pytest.raises(BentoLensError, match="a key is needed"):
            lens.search([photos[0]])


BUSY = (429, '{"error": {"code": "busy", "message": "m", "hint": "h"}}')
NO_NETWORK = (503, '{"results": [{"error": {"code": "c", "message": "m", "hint": "h"}}], "error": {}}')
DONE = (200, '{"results": [{"hits": []}]}')


@pytest.fixture
def script() -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """The URL of a server, and what it will answer: it takes the first of the list each time."""
    answers: list[tuple[int, str]] = []

    class Scripted(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, text = answers.pop(0)
            self.send_response(status)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", answers
    server.shutdown()


def test_it_comes_back_when_it_is_told_to(script: tuple[str, list[tuple[int, str]]]) -> None:
    url, answers = script
    answers += [BUSY, NO_NETWORK, DONE]
    with BentoLens(url) as lens:
        assert lens.search([b"a"]) == [[]]
    assert answers == []
    answers += [DONE, NO_NETWORK, NO_NETWORK, BUSY, BUSY, DONE]
    with BentoLens(url, tries=2) as lens:
        assert lens.search([b"a"]) == [[]]
        assert lens.search([b"a"]) == [Refused("c", "m", "h")]
        with pytest.raises(BentoLensError, match="m; h"):
            lens.search([b"a"])
    assert answers == [DONE]


@pytest.mark.parametrize(
    "text", ["<h1>Bad Gateway</h1>", "", "[]", '"a"', "{}", '{"error": "a"}', '{"error": {"message": "m"}}']
)
def test_what_is_not_the_services_answer_is_told_as_that(text: str, script: tuple[str, list[tuple[int, str]]]) -> None:
    url, answers = script
    for status in (200, 502):
        answers.append((status, text))
        with BentoLens(url) as lens, pytest.raises(BentoLensError, match=f"with status {status}") as raised:
            lens.search([b"a"])
        assert (raised.value.status, raised.value.refused.code) == (status, "not_bentolens")


def test_it_is_one_file_that_needs_httpx_only(tmp_path: Path) -> None:
    copy = tmp_path / "bentolens_client.py"
    copy.write_bytes((ROOT / "docs" / "bentolens_client.py").read_bytes())
    told = "import bentolens_client, sys; print(sorted({'numpy', 'bentoml', 'pydantic', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", told], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
