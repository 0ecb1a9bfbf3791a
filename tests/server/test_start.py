"""A start is light and honest: nothing heavy before the first answer, and no answers from an engine that has drifted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.serving import READY_SECONDS, ROOT, Server, end, eventually, free_port, serving

HEAVY = {
    "torch",
    "torchvision",
    "timm",
    "gradio",
    "safetensors",
    "nncf",
    "hnswlib",
    "scipy",
    "sklearn",
    "openvino_telemetry",
}

# On SIGUSR2 a process writes the names of the modules it has imported; put into every process by Python itself.
SPY = """
import os, signal, sys
def tell(*_):
    told = os.path.join(os.environ["SPY"], str(os.getpid()))
    with open(told + ".part", "w") as file:
        file.write("\\n".join(name for name, module in sorted(sys.modules.items()) if module))
    os.replace(told + ".part", told)
signal.signal(signal.SIGUSR2, tell)
"""


def imported(server: Server, spy: Path) -> dict[str, set[str]]:
    """The top-level packages that each of a server's processes has imported, by what the process does."""
    found = {}
    for process in [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]:
        told = spy / str(process.pid)
        told.unlink(missing_ok=True)
        process.send_signal(signal.SIGUSR2)
        until = time.monotonic() + READY_SECONDS
        while not told.is_file():
            assert time.monotonic() < until, process.cmdline()
            time.sleep(0.05)
        name = process.name() if process.name() in ("ImageSearch", "Extractor") else "parent"
        found[name] = set(told.read_text().split("\n"))
    return found


@pytest.mark.parametrize("apart", [False, True])
def test_nothing_heavy_is_imported_to_serve(apart: bool, catalogue: Path, photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "spy").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SPY)
    spies = {"PYTHONPATH": str(tmp_path / "site"), "SPY": str(tmp_path / "spy")}
    with serving(catalogue, tmp_path / "log", **spies, LENS_EXTRACTOR_WORKERS=str(int(apart))) as server:
        ready = imported(server, tmp_path / "spy")
        assert server.search(photos[0].read_bytes(), k=1).status_code == 200
        words = [{"text": "zebra"}, {"text": "musical instruments"}]
        assert all(one["hits"] for one in server.json("query", {"queries": words}).json()["results"])
        modules = imported(server, tmp_path / "spy")
        network = "Extractor" if apart else "ImageSearch"
        assert ready.keys() == modules.keys() == {"parent", "ImageSearch", network}
        for name in modules:
            for found in (ready[name], modules[name]):
                # The kernel may have come by now: it is loaded a second after the start, and numba imports scipy.
                assert not found & HEAVY - ({"scipy"} if "numba" in found else set()), name
        assert "pyparsing" not in ready["ImageSearch"], "BentoML's proxy was imported"
        assert [name for name in modules if "openvino" in modules[name]] == [network]
        assert not [name for name in modules if "numba" in modules[name] and name != "ImageSearch"]
        # Afterwards the kernel comes by itself, and the page when it is asked for.
        assert httpx.get(f"{server.url}/demo/", timeout=60).status_code == 200
        eventually(
            lambda: {"numba", "gradio"} <= imported(server, tmp_path / "spy")["ImageSearch"],
            "neither comes after the first answer",
        )


def started(catalogue: Path, log: Path):  # type: ignore[no-untyped-def]
    """A server that may never be ready: its process and its address."""
    import subprocess
    import sys

    port = free_port()
    command = [sys.executable, "-m", "bentoml", "serve", "service:ImageSearch", "--host", "127.0.0.1"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=ROOT,
            env=os.environ | {"LENS_CATALOGUE": str(catalogue), "BENTOML_DO_NOT_TRACK": "True"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return process, f"http://127.0.0.1:{port}"


def damage(catalogue: Path, how: str) -> None:
    graph = catalogue / "extractor" / "graph.bin"
    data = bytearray(graph.read_bytes())
    if how == "changed":
        data[100_000:300_000] = bytes(200_000)
    graph.write_bytes(data if how == "changed" else data[:1000])


@pytest.mark.parametrize(
    ("how", "reason"), [("changed", "no longer gives the vectors"), ("cut off", "with its graph.bin cannot be used")]
)
def test_an_extractor_that_is_not_what_it_was_is_never_ready(
    how: str, reason: str, catalogue: Path, photos: list[Path], tmp_path: Path
) -> None:
    broken = shutil.copytree(catalogue, tmp_path / "broken")
    damage(broken, how)
    process, url = started(broken, tmp_path / "log")
    try:
        until = time.monotonic() + READY_SECONDS
        while True:
            try:
                answer = httpx.get(f"{url}/readyz", timeout=10)
                if reason in answer.text:
                    break
            except httpx.TransportError:
                pass
            assert time.monotonic() < until, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.1)
        assert answer.status_code == 503
        refused = httpx.post(f"{url}/search", files={"images": photos[0].read_bytes()}, timeout=60)
        assert refused.status_code == 503
        error = json.loads(refused.text)["error"]
        assert error["code"] == "extractor_unavailable"
        assert reason in error["message"]
        by_id = httpx.post(f"{url}/query", json={"queries": [{"id": 1}], "k": 2}, timeout=60)
        assert by_id.status_code == 200  # which needs no embedding
        assert httpx.get(f"{url}/livez", timeout=10).status_code == 200
    finally:
        end(process)
