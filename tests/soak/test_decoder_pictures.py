"""The pictures that decoders test themselves with: every one is answered, or refused for what it is."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.serving import ROOT, Server

PICTURES = ROOT / ".cache" / "decoder-pictures"
CODES: dict[int, set[str | None]] = {
    200: {None},
    400: {"unreadable_image"},
    413: {"image_too_large"},
    415: {"unsupported_image"},
}


@pytest.fixture(scope="module")
def pictures() -> list[Path]:
    """All of them."""
    found = sorted(path for path in PICTURES.iterdir() if path.name != ".ready")
    assert len(found) > 1000, "they are missing: make test fetches them"
    return found


def test_each_is_answered_or_refused_for_what_it_is(server: Server, pictures: list[Path]) -> None:
    def ask(picture: Path) -> tuple[str, int, str | None]:
        with httpx.Client(timeout=70) as client:
            answer = client.post(f"{server.url}/search", files={"images": picture.read_bytes()}, data={"k": "1"})
        return picture.name, answer.status_code, answer.json().get("error", {}).get("code")

    alive = {process.pid for process in server.main.children(recursive=True)}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, pictures))
    assert [answer for answer in answers if answer[2] not in CODES.get(answer[1], set())] == []
    assert {process.pid for process in server.main.children(recursive=True)} == alive
    tally = Counter(status for _, status, _ in answers)
    print(f"{len(answers)} pictures: {dict(sorted(tally.items()))}")
    assert tally[200] > 700
