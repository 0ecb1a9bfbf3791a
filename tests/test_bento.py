"""pack and bentoml build make a bento that serves, page and all, from an empty folder, without this checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from ingest import find_sources
from ingest.pipeline import build_catalogue
from model import Extractor
from tests.serving import ROOT, eventually, running


@pytest.fixture(scope="module")
def home(catalogue: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BentoML home with the packed catalogue and the built bento in it."""
    home = tmp_path_factory.mktemp("bentoml")
    build = ["-m", "bentoml", "build"]
    for command in (["cli.py", "pack", str(catalogue)], build, [*build, "--bentofile", "bentofile.gpu.yaml"]):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env=os.environ | {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"},
        )
        assert done.returncode == 0, done.stderr + done.stdout
    return home


def test_the_bento_holds_what_serving_needs_and_no_more(home: Path) -> None:
    (bento,) = [path for path in (home / "bentos" / "bentolens").iterdir() if path.is_dir()]
    sources = {path.relative_to(bento / "src").as_posix() for path in (bento / "src").rglob("*.py")}
    assert {
        "service.py",
        "settings.py",
        "server/runtime/extractor.py",
        "model/engines/openvino.py",
        "index/hnsw/kernel/search.py",
        "demo/page.py",
    } <= sources
    assert {name.partition("/")[0] for name in sources if "/" in name} == {
        *("model", "index", "ingest", "demo", "search", "server", "commands", "copies")
    }
    assert "cli.py" in sources
    assert "model/export.py" not in sources
    needed = (bento / "env" / "python" / "requirements.txt").read_text()
    assert not [name for name in ("torch", "timm", "nncf") if name in needed]
    assert "bentolens_catalogue" in (bento / "bento.yaml").read_text()


def test_the_bento_serves_from_an_empty_folder(home: Path, photos: list[Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    command = [sys.executable, "-m", "bentoml", "serve", "bentolens:latest"]
    environment = {"BENTOML_HOME": str(home), "NUMBA_DEBUG_CACHE": "1", "PYTHONUNBUFFERED": "1"}
    with running(command, tmp_path / "log", cwd=empty, **environment) as server:
        answer = server.search(photos[0].read_bytes(), k=2, where='{"label": "imagenet"}')
        assert answer.status_code == 200
        assert answer.json()["results"][0]["hits"][0]["key"].endswith(photos[0].name)
        assert "BentoLens" in httpx.get(f"{server.url}/demo/", timeout=60).text
        # The kernel is loaded in the background, after the first answer.
        eventually(
            lambda: server.log.read_text().count("data loaded from") >= 4,
            "the search kernel has not come with the bento",
        )
        assert "data saved to" not in server.log.read_text(), "the search kernel is compiled again"
    assert list(empty.iterdir()) == []


def test_the_bento_for_a_gpu_serves_by_torch(home: Path, photos: list[Path], tmp_path: Path) -> None:
    (bento,) = [path for path in (home / "bentos" / "bentolens_gpu").iterdir() if path.is_dir()]
    needed = set((bento / "env" / "python" / "requirements.txt").read_text().split())
    assert {line for line in requirements("requirements.txt") if "==" in line} <= needed
    assert {"torch==2.14.1", "timm==1.0.31"} <= needed
    dockerfile = (bento / "env" / "docker" / "Dockerfile").read_text()
    assert "ENV LENS_ENGINE=torch" in dockerfile
    assert " gcc " in dockerfile
    assert "/weights.safetensors" not in dockerfile
    command = [sys.executable, "-m", "bentoml", "serve", "bentolens_gpu:latest"]
    # Of a bento's own variables BentoML makes the image's, and none where it serves the bento itself.
    with running(command, tmp_path / "log", cwd=tmp_path, BENTOML_HOME=str(home), LENS_ENGINE="torch") as server:
        (hit,) = server.search(photos[0].read_bytes(), k=1).json()["results"][0]["hits"]
        assert hit["key"].endswith(photos[0].name)
        (worker,) = server.workers("Extractor")  # on a GPU the network has a process of its own
        assert [one for one in worker.memory_maps() if "libtorch" in one.path]


def requirements(name: str) -> list[str]:
    return (ROOT / name).read_text(encoding="utf-8").split()


def test_another_catalogue_can_be_mounted_over_it_by_a_relative_path(
    home: Path, extractor: Extractor, photos: list[Path], tmp_path: Path
) -> None:
    build_catalogue(find_sources(photos[:3]), tmp_path / "elsewhere", extractor)
    command = [sys.executable, "-m", "bentoml", "serve", "bentolens:latest"]
    environment = {"BENTOML_HOME": str(home), "LENS_CATALOGUE": "elsewhere", "PWD": str(tmp_path)}
    with running(command, tmp_path / "log", cwd=tmp_path, **environment) as server:
        assert len(server.search(photos[0].read_bytes(), k=59).json()["results"][0]["hits"]) == 3
