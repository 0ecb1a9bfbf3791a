"""Every benchmark that make bench runs works in its quick form."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.serving import ROOT

LISTED = re.findall(r"-m benchmarks\.(\w+) --quick", (ROOT / "Makefile").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", LISTED)
def test_each_benchmark_runs(name: str) -> None:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "│" in done.stdout
