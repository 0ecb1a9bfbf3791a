"""The network alone, engine by engine: python -m benchmarks.embedding [--quick]

ResNet50 with (random) weights from a file, on pixels that are there already. Engines take turns, each round in another
order. "torch, eager" is timm's network as one would call it, without our normalisation, at its best batch size. bf16 is left
out where the CPU does not have it.
"""

from __future__ import annotations

from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.catalogues import MODEL, photos_to_send, weights_of
from benchmarks.report import arguments, deliver, in_turn, ratio, table
from ingest import SourceSamples, find_sources
from model import Extractor, Limits, build_extractor, read_picture
from model.engines.openvino_compile import cpu_has_bf16
from model.engines.torch import build_reference

BATCHES = (1, 8, 32)
PRECISIONS = ("f32", "bf16", "int8") if cpu_has_bf16() else ("f32", "int8")


def main() -> None:
    options = arguments(__doc__)
    rounds, count = (1, 16) if options.quick else (7, 64)
    reference = build_reference(MODEL, weights_of(MODEL))
    look = reference.card.preprocessing
    photos = sorted(photos_to_send().glob("*.jpg"))
    pixels = np.stack([look.to_pixels(read_picture(photo.read_bytes()).image) for photo in photos])
    pixels = np.concatenate([pixels, pixels])[:count]
    inputs = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255).contiguous()

    def eager(batch: int) -> None:
        with torch.inference_mode():
            for part in torch.split(inputs, batch):
                reference.network(part)

    def ours(extractor: Extractor, batch: int) -> None:
        for at in range(0, count, batch):
            extractor.embed(pixels[at : at + batch])

    samples = SourceSamples(find_sources([photos_to_send()]), Limits())
    tasks: dict[str, Any] = {f"torch, eager, f32|{batch}": lambda batch=batch: eager(batch) for batch in BATCHES}
    fidelity: dict[str, Any] = {}
    contexts = [build_extractor(MODEL, weights_of(MODEL), samples, precision=one) for one in PRECISIONS]  # type: ignore[arg-type]
    for precision, context in zip(PRECISIONS, contexts, strict=True):
        extractor = context.__enter__()
        fidelity[precision] = extractor.card.fidelity
        for batch in BATCHES:
            tasks[f"openvino, {precision}|{batch}"] = lambda extractor=extractor, batch=batch: ours(extractor, batch)
    seconds = in_turn(tasks, rounds)
    for context in contexts:
        context.__exit__(None, None, None)
    best = min((median(seconds[name]), name) for name in seconds if name.startswith("torch"))[1]
    shown = table("pictures/s", "engine", *(f"batch {batch}" for batch in BATCHES), "÷ best eager", "cosine", "overlap")
    for engine in ("torch, eager, f32", *(f"openvino, {precision}" for precision in PRECISIONS)):
        names = [f"{engine}|{batch}" for batch in BATCHES]
        fastest = min(names, key=lambda name: median(seconds[name]))
        found = fidelity.get(engine.rpartition(" ")[2]) if engine.startswith("openvino") else None
        shown.add_row(
            engine,
            *(f"{count / median(seconds[name]):.1f}" for name in names),
            f"{ratio(seconds[best], seconds[fastest]):.2f}",
            f"{found.mean:.5f}" if found else "",
            f"{found.overlap:.3f}" if found else "",
        )
    raw = {"seconds": seconds, "pictures": count, "fidelity": {name: str(one) for name, one in fidelity.items()}}
    deliver("embedding", options, [shown], raw)


if __name__ == "__main__":
    main()
