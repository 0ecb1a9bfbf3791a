"""Catalogues to serve: an extractor with weights from a file, over an index of a given size. Kept in .cache/bench."""

from __future__ import annotations

import os
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.data import Case
from benchmarks.pictures import CACHE
from benchmarks.random_weights import write_random_weights
from index import open_hnsw_file, start_catalogue
from index.catalogue.database import Reading, begin
from index.catalogue.files import EXTRACTOR, FORMAT_VERSION, base_file, codes_file, columns_file, hashes_file
from index.catalogue.generation import Generation
from index.catalogue.hashes import write_hashes
from index.catalogue.rows import ITEM, Signature, checksum_item, insert_signature, now
from index.columns.file import write_columns
from ingest import SourceSamples, find_sources
from model import Limits, build_extractor, perceptual_hash
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


def _signature(label: int) -> Signature:
    """Return the signature of a picture that has no like."""
    luma = np.random.default_rng(label).integers(0, 256, (32, 32), np.uint8)
    return Signature(luma.tobytes(), perceptual_hash(luma).tobytes(), label.to_bytes(16, "big"), 1000, "JPEG")


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
    write_columns(writer.partial / columns_file(base), labels, [])
    connection = writer._connection
    with begin(connection):
        for label in labels.tolist():
            facts = (f"{label}.jpg", "", "{}", "", 0, 0, "")
            connection.execute(
                f"INSERT INTO items (id, {ITEM}, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (label, *facts, checksum_item(*facts)),
            )
            insert_signature(connection, label, _signature(label))
    write_hashes(writer.partial / hashes_file(base), Reading(connection), labels)
    last = int(labels.max())
    writer._made = Generation(1, base, case.count, last, 0, now(), EXTRACTOR, model, card.fingerprint, card.dim, {})
    writer.publish({})
    return folder
