"""A catalogue that several processes change, and that are killed at random moments: nothing acknowledged is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from index import merge_catalogue, open_catalogue, start_catalogue, verify_catalogue
from tests.serving import ROOT
from tests.soak.writing import DIM, entry, expected, note

KILLS = int(os.environ.get("KILLS", "300"))
WRITERS = 3
SEED = 15


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "catalogue"
    writer = start_catalogue(place, model="m", fingerprint="f", dim=DIM)
    writer.extractor_folder.mkdir()
    (writer.extractor_folder / "card.json").write_text("{}")
    writer.add([entry(f"base/{number}", number) for number in range(200)])
    writer.build_index()
    writer.publish({})
    return place


def started(folder: Path, journals: list[Path], seed: int) -> list[subprocess.Popen[bytes]]:
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.soak.writing", str(folder), str(journal), str(seed + number), str(number)],
            cwd=ROOT,
            start_new_session=True,
        )
        for number, journal in enumerate(journals)
    ]


def settle(folder: Path, journals: list[Path]) -> Iterator[str]:
    """Yield what is lost, and write into the journals what the calls that were broken off have become."""
    with closing(open_catalogue(folder)) as catalogue:
        for journal in journals:
            state, maybe = expected(journal)
            found = catalogue.items_by_key(list(state.keys() | maybe.keys()))
            fields = {
                key: {name: one.metadata[name] for name in ("value", "note") if name in one.metadata}
                for key, one in found.items()
            }
            whole = {key: fields.get(key) for key in maybe}
            before, after = {key: state.get(key) for key in maybe}, {key: some[0] for key, some in maybe.items()}
            if whole not in (before, after):
                yield f"{journal.name}: a call was done in part: {whole}, neither {before} nor {after}"
            for key, wanted in state.items():
                if key not in maybe and fields.get(key) != wanted:
                    yield f"{journal.name}: {key} is {fields.get(key)}, and {wanted} was acknowledged"
            for key, item in found.items():
                vector = catalogue.vector(item.id)
                if vector is None or not np.allclose(vector, entry(key, item.metadata["value"]).vector, atol=1e-6):
                    yield f"{journal.name}: {key} has not its vector"
            with journal.open("a", encoding="utf-8") as file:
                note(file, {"settled": whole})


def test_nothing_acknowledged_is_lost_when_writers_are_killed(folder: Path, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    journals = [tmp_path / f"journal-{number}" for number in range(WRITERS)]
    for journal in journals:
        journal.touch()
    kills, rounds = 0, 0
    while kills < KILLS:
        processes = started(folder, journals, SEED * 1000 + rounds * WRITERS)
        lengths = [journal.stat().st_size for journal in journals]
        deadline = time.monotonic() + 30
        while any(journal.stat().st_size == length for journal, length in zip(journals, lengths, strict=True)):
            assert time.monotonic() < deadline, "a writer does not begin"
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 1.0))
        for process in chance.sample(processes, WRITERS):
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
            time.sleep(chance.choice([0, 0, 0.05]))
        for process in processes:
            process.wait()
        rounds += 1
        lost = list(settle(folder, journals))
        assert lost == [], f"after {kills} kills: {lost}"
        if rounds % 10 == 0:
            assert list(verify_catalogue(folder)) == []
    calls = [json.loads(line) for journal in journals for line in journal.read_text().splitlines()]
    done = [line["done"] for line in calls if "done" in line]
    print(f"{kills} kills in {rounds} rounds; acknowledged: { {what: done.count(what) for what in sorted(set(done))} }")
    assert done.count("merge") > rounds / 20
    merge_catalogue(folder)
    assert list(verify_catalogue(folder)) == []
