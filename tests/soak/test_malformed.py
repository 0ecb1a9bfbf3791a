"""Anyone may send anything: it is answered with what it deserves, and harms nothing. The full run is malformed.py's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.serving import Server, serving
from tests.soak.malformed import attack


@pytest.mark.parametrize("workers", ["1", "2"])
def test_malformed_requests_get_no_5xx_and_end_no_process(
    workers: str, catalogue: Path, photos: list[Path], tmp_path: Path
) -> None:
    with serving(catalogue, tmp_path / "log", LENS_WORKERS=workers) as server:
        alive = {process.pid for process in server.main.children(recursive=True)}
        tally = attack(server, photos[0], 1200, first=int(workers) * 100_000)
        assert {process.pid for process in server.main.children(recursive=True)} == alive
        sound = server.search(photos[0].read_bytes(), k=1)
    assert not [name for name in tally if name.startswith("fault")], tally
    assert sound.json()["results"][0]["hits"][0]["key"].endswith(photos[0].name)
    statuses = {name.rpartition(" ")[2] for name in tally}
    assert {"200", "400", "404", "405", "415", "422"} <= statuses  # it was not all refused for one reason


def test_a_neighbour_in_the_batch_is_not_harmed(server: Server, photos: list[Path]) -> None:
    """Sound requests amid broken ones: each is answered as it is alone."""
    from concurrent.futures import ThreadPoolExecutor

    sound = [photo.read_bytes() for photo in photos[:40]]
    expected = [server.search(data, k=3).json()["results"][0]["hits"] for data in sound]
    with ThreadPoolExecutor(2) as pool:
        broken = pool.submit(attack, server, photos[0], 400, 500_000)
        answers = [server.search(data + b"again", k=3).json()["results"][0]["hits"] for data in sound]
        assert not [name for name in broken.result() if name.startswith("fault")]
    for one, other in zip(answers, expected, strict=True):
        assert [hit["id"] for hit in one] == [hit["id"] for hit in other]
        assert [hit["score"] for hit in one] == pytest.approx([hit["score"] for hit in other], abs=1e-4)
