"""What /docs.json says is so: schemathesis makes requests from it, good and bad ones, and checks every answer against it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx

from server.api.errors import STATUSES
from tests.serving import ROOT, Server

SCHEMATHESIS = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]


def test_schemathesis_finds_no_fault(server: Server, tmp_path: Path) -> None:
    config = ROOT / "tests" / "server" / "schemathesis.toml"
    told = ["--max-examples", "40", "--seed", "1", "--no-color"]
    command = [*SCHEMATHESIS, "--config-file", str(config), "run", f"{server.url}/docs.json", *told]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-5000:]
    assert "No issues found" in done.stdout


def test_every_error_is_described_where_it_may_come(server: Server) -> None:
    described = httpx.get(f"{server.url}/docs.json").json()
    for path in ("/search", "/query", "/embed", "/items/get"):
        responses = described["paths"][path]["post"]["responses"]
        for code, status in STATUSES.items():
            example = responses[str(int(status))]["content"]["application/json"]["examples"][code]["value"]
            assert example["error"]["code"] == code
        assert "Retry-After" in responses["429"]["headers"]
        assert responses["200"]["content"]["application/json"]["example"]
