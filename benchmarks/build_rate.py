"""Building next to the bare engine: python -m benchmarks.build_rate [--quick]

A folder of 500 × 375 JPEGs becomes a catalogue: read, decoded, embedded with ResNet50 (random weights from a file), a
thumbnail made, written and indexed. Next to it the engine alone, on pixels that are there already; they take turns. And
one JPEG of 12 megapixels, decoded in full and as a draft.
"""

from __future__ import annotations

import tempfile
import time
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.catalogues import MODEL, SAMPLES, photos_to_send, weights_of
from benchmarks.report import arguments, deliver, in_turn, ratio, table
from ingest import BuildReport, SourceSamples, build_catalogue, find_sources
from model import Extractor, Limits, Preprocessing, build_extractor, read_picture


def copies(folder: Path, count: int) -> Path:
    """A folder of so many files."""
    photos = sorted(photos_to_send().glob("*.jpg"))
    for place in range(count):
        (folder / f"{place:05}.jpg").write_bytes(photos[place % len(photos)].read_bytes())
    return folder


def bare(extractor: Extractor, count: int) -> float:
    """Pictures per second of the engine alone, in the batches of a build."""
    size = extractor.card.preprocessing.size
    pixels = np.random.default_rng(0).integers(0, 256, (32, *size, 3), dtype=np.uint8)
    begun = time.perf_counter()
    for _ in range(count // 32):
        extractor.embed(pixels)
    return count // 32 * 32 / (time.perf_counter() - begun)


def build(extractor: Extractor, photos: Path) -> tuple[float, BuildReport]:
    """Seconds of a build, its model loaded, and its report."""
    with tempfile.TemporaryDirectory() as temporary:
        begun = time.perf_counter()
        report = build_catalogue(find_sources([photos]), Path(temporary) / "out", extractor)
        return time.perf_counter() - begun, report


def large_jpegs() -> dict[str, bytes]:
    """JPEGs of 12 megapixels, of one photo enlarged and of sixteen side by side."""
    photos = [Image.open(path).convert("RGB") for path in sorted(SAMPLES.glob("interiors/*.jpg"))[:16]]
    mosaic = Image.new("RGB", (4000, 3000))
    for place, photo in enumerate(photos):
        tile = photo.resize((1000, 750), Image.Resampling.LANCZOS)
        mosaic.paste(tile, (place % 4 * 1000, place // 4 * 750))
    made = {}
    for name, image in (("one photo", photos[0].resize((4000, 3000), Image.Resampling.LANCZOS)), ("mosaic", mosaic)):
        buffer = BytesIO()
        image.save(buffer, "JPEG", quality=90)
        made[name] = buffer.getvalue()
    return made


def decoding(look: Preprocessing, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds from bytes to pixels: as timm would (all of it decoded, all of it scaled), ours in full, ours as a draft."""
    filter_ = Image.Resampling[look.interpolation.upper()]

    def timms(data: bytes) -> None:
        image = Image.open(BytesIO(data)).convert("RGB")
        np.asarray(image.resize((341, 256), filter_).crop((58, 16, 282, 240)))

    return {
        f"{name}, {len(data) / 1e6:.1f} MB": in_turn(
            {
                "timm's way": lambda data=data: timms(data),  # type: ignore[misc]
                "in full": lambda data=data: look.to_pixels(read_picture(data).image),  # type: ignore[misc]
                "draft": lambda data=data: look.to_pixels(read_picture(data, enough=look.enough).image),  # type: ignore[misc]
            },
            rounds,
        )
        for name, data in large_jpegs().items()
    }


def main() -> None:
    options = arguments(__doc__)
    rounds, count = (1, 128) if options.quick else (3, 2048)
    raw: dict[str, Any] = {"bare": [], "build": [], "stages": []}
    samples = SourceSamples(find_sources([photos_to_send()]), Limits())
    with tempfile.TemporaryDirectory() as temporary, build_extractor(MODEL, weights_of(MODEL), samples) as extractor:
        photos = copies(Path(temporary), count)
        bare(extractor, 64)
        for _ in range(rounds):
            before = bare(extractor, count // 2)
            seconds, report = build(extractor, photos)
            raw["bare"].append((before + bare(extractor, count // 2)) / 2)
            raw["build"].append(report.added / seconds)
            raw["stages"].append({**report.seconds, "all": seconds})
        raw["decoding"] = decoding(extractor.card.preprocessing, rounds)
        precision = extractor.card.precision
    shown = table(f"build, {precision}, {count} pictures", "what", "pictures/s", "÷ bare engine")
    shares = [a / b for a, b in zip(raw["build"], raw["bare"], strict=True)]
    unindexed = [count / (one["all"] - one["index"]) for one in raw["stages"]]
    shown.add_row("bare engine", f"{median(raw['bare']):.1f}", "")
    shown.add_row("build, all of it", f"{median(raw['build']):.1f}", f"{median(shares):.2f}")
    part = median(a / b for a, b in zip(unindexed, raw["bare"], strict=True))
    shown.add_row("build, but for the index", f"{median(unindexed):.1f}", f"{part:.2f}")
    stages = table("seconds of the stages, which overlap", "stage", "median")
    for stage in raw["stages"][0]:
        stages.add_row(stage, f"{median(one[stage] for one in raw['stages']):.2f}")
    drafts = table(
        "12-megapixel JPEG to pixels", "picture", "timm's way, ms", "ours in full, ms", "draft, ms", "times as fast"
    )
    for name, seconds_of in raw["decoding"].items():
        times = [median(seconds_of[way]) * 1000 for way in ("timm's way", "in full", "draft")]
        fast = ratio(seconds_of["timm's way"], seconds_of["draft"])
        drafts.add_row(name, *(f"{one:.1f}" for one in times), f"{fast:.2f}")
    deliver("build_rate", options, [shown, stages, drafts], raw)


if __name__ == "__main__":
    main()
