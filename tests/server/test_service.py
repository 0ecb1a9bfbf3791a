"""The served process, over HTTP: finds altered copies, batches, isolates bad pictures, and answers errors by name."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import bentoml
import httpx
import numpy as np
import pytest
from PIL import Image, ImageOps

from model import ExtractorCard
from tests.serving import Server, serving

TEXT = b"this is text"


def renewed(photo: Path, name: str) -> bytes:
    """A photo as a file that no test has sent before: what follows the end of a JPEG is not decoded."""
    return photo.read_bytes() + name.encode()


def jpeg(image: Image.Image, quality: int = 95) -> bytes:
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def smaller(photo: Path) -> Image.Image:
    """A photo, decoded at a half or a quarter of its size where it is large: it is to be altered, which takes as long."""
    image = Image.open(photo)
    image.draft("RGB", (640, 640))
    return image.convert("RGB")


def cropped(image: Image.Image) -> Image.Image:
    width, height = image.size
    left, top = round(width * 0.1), round(height * 0.1)
    return image.crop((left, top, width - left, height - top))


COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "flipped": lambda image: jpeg(ImageOps.mirror(image)),
    "cropped to 80 %": lambda image: jpeg(cropped(image)),
    "JPEG quality 20": lambda image: jpeg(image, 20),
    "grey": lambda image: jpeg(ImageOps.grayscale(image)),
    "half the size": lambda image: jpeg(image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)),
}


def test_altered_copies_find_their_original_first(server: Server, photos: list[Path], samples: Path) -> None:
    right, missed = 0, []
    for name, alter in COPIES.items():
        for at in range(0, len(photos), 20):
            part = photos[at : at + 20]
            images = [alter(smaller(photo)) for photo in part]
            answer = server.search(*images, k=1)
            assert answer.status_code == 200, answer.text
            for photo, result in zip(part, answer.json()["results"], strict=True):
                hit = result["hits"][0]["key"] == photo.relative_to(samples).as_posix()
                right += hit
                missed += [] if hit else [(name, photo.name)]
    recall = right / (len(COPIES) * len(photos))
    print(f"recall@1 of altered copies: {recall:.4f} (missed: {missed})")
    assert recall >= 0.97, missed


def test_an_answer_has_the_contracts_shape(server: Server, photos: list[Path], card: ExtractorCard) -> None:
    answer = server.search(renewed(photos[0], "shape"), k=3).json()
    assert answer.keys() == {"results", "generation", "model", "timings_ms"}
    assert (answer["generation"], answer["model"]) == (1, card.model)
    assert answer["timings_ms"].keys() == {"decode", "embed", "search"}
    assert all(value >= 0 for value in answer["timings_ms"].values())
    (result,) = answer["results"]
    assert result["batch_size"] >= 1
    assert [hit.keys() for hit in result["hits"]] == [{"id", "key", "score", "metadata"}] * 3
    scores = [hit["score"] for hit in result["hits"]]
    assert scores[0] == pytest.approx(1, abs=1e-5)
    assert scores == sorted(scores, reverse=True)
    assert result["hits"][0]["metadata"]["label"] == "imagenet"


def test_concurrent_requests_share_batches_and_answer_as_they_would_alone(server: Server, photos: list[Path]) -> None:
    alone = [server.search(renewed(photo, "alone"), k=5).json()["results"][0] for photo in photos[:32]]

    async def together(blobs: list[bytes]) -> list[dict[str, Any]]:
        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=32), timeout=60) as client:
            requests = [client.post(f"{server.url}/search", files={"images": blob}, data={"k": "5"}) for blob in blobs]
            answers = await asyncio.gather(*requests)
        assert {answer.status_code for answer in answers} == {200}
        return [answer.json()["results"][0] for answer in answers]

    for attempt in range(5):  # on a busy machine 32 requests may come one after the other
        shared = asyncio.run(together([renewed(photo, f"together {attempt}") for photo in photos[:32]]))
        if max(result["batch_size"] for result in shared) > 1:
            break
    else:
        pytest.fail("no two requests were in one batch")
    assert {result["batch_size"] for result in alone} == {1}
    for one, other in zip(alone, shared, strict=True):
        assert [hit["id"] for hit in one["hits"]] == [hit["id"] for hit in other["hits"]]
        assert [hit["score"] for hit in one["hits"]] == pytest.approx([hit["score"] for hit in other["hits"]], abs=1e-4)


def test_hundreds_of_requests_on_shared_connections_all_succeed(server: Server, photos: list[Path]) -> None:
    blobs = [photo.read_bytes() for photo in photos if photo.parent.name == "imagenet"]

    async def load() -> list[int]:
        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=16), timeout=60) as client:
            requests = [client.post(f"{server.url}/search", files={"images": blobs[n % 20]}) for n in range(400)]
            return [answer.status_code for answer in await asyncio.gather(*requests)]

    assert set(asyncio.run(load())) == {200}


def test_one_bad_picture_among_sixteen_is_an_error_in_its_place(server: Server, photos: list[Path]) -> None:
    images = [photo.read_bytes() for photo in photos[:16]]
    expected = [result["hits"][0]["id"] for result in server.search(*images, k=1).json()["results"]]
    images[5] = TEXT
    answer = server.search(*images, k=1)
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert results[5].keys() == {"error"}
    assert results[5]["error"].keys() == {"code", "message", "hint"}
    assert results[5]["error"]["code"] == "unsupported_image"
    del results[5], expected[5]
    assert [result["hits"][0]["id"] for result in results] == expected


def test_queries_by_picture_and_by_id_mix_in_one_request(server: Server, photos: list[Path]) -> None:
    picture = base64.b64encode(photos[3].read_bytes()).decode()
    body = {"queries": [{"image": picture}, {"id": 4}, {"image": "???"}, {"id": 999}], "k": 2}
    answer = server.json("query", body)
    assert answer.status_code == 200
    by_picture, by_id, bad, missing = answer.json()["results"]
    assert by_picture["hits"][0]["score"] == pytest.approx(1, abs=1e-5)
    assert by_id["batch_size"] is None
    assert 4 not in [hit["id"] for hit in by_id["hits"]]
    assert bad["error"]["code"] == "bad_request"
    assert missing["error"]["code"] == "item_not_found"
    assert server.json("query", {"queries": [{"id": 999}]}).status_code == 404
    as_url = {"queries": [{"image": "data:image/jpeg;base64," + picture}], "k": 2}
    assert server.json("query", as_url).json()["results"][0]["hits"] == by_picture["hits"]


def test_base64_is_read_as_clients_write_it_or_its_fault_is_named(server: Server, photos: list[Path]) -> None:
    data = photos[0].read_bytes()
    usual = base64.b64encode(data).decode()
    wrapped = "".join(f"  {usual[at : at + 76]}\r\n" for at in range(0, len(usual), 76))
    forms = [usual, usual.rstrip("="), base64.urlsafe_b64encode(data).decode(), wrapped, f" {usual}\n"]
    forms += [base64.urlsafe_b64encode(data).decode().rstrip("="), base64.encodebytes(data).decode()]
    forms += [base64.b64encode(data + bytes(n)).decode().rstrip("=") for n in range(3)]  # of every length
    results = server.json("query", {"queries": [{"image": form} for form in forms], "k": 1}).json()["results"]
    assert [result["hits"][0]["score"] for result in results] == pytest.approx([1] * len(forms), abs=1e-4)
    bad = server.json("query", {"queries": [{"image": usual.replace("+", " ")}, {"image": usual[:5]}]}).json()[
        "results"
    ]
    assert "blanks in its base64: each was a +" in bad[0]["error"]["message"]
    assert "is not base64" in bad[1]["error"]["message"]


def test_embeddings_are_unit_vectors_and_agree_with_the_search(server: Server, photos: list[Path]) -> None:
    answer = server.post(
        "embed", [("images", photos[0].read_bytes()), ("images", TEXT), ("images", photos[1].read_bytes())], {}
    )
    first, bad, second = answer.json()["embeddings"]
    assert (answer.json()["dim"], answer.json()["model"]) == (1280, "tf_efficientnet_lite0")
    assert bad["error"]["code"] == "unsupported_image"
    assert np.linalg.norm([first, second], axis=1) == pytest.approx(1, abs=1e-5)
    results = server.search(photos[0].read_bytes(), k=59).json()["results"][0]["hits"]
    (score,) = [hit["score"] for hit in results if hit["key"].endswith(photos[1].name)]
    assert np.dot(first, second) == pytest.approx(score, abs=1e-4)


def test_items_come_with_metadata_and_thumbnails(server: Server) -> None:
    first, missing = server.json("items/get", {"ids": [1, 999]}).json()["items"]
    assert Image.open(BytesIO(base64.b64decode(first["thumbnail"]))).format == "JPEG"
    assert first.keys() == {"id", "key", "sha256", "added_at", "metadata", "thumbnail"}
    assert missing["error"]["code"] == "item_not_found"
    (same,) = server.json("items/get", {"keys": [first["key"]], "thumbnail": False}).json()["items"]
    assert same == {**first, "thumbnail": None}


def test_k_beyond_the_catalogue_gives_all_of_it(server: Server, photos: list[Path]) -> None:
    assert len(server.search(photos[0].read_bytes(), k=1000).json()["results"][0]["hits"]) == 59


def test_bentomls_own_client_works(server: Server, photos: list[Path]) -> None:
    with bentoml.SyncHTTPClient(server.url) as client:
        answer = client.search(images=[photos[0], photos[1]], k=2)
        assert [len(result["hits"]) for result in answer["results"]] == [2, 2]
        assert client.query(queries=[{"id": 1}], k=1)["results"][0]["hits"]


def test_health_metrics_and_docs_answer(server: Server) -> None:
    for path in ("healthz", "livez", "readyz", "metrics", "docs.json"):
        assert httpx.get(f"{server.url}/{path}").status_code == 200, path
    paths = httpx.get(f"{server.url}/docs.json").json()["paths"]
    assert {"/search", "/query", "/embed", "/items/get"} <= paths.keys()
    assert paths["/search"]["post"]["requestBody"]["content"].keys() == {"multipart/form-data"}


def test_a_picture_that_comes_again_is_a_cache_hit(server: Server, photos: list[Path]) -> None:
    def counted() -> dict[str, float]:
        lines = httpx.get(f"{server.url}/metrics").text.splitlines()
        found = [line.split() for line in lines if line.startswith("bentolens_pictures_total{")]
        return {name.split('"')[1]: float(value) for name, value in found}

    fresh = renewed(photos[7], "again")
    first = server.search(fresh, fresh, k=3).json()["results"]
    before = counted()
    again = server.search(fresh, k=3).json()
    assert [hit["id"] for hit in again["results"][0]["hits"]] == [hit["id"] for hit in first[0]["hits"]]
    assert [one["batch_size"] for one in first] == [1, 1]
    assert again["results"][0]["batch_size"] is None
    assert again["timings_ms"]["decode"] == 0
    after = counted()
    assert after["cached"] == before["cached"] + 1
    assert after["computed"] == before["computed"]


def test_a_picture_that_many_send_at_once_is_embedded_once(server: Server, photos: list[Path]) -> None:
    server.search(renewed(photos[8], "so that there is a count"))
    same = renewed(photos[9], "at once")

    def computed() -> float:
        (line,) = re.findall(r'^bentolens_pictures_total\{embedding="computed"[^}]*\} (\S+)', metrics(), re.MULTILINE)
        return float(line)

    def metrics() -> str:
        return httpx.get(f"{server.url}/metrics").text

    async def together() -> list[dict[str, Any]]:
        async with httpx.AsyncClient(timeout=60) as client:
            requests = [client.post(f"{server.url}/search", files={"images": same}) for _ in range(16)]
            return [answer.json()["results"][0]["hits"] for answer in await asyncio.gather(*requests)]

    before = computed()
    hits = asyncio.run(together())
    assert hits == [hits[0]] * 16
    assert computed() == before + 1


def test_limits_come_from_settings(catalogue: Path, photos: list[Path], tmp_path: Path) -> None:
    limits = {"LENS_MAX_REQUEST_BYTES": "200000", "LENS_MAX_BYTES": "100000", "LENS_MAX_K": "5", "LENS_DEMO": "0"}
    with serving(catalogue, tmp_path / "log", **limits) as server:
        small = [photo for photo in photos if photo.stat().st_size < 90_000]
        assert server.search(small[0].read_bytes()).status_code == 200
        assert (
            server.search(*[photo.read_bytes() for photo in small[:8]]).json()["error"]["code"] == "request_too_large"
        )
        assert server.search(bytes(150_000)).json()["error"]["code"] == "image_too_large"
        assert server.search(small[0].read_bytes(), k=6).status_code == 422
        assert len(server.search(small[0].read_bytes()).json()["results"][0]["hits"]) == 5
        assert httpx.get(f"{server.url}/demo/").status_code == 404
        assert "/docs.json" in httpx.get(f"{server.url}/").text


def test_what_takes_too_long_is_a_named_error(catalogue: Path, tmp_path: Path) -> None:
    buffer = BytesIO()
    Image.new("RGB", (9_000, 9_000)).save(buffer, "PNG")
    with serving(catalogue, tmp_path / "log", LENS_TIMEOUT="1") as server:
        # Bytes of their own, or they would be decoded once for all.
        answer = server.search(*(buffer.getvalue() + bytes([number]) for number in range(12)))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "timed_out")
        assert "within 1 s" in answer.json()["error"]["message"]
