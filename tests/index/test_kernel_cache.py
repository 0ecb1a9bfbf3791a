"""The search kernel is compiled once for a machine: at set-up, and never on the way of a request."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from index.hnsw.kernel.cpu_targets import CPU_TARGETS, best_cpu_target
from tests.serving import ROOT

KERNEL = Path("index/hnsw/kernel")
WARM = [sys.executable, "-c", "import index; index.warm_kernels()"]


def cache_log(folder: Path, *command: str) -> str:
    """What numba says of its cache while the kernels are made ready in ``folder``."""
    environment = os.environ | {"NUMBA_DEBUG_CACHE": "1"}
    return subprocess.run(
        command or WARM, cwd=folder, capture_output=True, text=True, check=True, env=environment
    ).stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "index", tmp_path / "index", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_after_set_up_nothing_is_compiled() -> None:
    log = cache_log(ROOT)
    assert "data saved" not in log, log
    for name in ("search_codes", "search_vectors", "scan_rows"):
        assert f"search.{name}" in log
    assert log.count("data loaded") >= 4


def test_all_of_the_kernel_comes_in_the_background() -> None:
    later = (
        "import index; from index.hnsw.kernel import loader; index.load_kernel_later(0); assert loader._there.wait(60)"
    )
    log = cache_log(ROOT, sys.executable, "-c", later)
    assert log.count("data loaded") == cache_log(ROOT).count("data loaded"), log


def test_the_cache_is_good_in_another_place_and_at_another_time(copy: Path) -> None:
    for path in (copy / "index").rglob("*.py"):
        os.utime(path, (1, 1))
    assert "data saved" not in cache_log(copy)


@pytest.mark.soak
def test_a_change_in_any_file_of_the_kernel_compiles_anew(copy: Path) -> None:
    with (copy / KERNEL / "primitives.py").open("a") as file:
        file.write("\n# changed\n")
    assert cache_log(copy).count("data saved") >= 4
    with (copy / "index" / "filters.py").open("a") as file:
        file.write("\n# changed, and no part of the kernel\n")
    assert "data saved" not in cache_log(copy)


@pytest.mark.soak
def test_where_the_cache_cannot_be_written_it_is_kept_elsewhere(copy: Path) -> None:
    shutil.rmtree(copy / KERNEL / "compiled_cache")
    (copy / KERNEL / "compiled_cache").write_text("in the way")
    assert cache_log(copy).count("data saved") >= 4
    assert "data saved" not in cache_log(copy)


@pytest.mark.soak
def test_a_cache_that_was_filled_and_is_read_only_is_used(copy: Path) -> None:
    # Root writes anywhere: that nothing can be written is played by a folder that cannot be listed as writable.
    play = (
        "import numba.core.caching as c, os; c._CacheLocator.ensure_cache_path = "
        "lambda self: (_ for _ in ()).throw(OSError('read-only'))\n"
        "import index; index.warm_kernels()"
    )
    environment = os.environ | {"NUMBA_DEBUG_CACHE": "1"}
    done = subprocess.run([sys.executable, "-c", play], cwd=copy, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "data loaded" in done.stdout
    assert "data saved" not in done.stdout
    shutil.rmtree(copy / KERNEL / "compiled_cache")  # and with nowhere at all to keep it, it is compiled and not kept
    done = subprocess.run([sys.executable, "-c", play], cwd=copy, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "data saved" not in done.stdout


def test_it_is_compiled_for_a_family_and_not_for_one_cpu() -> None:
    every = dict.fromkeys(CPU_TARGETS["x86-64-v4"][0], True)
    assert best_cpu_target(every) == ("x86-64-v4", "-prefer-256-bit")
    assert best_cpu_target(every | {"avx512vl": False}) == ("x86-64-v3", "")
    assert best_cpu_target(every | {"avx512f": False, "fma": False}) == ("x86-64-v2", "")
    assert best_cpu_target({"neon": True}) is None


@pytest.mark.soak
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="families are of x86-64")
def test_code_for_every_family_is_kept_and_answers_alike(copy: Path) -> None:
    shutil.rmtree(copy / KERNEL / "compiled_cache")
    cache_log(copy, sys.executable, "-c", "import index; index.warm_every_kernel()")
    answers = set()
    for family in ("x86-64-v3", "x86-64-v2"):
        # A CPU that has what this family needs and no more.
        play = (
            "import llvmlite.binding as ll; from index.hnsw.kernel.cpu_targets import CPU_TARGETS\n"
            f"ll.get_host_cpu_features = lambda: dict.fromkeys(CPU_TARGETS['{family}'][0], True)\n"
            "import index, numpy as np; from numba.core import config; index.warm_kernels()\n"
            f"assert config.CPU_NAME == '{family}', config.CPU_NAME\n"
            "from pathlib import Path\n"
            "rows = np.random.default_rng(1).standard_normal((500, 40)).astype(np.float32)\n"
            "rows /= np.linalg.norm(rows, axis=1, keepdims=True)\n"
            "index.build_hnsw(Path('b'), [(np.arange(500), rows)], 500, 40, 'cosine')\n"
            "found = index.open_index(Path('b'), 40, 'cosine').search(rows[:50], 5)\n"
            "print('found', [one.labels.tolist() for one in found])"
        )
        log = cache_log(copy, sys.executable, "-c", play)
        assert "data saved" not in log, log
        answers.add(next(line for line in log.splitlines() if line.startswith("found")))
    assert len(answers) == 1
