"""What /docs.json says is so: schemathesis makes requests from it, good and bad ones, and checks every answer against it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx

from index import OPERATORS
from model import FORMATS
from server.api.errors import STATUSES
from server.api.routes import ROUTES
from tests.serving import ROOT, Server

SCHEMATHESIS = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]


def test_schemathesis_finds_no_fault(server: Server, tmp_path: Path) -> None:
    config = ROOT / "tests" / "server" / "schemathesis.toml"
    told = ["--max-examples", "40", "--seed", "1", "--no-color"]
    command = [*SCHEMATHESIS, "--config-file", str(config), "run", f"{server.url}/docs.json", *told]
    found = {**os.environ, "PYTHONPATH": str(ROOT)}  # the hooks
    done = subprocess.run(command, cwd=tmp_path, env=found, capture_output=True, text=True, timeout=300)
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


def test_each_route_of_the_table_is_served(server: Server) -> None:
    for route in ROUTES:
        answer = httpx.request(route.method, f"{server.url}{route.path}", timeout=60, follow_redirects=True)
        assert answer.status_code not in (404, 405), route.path
        assert answer.status_code < 500, route.path


def test_every_operator_and_format_is_described(server: Server) -> None:
    described = httpx.get(f"{server.url}/docs.json").json()
    filters, fields = (described["components"]["schemas"][name] for name in ("Filter", "Field"))
    operators = next(one["properties"] for one in fields["anyOf"] if "properties" in one)
    assert operators.keys() == {one.name for one in OPERATORS if one.of_field}
    assert filters["properties"].keys() == {one.name for one in OPERATORS if one.of_filters}
    form = described["paths"]["/search"]["post"]["requestBody"]["content"]["multipart/form-data"]
    accepted = form["encoding"]["images"]["contentType"].split(", ")
    assert {media_type for one in FORMATS for media_type in one.media_types} <= set(accepted)
