"""Duplicates of a large catalogue: python -m benchmarks.duplicates [--quick]

Synthetic items of 128 dimensions with signatures, of which 5 % are planted copies: vectors at a cosine of 0.95 to 0.99, and
signatures with noise. ``python cli.py duplicates`` runs in a process of its own, whose anonymous memory is sampled: what it
takes beyond the mapped files. Then a hundredth is added, and only that is compared.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import clusters
from benchmarks.pictures import CACHE
from benchmarks.report import arguments, deliver, table
from copies import PAIRS
from index import Entry, LiveWriter, Signature, start_catalogue
from index.catalogue.files import FORMAT_VERSION
from model import perceptual_hash

DIM = 128
PLANTED = 0.05
PART = 1000
NOISE = (0.14, 0.32)  # of a copy's vector, against its length: cosines of 0.99 to 0.95
GREY_NOISE = 6.0  # grey levels
SIDE = 32
SPECTRUM = np.maximum(np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)), 1 / SIDE) ** -1.5
ROOT = Path(__file__).parents[1]


class Run(NamedTuple):
    """A run of the verb: seconds, the peak of its anonymous memory in bytes, and what it has printed."""

    seconds: float
    memory: int
    groups: list[dict[str, Any]]


def entries(count: int, first: int, seed: int, *, planted: bool) -> Iterator[list[Entry]]:
    """Yield items in parts; where copies are ``planted``, the last 5 % are copies of the first, by number."""
    vectors = clusters(count, DIM, seed)
    own = count - round(PLANTED * count) if planted else count
    for at in range(0, count, PART):
        numbers = range(at, min(at + PART, count))
        yield [_entry(n, own, vectors, first, seed) for n in numbers]


def _entry(n: int, own: int, vectors: NDArray[np.float32], first: int, seed: int) -> Entry:
    luma, vector = _picture(n if n < own else n - own, seed), vectors[n]
    if n >= own:
        rng = np.random.default_rng((seed, n))
        vector = vectors[n - own] + rng.uniform(*NOISE) * _unit(rng.standard_normal(DIM))
        luma = np.clip(luma + rng.normal(0, GREY_NOISE, luma.shape), 0, 255).astype(np.uint8)
    number = first + n
    digest = number.to_bytes(16, "big")
    signature = Signature(luma.tobytes(), perceptual_hash(luma).tobytes(), digest, 1000 + n % 7, "JPEG")
    return Entry(f"{number}", vector.astype(np.float32), {}, f"{number:064x}", b"\xff\xd8", n, n, signature=signature)


def _picture(n: int, seed: int) -> NDArray[np.uint8]:
    """Return grey levels of a picture that has no like: noise with a spectrum that falls off as those of photographs do.

    Of such two, hashes are as far apart, and signatures correlate as much, as of two unrelated photographs.
    """
    waves = np.random.default_rng((seed, n, 1)).standard_normal((2, *SPECTRUM.shape))
    grey = np.fft.irfft2((waves[0] + 1j * waves[1]) * SPECTRUM, s=(SIDE, SIDE))
    return np.clip(128 + 50 * (grey - grey.mean()) / grey.std(), 0, 255).astype(np.uint8)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / np.linalg.norm(vector)


def make(count: int) -> Path:
    """Build the catalogue, kept in .cache/catalogues."""
    folder = CACHE / "catalogues" / f"noise-{count}-v{FORMAT_VERSION}"
    if not folder.is_dir():
        writer = start_catalogue(folder, model="m", fingerprint="f", dim=DIM)
        writer.extractor_folder.mkdir(exist_ok=True)
        for part in entries(count, 0, 1, planted=True):
            writer.add(part)
        writer.build_index()
        writer.publish({})
    return folder


def run(folder: Path) -> Run:
    """Run the verb, and watch its memory."""
    begun, most = time.perf_counter(), 0
    command = [sys.executable, "cli.py", "duplicates", str(folder), "--json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        status = Path(f"/proc/{process.pid}/status")
        texts: list[str] = []
        reader = threading.Thread(target=lambda: texts.append(process.stdout.read()))  # type: ignore[union-attr]
        reader.start()
        while process.poll() is None:
            lines = status.read_text().splitlines() if status.exists() else []
            most = max([most, *(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))])
            time.sleep(0.1)
        reader.join()
    return Run(time.perf_counter() - begun, most, json.loads(texts[0])["groups"])


def recall(groups: list[dict[str, Any]], count: int) -> tuple[float, int]:
    """Return the share of planted pairs that stand in one group, and how many duplicates are none that were planted."""
    own = count - round(PLANTED * count)
    found, others = 0, 0
    for group in groups:
        keys = {int(one["key"]) for one in (group["keep"], *group["duplicates"])}
        pairs = sum(key - own in keys for key in keys if key >= own)
        found += pairs
        others += len(group["duplicates"]) - pairs
    return found / (count - own), others


def main() -> None:
    options = arguments(__doc__)
    count = 20_000 if options.quick else 1_000_000
    folder = make(count)
    for path in folder.glob(f"{PAIRS}*"):
        path.unlink()
    first = run(folder)
    again = run(folder)
    with closing(LiveWriter(folder)) as writer:
        for part in entries(count // 100, 10 * count + int(time.time()), int(time.time()), planted=False):
            writer.add(part, "f")
    more = run(folder)
    share, others = recall(first.groups, count)
    shown = table(f"{count:,} × {DIM}, 5 % planted copies", "", "seconds", "memory, MB")
    for name, one in (("all compared", first), ("nothing new", again), ("1 % added", more)):
        shown.add_row(name, f"{one.seconds:.1f}", f"{one.memory / 1e6:.0f}")
    shown.add_row("recall of planted pairs", f"{share:.4f}", "")
    shown.add_row("other duplicates", f"{others}", "")
    raw = {
        name: {"seconds": one.seconds, "memory": one.memory}
        for name, one in (("all", first), ("again", again), ("more", more))
    }
    deliver("duplicates", options, [shown], {"runs": raw, "recall": share, "others": others, "items": count})


if __name__ == "__main__":
    main()
