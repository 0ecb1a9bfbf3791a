"""The image as a runtime sees it: BENTOLENS_IMAGE=localhost/bentolens:test python -m benchmarks.container [--quick]

Its size; the time from the start of the container to the first correct answer, next to the same catalogue served from the
checkout, in turn; memory of all processes after 100 requests; what becomes of requests when it shuts down under load.
Needs what `make container-test` installs and builds, and root.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.catalogues import catalogue_over, photos_to_send
from benchmarks.cold_start import expected, served, start
from benchmarks.data import Case
from benchmarks.report import arguments, deliver, ratio, table
from benchmarks.service import memory_mb
from tests.contained import IMAGE, contained, image
from tests.serving import serving
from tests.soak.hammer import hammer

REQUESTS = 100
CLIENTS = 32


def sizes_mb() -> dict[str, float]:
    """Unpacked sizes of the image's parts."""
    parts = {"packages": "app/.venv", "catalogue": "catalogue", "service": image().folder.strip("/")}
    sizes = {part: size_of(image().root / folder) for part, folder in parts.items()}
    return {"all": (whole := size_of(image().root)), "base": whole - sum(sizes.values())} | sizes


def size_of(folder: Path) -> float:
    """Megabytes that the files of a folder take."""
    files = (Path(place) / name for place, _, names in os.walk(folder) for name in names)
    return sum(path.lstat().st_blocks * 512 for path in files) / 1e6


def starts(folder: Path, photo: bytes, rounds: int) -> dict[str, list[float]]:
    """Seconds to the first correct answer: from the container, and from the checkout."""
    commands = {
        "container": (contained(folder, {}, "serve"), {}),
        "checkout": (served("service:ImageSearch"), {"LENS_CATALOGUE": str(folder)}),
    }
    wanted = expected(folder, photo)
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    dice = random.Random(0)
    for turn in range(rounds + 1):
        for name in dice.sample(list(commands), len(commands)):
            took, ids = start(*commands[name], photo)
            assert ids == wanted, f"{name}: {ids} in place of {wanted}"
            if turn:  # the first has the files read into the cache
                seconds[name].append(took)
    return seconds


def memory_after(folder: Path, photos: list[bytes], log: Path) -> dict[str, float]:
    """Memory of all processes in the container after 100 requests of one picture each."""
    with serving(folder, log) as server:
        for turn in range(REQUESTS):
            assert server.search(photos[turn % len(photos)]).status_code == 200
        return memory_mb(server)


def stops(folder: Path, photos: list[bytes], log: Path) -> dict[str, float]:
    """What became of the requests of many clients that went on while the container was told to stop."""
    took = []
    with serving(folder, log) as server:
        main = server.main
        family = [main, *main.children(recursive=True)]

        def stop() -> None:
            begun = time.perf_counter()
            main.terminate()
            psutil.wait_procs(family, timeout=30)
            took.append(time.perf_counter() - begun)

        counts = hammer(server.url, photos, CLIENTS, stop, seconds=2)
    return {"seconds": took[0], "answered": counts["200"], "late": counts["late"], "lost": counts["lost"]} | {
        "not_2xx": counts.total() - counts["200"] - counts["late"] - counts["lost"] - counts["refused"]
    }


def main() -> None:
    options = arguments(__doc__)
    if not IMAGE:
        raise SystemExit(
            "error: name the image: BENTOLENS_IMAGE=localhost/bentolens:test (make container-test builds it)"
        )
    rounds = 1 if options.quick else 7
    folder = catalogue_over(Case(1000 if options.quick else 10_000, 2048))
    photos = [path.read_bytes() for path in sorted(photos_to_send().glob("*.jpg"))]
    sizes = sizes_mb()
    seconds = starts(folder, photos[0], rounds)
    with tempfile.TemporaryDirectory() as place:
        memory = memory_after(folder, photos, Path(place) / "log")
        ends = [stops(folder, photos, Path(place) / "log") for _ in range(rounds)]
    shown = table("the image, and ResNet50 mounted over its catalogue", "what", "")
    for part, size in sizes.items():
        shown.add_row(f"unpacked, MB: {part}", f"{size:.0f}")
    for name, all_of in seconds.items():
        shown.add_row(
            f"seconds to the first correct answer: {name}",
            f"{median(all_of):.2f} ({min(all_of):.2f} – {max(all_of):.2f})",
        )
    shown.add_row("container ÷ checkout", f"{ratio(seconds['container'], seconds['checkout']):.2f}")
    for kind, size in memory.items():
        shown.add_row(f"memory of all processes after {REQUESTS} requests ({kind}), MB", f"{size:.0f}")
    shown.add_row(
        f"told to stop under {CLIENTS} clients, {len(ends)} times: seconds, most",
        f"{max(one['seconds'] for one in ends):.1f}",
    )
    for kind in ("answered", "late", "lost", "not_2xx"):
        shown.add_row(f"requests {kind}", f"{sum(one[kind] for one in ends):.0f}")
    raw: dict[str, Any] = {"image_mb": sizes, "seconds": seconds, "memory_mb": memory, "stops": ends}
    deliver("container", options, [shown], raw)


if __name__ == "__main__":
    main()
