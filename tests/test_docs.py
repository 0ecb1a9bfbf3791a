"""The documentation stays true: its commands are run, its generated parts are those of the code, its links lead on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest
from prometheus_client.metrics import MetricWrapperBase

from docs.generate import PAGES, render
from ingest.sources.folders import JUNK
from server.telemetry import metrics
from settings import Settings
from tests.serving import ROOT, Server, running

README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands_of(page: str) -> list[str]:
    """The lines of a page's shell blocks."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]


RUN = ("README.md", "docs/api.md", "docs/filters.md", "docs/cli.md", "docs/guide.md")


def commands_of_pages(*pages: str) -> list[str]:
    """Each command once, in the order in which a reader meets it: some need what earlier ones have made."""
    return list(dict.fromkeys(command for page in pages for command in commands_of(page)))


DOCKER_RUN = (
    "docker run --rm -p 127.0.0.1:3000:3000 -e LENS_ALLOW_ANONYMOUS=1 --read-only --tmpfs /tmp --cap-drop ALL "
    "bentolens:latest"
)
# Commands that serve until they are ended, or are this very run, and the test that runs each.
ELSEWHERE = {
    "make run": "test_make_run_serves_the_samples",
    "make run PHOTOS=~/Pictures": "test_make_run_serves_a_folder_of_ones_own",
    "make test": "what CI runs, and so this",
    "make bench": "tests/soak/test_benchmarks.py: test_each_benchmark_runs",
    "make container": "what make container-test calls, with buildah",
    DOCKER_RUN: "what contained.py does without Docker",
    "make container-test": "what CI runs, next to this",
    "python cli.py serve catalogue --port 3000": "test_serve_serves_and_a_taken_port_is_one_clear_line",
    "bentoml serve bentolens:latest": "test_the_bento_serves_from_an_empty_folder",
    "LENS_CATALOGUE=catalogue bentoml serve service:ImageSearch": "server",
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


@pytest.mark.parametrize("pages", [RUN[:1], pytest.param(RUN, marks=pytest.mark.soak)], ids=["readme", "all"])
def test_each_command_of_the_docs_runs(pages: tuple[str, ...], place: Path, server: Server) -> None:
    for command in commands_of_pages(*pages):
        if command in ELSEWHERE:
            continue
        here = command.replace("http://localhost:3000", server.url)
        if here.startswith("curl"):
            here = here.replace("curl -s", "curl -s --fail-with-body")
        done = subprocess.run(["bash", "-c", here], cwd=place, capture_output=True, text=True, env=environment(place))
        assert done.returncode == 0, (command, done.stdout + done.stderr)
        assert done.stdout.strip(), command


def test_every_command_that_is_run_elsewhere_is() -> None:
    assert set(ELSEWHERE) <= set(commands_of_pages(*RUN))
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    for where in ELSEWHERE.values():
        name = where.rpartition(": ")[2]
        assert " " in name or f"def {name}(" in tests, where


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


@pytest.mark.parametrize("page", PAGES)
def test_what_is_generated_is_what_the_code_says(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert render(text) == text, "run: make docs"


def test_what_is_described_is_documented(server: Server) -> None:
    api = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for route in httpx.get(f"{server.url}/docs.json").json()["paths"]:
        assert f" {route}`" in api, route
    operations = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            assert f"`{family.name}" in operations, family.name


def test_every_setting_that_is_named_is_there() -> None:
    there = {f"LENS_{name.upper()}" for name in Settings.model_fields}
    pages = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "deploy").iterdir(),
        ROOT / "benchmarks/README.md",
    ]
    for page in pages:
        if page.name != "CHANGELOG.md":
            named = set(re.findall(r"\bLENS_[A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8")))
            assert named <= there, (page, named - there)


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 160


@pytest.mark.parametrize(
    "page",
    [
        path.relative_to(ROOT).as_posix()
        for part in (".", "docs", "benchmarks")
        for path in sorted((ROOT / part).glob("*.md"))
    ],
)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), target


def test_the_page_on_builds_names_all_that_is_left_out() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert [name for name in JUNK if f"`{name}`" not in page] == []
