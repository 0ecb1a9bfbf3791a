"""Damage the files of a catalogue in seeded ways, and see that each is answered, refused by name, and found by verify.

    python -m tests.soak.fuzz --count 10000

Everything is done in a child process: when a damaged file ends it, the parent counts that and goes on behind it. With
--bounds the child runs with numba's bounds checks, so that a read outside an array is an error even where it would have
hit memory that is there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from index import CatalogueWriter, Entry, VectorIndexError, open_catalogue, start_catalogue, verify_catalogue
from index.hnsw.file import HEADER, open_hnsw_file

ROOT = Path(__file__).parents[2]
COUNT, DIM = 200, 16
FILES = ("base-000001.hnsw", "base-000001.codes", "base-000001.columns")
AWKWARD = (0, 1, 2, 3, 31, 32, 33, 64, 199, 200, 201, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)

Data = bytearray
Mutation = Callable[[Data, np.random.Generator], Data]


def clusters(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(10, DIM))[rng.integers(0, 10, count)] + 0.4 * rng.normal(size=(count, DIM))
    rows[: count // 4] = rows[0]  # copies, and some that are nearly the same
    rows[: count // 10] += 0.01 * rng.normal(size=(count // 10, DIM)).round(1)
    return np.ascontiguousarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def fields(n: int) -> dict[str, Any]:
    """Metadata of every kind: numbers, texts, dates, lists, objects, and a field that few items have."""
    few = {"few": n} if n % 50 == 0 else {}
    return {
        "n": n,
        "text": f"text {n}",
        "date": f"2024-05-{n % 28 + 1:02}",
        "tags": [f"tag {n % 7}"],
        "in": {"x": n / 3},
    } | few


FILTERS = (
    {"n": {"$lt": 150}},
    {"n": {"$lt": 30}},
    {"n": {"$lt": 3}},
    {"text": {"$prefix": "text 1"}, "date": {"$during": "2024-05-10/2024-05-20"}},
    {"tags": {"$contains": "tag 3"}, "text": {"$contains": "9"}},
    {"in": {"x": {"$gte": 10}}, "few": {"$exists": True}},
    {"$near": {"latitude": 1, "longitude": 1, "km": 1}},
)


def make_catalogue(folder: Path) -> Path:
    """A small catalogue, whole and sound, but for the extractor, which no search needs."""
    writer: CatalogueWriter = start_catalogue(folder, model="none", fingerprint="0" * 64, dim=DIM)
    vectors = clusters(COUNT, 1)
    entries = [Entry(f"{n}.jpg", vector, fields(n), "0" * 64, b"\xff\xd8", 1, 1) for n, vector in enumerate(vectors)]
    writer.add(entries)
    writer.build_index()
    writer.publish({})
    return folder


def flip_bits(data: Data, rng: np.random.Generator) -> Data:
    for at in rng.integers(0, len(data), rng.integers(1, 9)):
        data[at] ^= 1 << int(rng.integers(8))
    return data


def truncate(data: Data, rng: np.random.Generator) -> Data:
    return data[: int(rng.integers(0, len(data)))]


def lengthen(data: Data, rng: np.random.Generator) -> Data:
    return data + rng.bytes(int(rng.integers(1, 200)))


def change_header(data: Data, rng: np.random.Generator) -> Data:
    at = int(rng.integers(0, HEADER.size // 4)) * 4
    struct.pack_into("<I", data, at, awkward(rng))
    return data


def change_words(data: Data, rng: np.random.Generator) -> Data:
    """Awkward numbers anywhere: in counts, ids, vectors, labels, sizes."""
    for at in rng.integers(HEADER.size // 4, len(data) // 4, rng.integers(1, 20)):
        struct.pack_into("<I", data, int(at) * 4, awkward(rng))
    return data


def change_links(data: Data, rng: np.random.Generator) -> Data:
    """Ids that are not there, or lead elsewhere, and counts that are too large, in many records of the index file."""
    record = (len(data) - HEADER.size) // COUNT // 4
    for row in rng.integers(0, COUNT, 60):
        at = HEADER.size + int(row) * record * 4 + 4 * int(rng.integers(0, 33))
        struct.pack_into("<I", data, at, awkward(rng) if rng.random() < 0.5 else int(rng.integers(COUNT)))
    return data


def change_levels(data: Data, rng: np.random.Generator) -> Data:
    """Words near the end, where the index file has its upper levels and the companion its offsets."""
    for at in rng.integers(len(data) // 4 - 400, len(data) // 4, 4):
        struct.pack_into("<I", data, int(at) * 4, awkward(rng))
    return data


def swap_ranges(data: Data, rng: np.random.Generator) -> Data:
    size = int(rng.integers(1, 300)) * 4
    one, other = (int(at) * 4 for at in rng.integers(0, (len(data) - size) // 4, 2))
    data[one : one + size], data[other : other + size] = data[other : other + size], data[one : one + size]
    return data


def zero_range(data: Data, rng: np.random.Generator) -> Data:
    at, size = int(rng.integers(0, len(data))), int(rng.integers(1, 5000))
    end = min(len(data), at + size)
    data[at:end] = bytes(end - at)
    return data


MUTATIONS: tuple[Mutation, ...] = (
    *(flip_bits, truncate, lengthen, change_header, change_words, change_links, change_levels, swap_ranges, zero_range),
)


def awkward(rng: np.random.Generator) -> int:
    return int(rng.choice(AWKWARD)) if rng.random() < 0.7 else int(rng.integers(2**32))


def use(folder: Path, queries: np.ndarray) -> str:
    """Open a catalogue and search it in every way: "answered", or the name of the error."""
    try:
        catalogue = open_catalogue(folder)
        try:
            catalogue.search(queries, 10)
            catalogue.search(queries, COUNT, ef=COUNT)
            for where in FILTERS:
                catalogue.search(queries, 5, allowed=catalogue.allow(where))
            catalogue.hint({"none": 1})
            plain = type(catalogue.index)(open_hnsw_file(folder / FILES[0], DIM), "cosine")
            plain.search(queries, 10)
            return "answered"
        finally:
            catalogue.close()
    except VectorIndexError as fault:
        return type(fault).__name__


def child(folder: Path, start: int, stop: int) -> None:
    """Try the mutations from start to stop, and print a line for each."""
    catalogue = make_catalogue(folder / "catalogue")
    originals = {name: (catalogue / name).read_bytes() for name in FILES}
    queries = clusters(3, 2)
    for seed in range(start, stop):
        rng = np.random.default_rng(seed)
        name = FILES[seed % 3]
        kind = MUTATIONS[seed // 3 % len(MUTATIONS)]  # every kind in either file
        data = bytes(kind(bytearray(originals[name]), rng))
        path = catalogue / name
        path.unlink()  # never a file that somebody has mapped
        path.write_bytes(data)
        print(json.dumps({"seed": seed, "begun": kind.__name__}), flush=True)
        outcome = use(catalogue, queries)
        faults = list(verify_catalogue(catalogue))
        structural = [fault for fault in faults if "SHA-256" not in fault]
        done = {"outcome": outcome, "changed": data != originals[name], "found": bool(faults), "by": bool(structural)}
        print(json.dumps({"seed": seed, "file": name, "kind": kind.__name__, **done}), flush=True)
        path.unlink()
        path.write_bytes(originals[name])


def fuzz(count: int, *, bounds: bool = False) -> Counter[str]:
    """Try ``count`` mutations; how many were answered, refused (by error), unchanged, not found by verify, or deadly."""
    tally: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        home, environment = ROOT, dict(os.environ)
        if bounds:  # compiled anew, in a copy, so that the cache of the checkout is left alone
            home = Path(scratch) / "copy"
            shutil.copytree(
                ROOT / "index", home / "index", ignore=shutil.ignore_patterns("compiled_cache", "__pycache__")
            )
            shutil.copytree(ROOT / "tests", home / "tests", ignore=shutil.ignore_patterns("__pycache__"))
            environment["NUMBA_BOUNDSCHECK"] = "1"
        start = 0
        while start < count:
            folder = tempfile.mkdtemp(dir=scratch)
            command = [sys.executable, "-m", "tests.soak.fuzz", "--child", folder, str(start), str(count)]
            done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
            lines = [json.loads(line) for line in done.stdout.splitlines()]
            for line in lines:
                if "outcome" in line:
                    tally["tried"] += 1
                    tally[line["outcome"] if line["changed"] else "unchanged"] += 1
                    tally["missed by verify"] += line["changed"] and not line["found"]
                    tally["found by structure alone"] += line["changed"] and line["by"]
            if done.returncode == 0:
                break
            last = lines[-1]["seed"] if lines else start
            tally["deaths"] += 1
            print(f"seed {last}: exit code {done.returncode}\n{done.stderr[-600:]}", file=sys.stderr)
            start = last + 1
    return tally


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--bounds", action="store_true", help="with numba's bounds checks")
    options = parser.parse_args()
    tally = fuzz(options.count, bounds=options.bounds)
    print(json.dumps({"deaths": tally["deaths"], **tally}))
    sys.exit(tally["deaths"] > 0 or tally["missed by verify"] > 0)


if __name__ == "__main__":
    main()
