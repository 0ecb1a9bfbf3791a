"""The clients that docs/deploy.md names, as they come: each sends pictures and JSON, twice. A browser: tests/demo."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import ROOT, Server

REQUESTS = """
import sys, requests
url, photo = sys.argv[1:]
with requests.Session() as session:
    for _ in range(2):
        print(session.post(url + "/search", files={"images": open(photo, "rb")}, data={"k": 3}).status_code)
        print(session.post(url + "/query", json={"queries": [{"id": 1}]}).status_code)
"""
HTTPX = """
import sys, httpx
url, photo = sys.argv[1:]
with httpx.Client(timeout=60) as client:
    for _ in range(2):
        print(client.post(url + "/search", files={"images": open(photo, "rb")}, data={"k": 3}).status_code)
        print(client.post(url + "/query", json={"queries": [{"id": 1}]}).status_code)
"""
FETCH = """
const [url, photo] = process.argv.slice(2)
const {readFileSync} = require("fs")
;(async () => {
  for (let round = 0; round < 2; round++) {
    const form = new FormData()
    form.append("images", new Blob([readFileSync(photo)]), "photo.jpg")
    console.log((await fetch(url + "/search", {method: "POST", body: form})).status)
    const body = JSON.stringify({queries: [{id: 1}]})
    console.log((await fetch(url + "/query", {method: "POST", body, headers: {"Content-Type": "application/json"}})).status)
  }
})()
"""


def printed(*command: str | Path) -> list[str]:
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("code", [REQUESTS, HTTPX], ids=["requests", "httpx"])
def test_pythons_clients(code: str, server: Server, photos: list[Path]) -> None:
    assert printed(sys.executable, "-c", code, server.url, photos[0]) == ["200"] * 4


def test_curl(server: Server, photos: list[Path], tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    status = ("curl", "-s", "-o", tmp_path / "answer", "-w", "%{http_code} ")
    search = f"{server.url}/search"
    assert printed(*status, "-F", f"images=@{photos[0]}", "-F", "k=3", search) == ["200"]
    assert printed(*status, "--http2", "-F", f"images=@{photos[0]}", search) == ["200"]  # asks for h2c
    encoded = {"queries": [{"image": base64.b64encode(photos[0].read_bytes()).decode()}]}
    (tmp_path / "body").write_text(json.dumps(encoded))
    as_json = ("-H", "Content-Type: application/json", "-d", f"@{tmp_path / 'body'}")  # asks for 100-continue
    assert printed(*status, *as_json, f"{server.url}/query") == ["200"]
    chunked = ("-H", "Transfer-Encoding: chunked")
    assert printed(*status, *as_json, *chunked, f"{server.url}/query") == ["200"]


def test_javas_http_client(server: Server, tmp_path: Path) -> None:
    if shutil.which("javac") is None:
        pytest.skip("no JDK is installed (Debian: apt-get install default-jdk-headless)")
    printed("javac", "-d", tmp_path, ROOT / "tests" / "soak" / "Ask.java")
    assert printed("java", "-cp", tmp_path, "Ask", server.url) == ["200"] * 6


def test_nodes_fetch(server: Server, photos: list[Path], tmp_path: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("Node is not installed (Debian: apt-get install nodejs)")
    (tmp_path / "ask.js").write_text(FETCH)
    assert printed("node", tmp_path / "ask.js", server.url, photos[0]) == ["200"] * 4
