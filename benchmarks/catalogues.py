"""Catalogues to serve: an extractor with weights from a file, over an index of a given size. Kept in .cache/bench."""

from __future__ import annotations

import os
import shutil
from io import BytesIO
from pathlib import Path

from PIL import Image

from benchmarks.data import CACHE, Case
from benchmarks.random_weights import write_random_weights
from index import open_hnsw_file, start_catalogue
from index.catalogue.database import write_meta
from index.catalogue.files import FORMAT_VERSION, base_file, codes_file
from ingest import SourceSamples, find_sources
from model import Limits, build_extractor
from model.card import Wanted

SAMPLES = CACHE / "samples"
MODEL = "resnet50.tv_in1k"
SIZE = (500, 375)


def weights_of(model: str) -> Path:
    """Its weights as a file: random ones, measured on the sample photos."""
    photos = sorted(SAMPLES.glob("*/*.jpg"))
    return write_random_weights(model, photos, CACHE / "bench" / f"{model}.safetensors")


def photos_to_send() -> Path:
    """A folder of the sample photos as 500 × 375 JPEGs."""
    folder = CACHE / "bench" / "500x375"
    if not folder.is_dir():
        partial = folder.with_suffix(".partial")
        partial.mkdir(parents=True, exist_ok=True)
        for place, photo in enumerate(sorted(SAMPLES.glob("*/*.jpg"))):
            buffer = BytesIO()
            Image.open(photo).convert("RGB").resize(SIZE, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=90)
            (partial / f"{place:02}.jpg").write_bytes(buffer.getvalue())
        partial.rename(folder)
    return folder


def catalogue_over(case: Case, model: str = MODEL, precision: Wanted = "auto") -> Path:
    """A catalogue with the extractor of ``model`` over the index of ``case``, whose dimensions must be its own."""
    folder = CACHE / "bench" / f"catalogue-{model}-{precision}-{case.count}-v{FORMAT_VERSION}"
    if folder.is_dir():
        return folder
    samples = SourceSamples(find_sources([SAMPLES]), Limits())
    with build_extractor(model, weights_of(model), samples, precision=precision) as extractor:
        card = extractor.card
        assert card.dim == case.dim, card.dim
        writer = start_catalogue(folder, model=model, fingerprint=card.fingerprint, dim=card.dim)
        extractor.save(writer.extractor_folder)
    base = base_file(1)
    labels = open_hnsw_file(case.hnsw(), case.dim).labels()
    for path, name in ((case.path("hnsw"), base), (case.path("codes"), codes_file(base))):
        try:
            os.link(path, writer.partial / name)
        except OSError:
            shutil.copy(path, writer.partial / name)
    rows = ((label, f"{label}.jpg", row) for row, label in enumerate(labels.tolist()))
    with writer._connection as connection:
        connection.executemany(
            "INSERT INTO items (id, key, sha256, metadata, added_at, row, source_size, source_mtime_ns) "
            "VALUES (?, ?, '', '{}', '', ?, 0, 0)",
            rows,
        )
        write_meta(connection, {"generation": 1, "base": base, "count": case.count})
    writer.publish({})
    return folder
