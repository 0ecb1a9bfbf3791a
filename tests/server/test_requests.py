"""Requests that cannot be answered get an error that says what was wrong, with the right status, and harm nothing."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import httpx

from tests.serving import Server

TEXT = b"this is text"


def huge_png() -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 10_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 1000) + b"IDAT"


def test_a_single_bad_picture_is_also_the_status(server: Server, photos: list[Path]) -> None:
    whole = photos[0].read_bytes()
    for data, status, code in (
        (TEXT, 415, "unsupported_image"),
        (whole[: len(whole) // 2], 400, "unreadable_image"),
        (b"", 400, "unreadable_image"),
        (huge_png(), 413, "image_too_large"),
    ):
        answer = server.search(data)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert answer.json()["results"] == [{"error": answer.json()["error"]}]


def test_bad_requests_are_told_what_was_wrong(server: Server, photos: list[Path]) -> None:
    image = photos[0].read_bytes()
    files = [("images", image)]
    cases: list[tuple[httpx.Response, int, str]] = [
        (server.search(image, k=0), 422, "k: "),
        (server.search(image, k=1001), 422, "k: 1001 is more than the 1000 allowed"),
        (server.search(image, k="many"), 422, "k: "),
        (server.search(image, where='{"label": '), 422, "where: this is not JSON (Expecting value"),
        (server.search(image, where="[" * 100_000), 422, "where: "),
        (server.search(image, where='{"width": 1, "width": 2}'), 422, "'width' is there twice in one object"),
        (raw(server, "query", b'{"queries": [{"id": 1}], "where": {"a": 1, "a": 2}}'), 400, "'a' is there twice"),
        (server.post("search", files, {"where": ["{}", "{}"]}), 422, "where: it is there twice"),
        (server.json("query", {"queries": [{"id": 1}], "where": {"$and": [{}] * 1100}}), 422, "at most 64 conditions"),
        (
            server.search(image, where='{"$or": [{"width": {"$gt": "1", "$lt": []}}]}'),
            422,
            "where.$or[0].width.$lt: give",
        ),
        (server.json("query", {"queries": [{"id": 1}], "where": [1]}), 422, "where: a filter is an object"),
        (
            raw(server, "query", b'{"queries": [{"id": 1}], "where": {"\\ud800": 1}}'),
            422,
            "where.\\ud800.$eq: half a surrogate",
        ),
        # Each value takes thirty times the memory of its text.
        (
            raw(server, "items/get", b'{"ids": [' + b"1," * 1_000_000 + b"1]}"),
            422,
            "the body has more than the 1,000,000",
        ),
        (
            server.search(image, where="[" + "1," * 1_000_000 + "1]"),
            422,
            "where: the filter has more than the 1,000,000",
        ),
        (server.json("items/get", {"ids": [1] * 65}), 422, "65 in one request are more than the 64 allowed"),
        (server.search(image, top=3), 422, "top: "),
        (server.post("search", [("picture", image)], {}), 422, "picture: there is no file field"),
        (server.post("search", files * 65, {}), 422, "images: more than the 64 allowed"),
        (server.post("embed", files, {"k": 3}), 422, "k: "),
        (httpx.post(f"{server.url}/search", data={"images": "http://127.0.0.1:1/a.jpg"}), 415, "multipart/form-data"),
        (server.post("search", [("images", image)], {"images": "text"}), 422, "images: send a file"),
        (httpx.post(f"{server.url}/search", files={"other": b""}, data={}), 422, "other: "),
        (server.json("search", {"images": []}), 415, "multipart/form-data"),
        (
            httpx.post(f"{server.url}/search", content=b"x", headers={"content-type": "multipart/form-data"}),
            400,
            "multipart",
        ),
        (
            httpx.post(
                f"{server.url}/search",
                content=b"--a\r\nbroken",
                headers={"content-type": "multipart/form-data; boundary=a"},
            ),
            400,
            "breaks off before its closing boundary",
        ),
        (
            httpx.post(f"{server.url}/query", content=b"{", headers={"content-type": "application/json"}),
            400,
            "not JSON",
        ),
        (httpx.post(f"{server.url}/query", content=b"{}", headers={"content-type": "text/plain"}), 415, "text/plain"),
        (server.json("query", []), 422, "the body: "),
        (server.json("query", {"queries": []}), 422, "queries: "),
        (server.json("query", {"queries": [{}]}), 422, "queries.0: give either image, url, id or text"),
        (server.json("query", {"queries": [{"id": 1, "image": "x"}]}), 422, "queries.0: "),
        (server.json("query", {"queries": [{"url": "http://127.0.0.1:1/"}]}), 422, "URLs are not fetched here"),
        (server.json("query", {"queries": [{"id": 1}] * 65}), 422, "65 in one request are more than the 64"),
        (server.json("query", {"queries": [{"id": 2**70}]}), 422, "queries.0.id: "),
        (server.json("items/get", {}), 422, "the body: "),
        (server.json("items/get", {"ids": ["x"]}), 422, "ids.0: "),
        (server.json("items/get", {"ids": [True]}), 422, "ids.0: "),
        (raw(server, "items/get", b'{"keys": ["a", "\\ud800"]}'), 422, "keys.1: half a surrogate pair"),
        (raw(server, "query", b'{"queries": [{"\\ud800": 1}]}'), 422, "queries.0: "),
        (server.json("query", {"queries": [{"id": 1}], "k": True}), 422, "k: "),
    ]
    for answer, status, message in cases:
        error = answer.json()["error"]
        assert answer.status_code == status, error
        assert message in error["message"]
        assert error["hint"]
        assert "Traceback" not in answer.text


def raw(server: Server, route: str, body: bytes) -> httpx.Response:
    return httpx.post(f"{server.url}/{route}", content=body, headers={"content-type": "application/json"})


def test_a_multipart_body_that_breaks_off_loses_no_picture_silently(server: Server, photos: list[Path]) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n\r\n' + photos[0].read_bytes()
    headers = {"content-type": "multipart/form-data; boundary=b"}
    for body, status in ((part + b"\r\n" + part, 400), (part + b"\r\n" + part + b"\r\n--b--\r\n", 200)):
        answer = httpx.post(f"{server.url}/search", content=body, headers=headers)
        assert answer.status_code == status
    assert len(answer.json()["results"]) == 2


def test_a_url_in_a_file_field_is_never_fetched(server: Server) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="images"\r\n\r\nhttp://127.0.0.1:1/a.jpg\r\n--b--\r\n'
    answer = httpx.post(
        f"{server.url}/search", content=body, headers={"content-type": "multipart/form-data; boundary=b"}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_field")
