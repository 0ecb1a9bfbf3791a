"""What every process of the service reads first: the settings, and which catalogue is served. Imports little else."""

from __future__ import annotations

import gc
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
# A socket's path has 103 bytes at most, and BentoML puts those of the services below the folder for temporary files.
LONGEST_TMPDIR = 40
if len(os.fsencode(tempfile.gettempdir())) > LONGEST_TMPDIR:
    short = next((place for place in ("/tmp", "/var/tmp") if os.access(place, os.W_OK | os.X_OK)), None)
    if short is None:
        raise SystemExit(f"error: TMPDIR={tempfile.gettempdir()} is too long a path for sockets; set a shorter one")
    os.environ["TMPDIR"] = tempfile.tempdir = short
# What a start imports lives as long as the process: looking through it for garbage takes a fifth of the start.
gc.set_threshold(20_000, 50, 100)

import bentoml

from settings import MODEL_NAME, SettingsError, read_settings

try:
    SETTINGS = read_settings()
except SettingsError as error:
    raise SystemExit(f"error: {error}") from None

# Without LENS_CATALOGUE the catalogue is the one packed with the bento. BentoML finds a model only on a class.
PACKED = None if SETTINGS.catalogue else bentoml.models.BentoModel(f"{MODEL_NAME}:latest")
if PACKED is not None and PACKED.stored is None:
    raise SystemExit(
        "error: no catalogue to serve: set LENS_CATALOGUE=DIR, or pack one first with: python cli.py pack DIR"
    )
# For the HTTP service's calls to the Extractor: past its own timeout, which has its own error.
TRAFFIC = {"timeout": SETTINGS.timeout + 10}

# BentoML's own tracing; in its configuration file it would stand under each service, and not at the top.
TRACING: dict[str, Any] = {}
if not SETTINGS.traces:
    TRACING["excluded_urls"] = ".*"  # spans that go nowhere take a fifth of what a request costs beyond its work
else:
    TRACING["exporter_type"] = "otlp"
    TRACING["sample_rate"] = SETTINGS.trace_share
    TRACING["otlp"] = {"protocol": "http", "endpoint": SETTINGS.traces}


def catalogue_folder() -> Path:
    """Return the catalogue that is to be served."""
    return SETTINGS.catalogue or Path(PACKED.stored.path)  # type: ignore[union-attr]
