"""How OpenVINO runs a graph: its streams, its threads' priority, and what stays in memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from model import Extractor, open_engine, open_verified_engine
from model.engines.openvino import OpenVinoEngine
from model.priority import NETWORK
from tests.serving import ROOT, eventually


def test_a_picture_is_embedded_alike_alone_in_a_batch_and_from_many_threads(
    extractor: Extractor, pixels: np.ndarray
) -> None:
    together = extractor.embed(pixels)
    assert np.array_equal(np.concatenate([extractor.embed(one[None]) for one in pixels]), together)
    with ThreadPoolExecutor(8) as pool:  # synchronous requests from several threads have hung: this must end
        answers = list(pool.map(extractor.embed, [pixels[at : at + 3] for at in range(0, 57, 3)] * 5, timeout=60))
    assert np.array_equal(np.concatenate(answers[:19]), together[:57])


def test_streams_for_many_pictures_come_when_there_are_many_and_give_the_same(
    extractor: Extractor, pixels: np.ndarray
) -> None:
    engine = open_verified_engine(extractor.folder, threads=2)
    assert isinstance(engine, OpenVinoEngine)
    alone = np.concatenate([engine.embed(one[None]) for one in pixels[:8]])
    assert np.array_equal(engine.embed(pixels[:8]), alone)
    assert "compile" not in {thread.name for thread in threading.enumerate()}  # nor for a few, as the golden ones
    assert engine.streams == 1
    with ThreadPoolExecutor(8) as pool:  # while they are made, the others go on
        answers = list(pool.map(engine.embed, [pixels[:8]] * 24, timeout=60))
    eventually(lambda: engine.streams == 2, "there are no streams for many")
    assert all(np.array_equal(one, alone) for one in [*answers, engine.embed(pixels[:8])])
    assert np.array_equal(engine.embed(pixels[:1]), alone[:1])
    assert open_engine(extractor.folder, threads=2, many=True).streams == 2  # type: ignore[attr-defined]


@pytest.mark.skipif(sys.platform != "linux", reason="only there has a thread a priority of its own")
@pytest.mark.parametrize(("many", "nicer"), [(False, 0), (True, 19)])
def test_the_network_gives_way_and_its_caller_does_not(many: bool, nicer: int, extractor: Extractor) -> None:
    script = """if True:
        import os, pathlib, sys, threading, time
        import numpy as np
        from model import open_engine

        def nice(): return {task: os.getpriority(os.PRIO_PROCESS, int(task)) for task in os.listdir("/proc/self/task")}
        os.nice(int(sys.argv[3]))
        import openvino  # has threads of its own
        before = nice()
        engine = open_engine(pathlib.Path(sys.argv[1]), threads=4, many=bool(sys.argv[2]))
        engine.embed(np.zeros((4, 224, 224, 3), np.uint8))
        [one.join() for one in threading.enumerate() if one.name == "compile"]
        time.sleep(0.5)  # a thread that has ended is listed for a moment
        after = nice()
        print(os.nice(0), *sorted(after[task] for task in after.keys() - before.keys()))
    """
    command = [sys.executable, "-c", script, str(extractor.folder), "many" if many else "", str(nicer)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": "."})
    own, *others = [int(one) for one in done.stdout.split() or ["-1"]]
    assert own == min(19, os.nice(0) + nicer), done.stderr
    assert others.count(max(NETWORK, own)) == len(others) >= 2


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="says what is resident")
def test_the_file_of_a_compiled_graph_does_not_stay_in_memory(folder: Path) -> None:
    engine = open_verified_engine(folder)
    _, _, entry = Path("/proc/self/smaps").read_text().partition(f"{folder / 'graph.bin'}\n")
    sizes = dict(re.findall(r"(\w+): +(\d+) kB", entry.partition("VmFlags")[0]))
    assert int(sizes["Size"]) > 10_000
    assert int(sizes["Rss"]) < 1000
    assert engine.card.dim == 1280


def test_openvino_reports_nothing(tmp_path: Path) -> None:
    """Its telemetry would leave its identity in the home folder, as the first thing it does."""
    script = (
        "from model.export import *; import nncf, openvino.tools.ovc.telemetry_utils as utils, nncf.telemetry.wrapper as w;"
        "print(utils.tm.__name__, type(w.telemetry).__name__)"
    )
    environment = os.environ | {"HOME": str(tmp_path), "PYTHONPATH": "."}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "MagicMock"], done.stdout + done.stderr
    assert not (tmp_path / "intel").exists()
