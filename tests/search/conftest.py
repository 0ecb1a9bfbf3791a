"""A catalogue of Debian's stamps: labelled pictures, whose folders and names say what they show."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from filelock import FileLock

from index import Catalogue
from search import open_catalogue_with_extractor
from tests.conftest import MODEL
from tests.serving import ROOT

STAMPS = ROOT / ".cache" / "debian" / "usr" / "share" / "tuxpaint" / "stamps"


@pytest.fixture(scope="session")
def stamps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    """The stamps, padded to squares; built once for all processes that run tests."""
    out = tmp_path_factory.getbasetemp().parent / "catalogue-of-stamps"
    with FileLock(f"{out}.lock"):
        if not out.is_dir():
            command = [sys.executable, "cli.py", "build", str(STAMPS), "--out", str(out), "--model", MODEL]
            subprocess.run([*command, "--fit", "pad"], cwd=ROOT, check=True, capture_output=True)
    catalogue, _ = open_catalogue_with_extractor(out)
    yield catalogue
    catalogue.close()
