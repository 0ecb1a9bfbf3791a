"""A process that changes a catalogue until it is killed, and writes down what was acknowledged, before it asks for more.

python -m tests.soak.writing FOLDER JOURNAL SEED WRITER. The journal has a line for each call, written before it, and again
after it. Only this writer has keys that begin with its number, so that what its keys must be is known.
"""

from __future__ import annotations

import json
import os
import random
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from index import CatalogueBusy, Entry, LiveWriter, merge_catalogue

DIM = 32
KEYS = 40  # of each writer
MOST = 5  # of one call


def entry(key: str, value: int) -> Entry:
    """An entry whose vector, hash and metadata follow from a number."""
    vector = np.random.default_rng(value).standard_normal(DIM).astype(np.float32)
    return Entry(
        key, vector / np.linalg.norm(vector), {"value": value}, f"{value:064x}", b"\xff\xd8thumbnail", value, value
    )


def main(folder: Path, journal: Path, seed: int, writer: str) -> None:
    """Write until the end."""
    chance = random.Random(seed)
    live = LiveWriter(folder)
    with journal.open("a", encoding="utf-8") as file:
        while True:
            keys = chance.sample([f"{writer}/{number}" for number in range(KEYS)], chance.randint(1, MOST))
            value = chance.randrange(2**40)
            what = chance.choices(["add", "remove", "update", "merge"], [6, 2, 3, 0.3])[0]
            note(file, {"begun": what, "keys": keys, "value": value})
            with suppress(CatalogueBusy):
                call(live, folder, what, keys, value)
                note(file, {"done": what, "keys": keys, "value": value})


def call(live: LiveWriter, folder: Path, what: str, keys: list[str], value: int) -> None:
    """Do one call."""
    if what == "add":
        live.add([entry(key, value + place) for place, key in enumerate(keys)], "f")
    elif what == "remove":
        live.remove(keys)
    elif what == "update":
        live.update(keys, [{"note": value} for _ in keys])
    else:
        merge_catalogue(folder)


def note(file: TextIO, what: dict[str, Any]) -> None:
    """Write a line that stays when this process is killed."""
    file.write(json.dumps(what) + "\n")
    file.flush()


def expected(journal: Path) -> tuple[dict[str, dict[str, Any] | None], dict[str, list[dict[str, Any] | None]]]:
    """What a writer's keys must be by its journal, and what those of the call that it was killed in may be instead."""
    state: dict[str, dict[str, Any] | None] = {}
    lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    maybe: dict[str, list[dict[str, Any] | None]] = {}
    open_call: dict[str, Any] | None = None
    for line in lines:
        if "done" in line:
            apply(state, line["done"], line["keys"], line["value"])
            open_call = None
        elif "settled" in line:
            state.update(line["settled"])
            open_call = None
        else:
            open_call = line
    if open_call and open_call["begun"] != "merge":
        after = dict(state)
        apply(after, open_call["begun"], open_call["keys"], open_call["value"])
        maybe = {key: [after.get(key)] for key in open_call["keys"]}
    return state, maybe


def apply(state: dict[str, dict[str, Any] | None], what: str, keys: list[str], value: int) -> None:
    """Change what keys must be as a call does."""
    for place, key in enumerate(keys):
        if what == "add":
            state[key] = {"value": value + place}
        elif what == "remove":
            state[key] = None
        elif what == "update" and state.get(key) is not None:
            state[key] = {**(state[key] or {}), "note": value}


if __name__ == "__main__":
    os.nice(0)
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
