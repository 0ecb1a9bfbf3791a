"""What is in the image, and how it behaves where a runtime gives it nothing: make container-test."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from index.hnsw.kernel.cpu_targets import CPU_TARGETS
from tests.contained import contained, image
from tests.licences import table
from tests.serving import ROOT, Server, eventually, first_process, free_port, serving

MOST_BYTES = 1.2e9
PUBLIC = "93.184.215.14"
BUILD_TOOLS = {"gcc", "cc", "c++", "g++", "clang", "make", "ld", "as", "cmake", "uv"}


def files() -> list[Path]:
    return [Path(folder) / name for folder, _, names in os.walk(image().root) for name in names]


def found(server: Server, photo: Path) -> bool:
    hits = server.search(photo.read_bytes(), k=1).json()["results"][0]["hits"]
    return hits[0]["key"].endswith(photo.name) and hits[0]["score"] > 0.999


def test_there_is_no_network_but_loopback() -> None:
    assert [name for _, name in socket.if_nameindex()] == ["lo"]


def test_the_image_is_small() -> None:
    size = sum(path.lstat().st_blocks * 512 for path in files())
    assert size <= MOST_BYTES, f"{size / 1e6:.0f} MB"


def test_nothing_that_builds_is_in_it() -> None:
    programs = {path.name for path in files() if path.parent.name == "bin"}
    assert not programs & BUILD_TOOLS
    (packages,) = image().root.glob("app/.venv/lib/python3*/site-packages")
    installed = {path.name.split("-")[0].lower() for path in packages.glob("*.dist-info")}
    assert {"bentoml", "openvino", "numba"} <= installed
    assert not installed & {"torch", "torchvision", "timm", "open_clip_torch", "nncf", "pip", "setuptools", "triton"}
    assert not [path for path in packages.iterdir() if path.name.startswith(("torch", "nvidia_c"))]
    assert not list(image().root.glob("catalogue/extractor/*.safetensors"))


def test_the_page_of_licences_is_of_this_image() -> None:
    sbom = json.loads((image().root / "app" / "sbom.cdx.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "supply-chain.md").read_text(encoding="utf-8")
    assert page.endswith("\n".join(["|---|---|---|", *table(sbom)]) + "\n"), "write it anew: python -m tests.licences"
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-").split()
    for one in sbom["components"]:
        assert f"{one['name'].lower().replace('_', '-')}=={one['version']}" in pinned


def test_it_is_run_by_a_user_that_owns_and_may_change_nothing_in_it() -> None:
    user = int(image().user.partition(":")[0])
    assert user > 0
    there = [(path, path.lstat()) for path in files()]
    plain = [(path, one) for path, one in there if stat.S_ISREG(one.st_mode)]
    assert not [path for path, one in there if one.st_uid == user]
    assert not [path for path, one in plain if one.st_mode & stat.S_IWOTH]
    ours = [image().root / place for place in ("app", "catalogue", image().folder.strip("/"))]
    served = [(path, one) for path, one in plain if any(map(path.is_relative_to, ours))]
    assert len(served) > 1000
    assert not [path for path, one in served if not one.st_mode & stat.S_IROTH]


def test_nothing_is_reported_to_anybody() -> None:
    told = image().environment
    assert told["BENTOML_DO_NOT_TRACK"] == "True"
    assert told["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert told["HF_HUB_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize("family", CPU_TARGETS)
def test_the_catalogue_in_it_is_served_and_nothing_is_compiled(family: str, photos: list[Path], tmp_path: Path) -> None:
    told = {"NUMBA_DEBUG_CACHE": "1", "NUMBA_CPU_NAME": family, "NUMBA_CPU_FEATURES": CPU_TARGETS[family][1]}
    with serving(None, tmp_path / "log", **told) as server:
        assert found(server, photos[0])
        eventually(
            lambda: server.log.read_text().count("data loaded from") >= 4, "the search kernel is not in the image"
        )
        assert found(server, photos[1])
        assert "data saved to" not in server.log.read_text()


def test_on_a_cpu_that_it_has_no_code_for_it_answers_the_same(photos: list[Path], tmp_path: Path) -> None:
    told = {"NUMBA_DEBUG_CACHE": "1", "NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "+sse3"}
    with serving(None, tmp_path / "log", **told) as server:
        assert found(server, photos[0])  # while it compiles
        eventually(lambda: kernel_is_loaded(server), "the search kernel is never compiled")
        assert found(server, photos[1])
        assert "data loaded from" not in server.log.read_text()


def kernel_is_loaded(server: Server) -> bool:
    """Whether the worker has mapped what numba compiles with, and rests from it."""
    (worker,) = server.workers("ImageSearch")
    libraries = {Path(one.path).name for one in worker.memory_maps()}
    return "libllvmlite.so" in libraries and worker.cpu_percent(0.5) < 5


def test_a_mounted_catalogue_is_changed_and_merged_in_the_container(
    catalogue: Path, photos: list[Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(catalogue, tmp_path / "writable", ignore=shutil.ignore_patterns("*-wal", "*-shm")))
    user, _, group = image().user.partition(":")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, int(user), int(group))
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    settings = {"LENS_WRITABLE": "1", "LENS_MERGE_ITEMS": "1", "LENS_ALLOW_ANONYMOUS": "1"}
    with serving(folder, tmp_path / "log", **settings) as server:
        files = [("images", (f"new/{place}.jpg", photos[place].read_bytes())) for place in range(3)]
        answer = httpx.post(f"{server.url}/items/add", files=files, timeout=60)
        assert answer.json()["added"] == 3
        eventually(lambda: "changes were merged into the index" in server.log.read_text(), "nothing is merged")
        answer = server.search(photos[0].read_bytes(), k=2)
        assert answer.json()["generation"] == 2
        assert "new/0.jpg" in {hit["key"] for hit in answer.json()["results"][0]["hits"]}


def test_the_port_that_a_platform_tells_is_taken(tmp_path: Path) -> None:
    port = str(free_port())
    with started({"PORT": port}, tmp_path / "log") as process:
        eventually(lambda: ready(f"http://127.0.0.1:{port}"), "not ready")
        first_process(process.pid).terminate()  # the container, and not what runs it
        process.wait(10)


@contextmanager
def started(settings: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A container that is killed at the end, if it has not ended by then."""
    with log.open("wb") as output, subprocess.Popen(contained(None, settings), stdout=output, stderr=output) as process:
        try:
            yield process
        finally:
            process.kill()


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("seconds", [0.1, 0.4, 0.8, 1.2, 1.6])
def test_told_to_stop_while_it_starts_it_stops(seconds: float, tmp_path: Path) -> None:
    with started({}, tmp_path / "log") as process:
        time.sleep(seconds)
        first_process(process.pid).terminate()
        process.wait(10)


def test_what_runs_has_the_images_user_and_no_privilege(tmp_path: Path) -> None:
    with serving(None, tmp_path / "log") as server:
        for one in server.main.children(recursive=True):
            status = dict(line.split(":\t", 1) for line in Path(f"/proc/{one.pid}/status").read_text().splitlines())
            assert {*status["Uid"].split(), *status["Gid"].split()} == {image().user.partition(":")[0]}
            assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
            assert status["NoNewPrivs"] == "1"


@pytest.mark.parametrize("hidden", [".", "catalogue.sqlite", "extractor", "extractor/graph.bin", "base-000001.hnsw"])
def test_a_catalogue_that_the_user_may_not_read_is_one_clear_line(hidden: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(image().root / "catalogue", mine)
    (mine / hidden).chmod(0)
    done = subprocess.run(contained(mine, {}, "serve"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "may not read" in done.stderr.strip().splitlines()[-1]


def test_a_folder_that_is_no_catalogue_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = subprocess.run(contained(tmp_path / "empty", {}, "serve"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")


def test_nothing_but_the_temp_folder_is_written(photos: list[Path], tmp_path: Path) -> None:
    with serving(None, tmp_path / "log") as server:
        assert found(server, photos[0])
        mounts = Path(f"/proc/{server.main.pid}/mounts").read_text().splitlines()
    writable = {line.split()[1] for line in mounts if "rw" in line.split()[3].split(",")}
    assert not [place for place in writable if not place.startswith(("/tmp", "/proc", "/dev"))]


def test_pictures_are_fetched_from_a_public_host_and_nothing_inside_is(photos: list[Path], tmp_path: Path) -> None:
    """container_test.sh gives this machine an address of the open internet, where no packet can leave it."""
    asked: list[str] = []

    class Host(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.connection.getsockname()[0]}{self.path}")
            inside = self.path == "/inside"
            self.send_response(302 if inside else 200)
            if inside:
                self.send_header("Location", f"http://127.0.0.1:{port}/photo")
            self.end_headers()
            self.wfile.write(b"" if inside else photos[3].read_bytes())

    with ThreadingHTTPServer(("0.0.0.0", 0), Host) as host:
        port = host.server_port
        threading.Thread(target=host.serve_forever, daemon=True).start()
        with serving(None, tmp_path / "log", LENS_URL_HOSTS=f"*:{port}") as server:
            urls = [f"http://{PUBLIC}:{port}/photo", f"http://{PUBLIC}:{port}/inside", f"http://127.0.0.1:{port}/photo"]
            answer = server.json("query", {"queries": [{"url": url} for url in urls], "k": 1})
        host.shutdown()
    fetched, redirected, inside = answer.json()["results"]
    assert fetched["hits"][0]["key"].endswith(photos[3].name)
    assert redirected["error"]["code"] == inside["error"]["code"] == "url_refused"
    assert sorted(asked) == [f"{PUBLIC}/inside", f"{PUBLIC}/photo"]


def test_it_answers_nobody_else_until_it_is_told_to(photos: list[Path], tmp_path: Path) -> None:
    key = "a-key-of-the-container-01"
    cases: list[tuple[dict[str, str], int]] = [
        ({}, 401),
        ({"LENS_ALLOW_ANONYMOUS": "1"}, 200),
        ({"LENS_KEYS": f"shop read {key}"}, 401),
    ]
    for settings, expected in cases:
        with serving(None, tmp_path / "log", **settings) as server:
            elsewhere = {"host": "shop.example"}  # as a proxy or a browser on another machine names it
            files = {"images": photos[0].read_bytes()}
            assert httpx.post(f"{server.url}/search", files=files, headers=elsewhere).status_code == expected
            if expected == 401 and settings:
                with_key = elsewhere | {"authorization": f"Bearer {key}"}
                assert httpx.post(f"{server.url}/search", files=files, headers=with_key).status_code == 200
            assert httpx.get(f"{server.url}/readyz", headers=elsewhere).status_code == 200
