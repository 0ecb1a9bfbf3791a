"""A catalogue into BentoML's model store, from where ``bentoml build`` takes it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from index import Catalogue

MODEL_NAME = "bentolens_catalogue"


def pack_catalogue(catalogue: Catalogue) -> str:
    """Copy an open catalogue into the model store; its tag, name:version. Raises OSError when the disk is full."""
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    import bentoml  # takes a second, and most verbs do without

    info = catalogue.info
    labels = {"model": info.model, "items": str(info.count), "generation": str(info.generation)}
    with bentoml.models.create(MODEL_NAME, labels=labels) as packed:
        target = Path(packed.path)
        shutil.copytree(catalogue.folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sqlite*"))
        catalogue.copy_database(target)
    return str(packed.tag)
