"""The README stays true: each of its commands is run, each verb, route, code and setting is in it, and each link leads on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from benchmarks.catalogues import MODEL, photos_to_send, weights_of
from cli import cli
from index.filters import GROUPS, OPERATORS
from server.api.errors import STATUSES
from settings import Settings
from tests.serving import ROOT, Server, running

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]

PAGES = ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/operations.md", "benchmarks/README.md"]

DOCKER_RUN = "docker run --rm -p 127.0.0.1:3000:3000 -e LENS_ALLOW_ANONYMOUS=1 --read-only --tmpfs /tmp --cap-drop ALL bentolens:latest"
# Commands that serve until they are ended, or are this very run, and the test that runs each.
ELSEWHERE = {
    "make run": "test_make_run_serves_the_samples",
    "make run PHOTOS=~/Pictures": "test_make_run_serves_a_folder_of_ones_own",
    "make test": "what CI runs, and so this",
    "make bench": "test_the_benchmarks_run",
    "make container": "what make container-test calls, with buildah",
    DOCKER_RUN: "what contained.py does without Docker",
    "make container-test": "what CI runs, beside this",
    "python cli.py serve catalogue --port 3000": "test_cli.test_serve_serves_and_a_taken_port_is_one_clear_line",
    "bentoml serve bentolens:latest": "test_bento.test_the_bento_serves_from_an_empty_folder",
    "LENS_CATALOGUE=catalogue bentoml serve service:ImageSearch": "conftest.server",
}


@pytest.fixture(scope="module")
def place(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout's files, with photos where the README's reader would have theirs."""
    place = tmp_path_factory.mktemp("reader")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy2(ROOT / name, place / name)
    (place / "home" / "Pictures").mkdir(parents=True)
    for photo in photos[:6]:
        shutil.copy(photo, place / "home" / "Pictures")
    shutil.copy(photos[0], place / "photo.jpg")
    shutil.copy(photos[1], place / "other.jpg")
    return place


def environment(place: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "HOME": str(place / "home"), "BENTOML_HOME": str(place / "bentoml")}


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in ELSEWHERE])
def test_each_command_of_the_readme_runs(command: str, place: Path, server: Server) -> None:
    here = command.replace("http://localhost:3000", server.url)
    if here.startswith("curl"):
        here = here.replace("curl -s", "curl -s --fail-with-body")
    done = subprocess.run(["bash", "-c", here], cwd=place, capture_output=True, text=True, env=environment(place))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


def test_every_command_of_the_readme_is_run_somewhere() -> None:
    assert set(ELSEWHERE) <= set(COMMANDS)
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*.py"))
    for where in ELSEWHERE.values():
        name = where.rpartition(".")[2]
        assert " " in where or f"def {name}(" in tests, where


def make_run(log: Path, home: Path, **variables: str) -> AbstractContextManager[Server]:
    """make run in this checkout, whose set-up is done; its port is the last argument that ``running`` gives."""
    settings = " ".join(f'{name}="{value}"' for name, value in variables.items())
    return running(["bash", "-c", f'exec make run {settings} PORT="$4"', "make"], log, cwd=ROOT, HOME=str(home))


def test_make_run_serves_the_samples(photos: list[Path], tmp_path: Path) -> None:
    with make_run(tmp_path / "log", tmp_path, CATALOGUE=str(tmp_path / "catalogue")) as server:
        assert (
            server.search(photos[0].read_bytes(), k=1).json()["results"][0]["hits"][0]["key"].endswith(photos[0].name)
        )
        assert httpx.get(f"{server.url}/demo/", timeout=60).status_code == 200


def test_make_run_serves_a_folder_of_ones_own(place: Path, photos: list[Path], tmp_path: Path) -> None:
    shutil.copytree(place / "home" / "Pictures", tmp_path / "My Pictures")
    variables = {"PHOTOS": "~/My Pictures", "MODEL": "tf_efficientnet_lite0", "CATALOGUE": str(tmp_path / "catalogue")}
    with make_run(tmp_path / "log", tmp_path, **variables) as server:
        assert len(server.search(photos[0].read_bytes(), k=50).json()["results"][0]["hits"]) == 6


def test_the_benchmarks_run() -> None:
    """All that make bench runs, those that serve beside those that do not."""
    served = ("service", "cold_start", "overload")
    alone = ("index_speed", "filters", "index_memory", "index_open", "embedding", "build_rate")
    photos_to_send(), weights_of(MODEL)  # both sides take them, and one at a time can make them

    def run(names: tuple[str, ...]) -> None:
        for name in names:
            command = [sys.executable, "-m", f"benchmarks.{name}", "--quick"]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert "│" in done.stdout

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, (served, alone)))
    listed = re.findall(r"-m benchmarks\.(\w+) --quick", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert set(listed) == {*served, *alone}


def test_every_verb_route_code_and_setting_is_in_the_readme(server: Server) -> None:
    for verb in cli.commands:
        assert f"| `{verb} " in README, verb
    for operator in (*GROUPS, *OPERATORS):
        assert f"`{operator}`" in README, operator
    for route in httpx.get(f"{server.url}/docs.json").json()["paths"]:
        assert f"{route}`" in README, route
    for code, status in STATUSES.items():
        if status != 500:
            assert re.search(rf"^\| {int(status)} \|.*`{code}`", README, re.MULTILINE), code
    for name, field in Settings.model_fields.items():
        (row,) = re.findall(rf"^\| `LENS_{name.upper()}` \| (.*?) \| (.*?) \|$", README, re.MULTILINE)
        if name not in ("catalogue", "workers", "threads", "decode_threads"):
            assert row[0] == str(field.default).lower(), name


@pytest.mark.parametrize("page", [*PAGES, "docs/deploy.md", "docs/supply-chain.md"])
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), target
