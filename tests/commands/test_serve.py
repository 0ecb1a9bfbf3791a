"""The verb serve on what machines have: hosts by name and IPv6, a home and temporary folders that cannot be used."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.commands.test_cli import refused
from tests.serving import ROOT, end, eventually, free_port


def answers(url: str) -> bool:
    try:
        return httpx.post(f"{url}/query", json={"queries": [{"id": 1}]}, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("host", ["::1", pytest.param("localhost", marks=pytest.mark.soak)])
def test_it_serves_on_hosts_by_name_and_ipv6_wherever_its_folders_are(
    host: str, catalogue: Path, tmp_path: Path
) -> None:
    try:
        socket.socket(socket.AF_INET6).bind(("::1", 0))
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            pytest.skip("this machine has no IPv6")
        raise
    long = tmp_path / ("x" * 120)  # a socket's path has 103 bytes
    long.mkdir()
    (tmp_path / "file").touch()
    port = free_port()
    command = [sys.executable, "cli.py", "serve", str(catalogue), "--host", host, "--port", str(port)]
    # A user whose home cannot be made, as in many a container.
    environment = os.environ | {"HOME": str(tmp_path / "file" / "home"), "TMPDIR": str(long), "LENS_DEMO": "0"}
    with (tmp_path / "log").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        url = f"http://{'[::1]' if ':' in host else host}:{port}"
        eventually(lambda: answers(url) or process.poll() is not None, "it does not answer")
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert (tmp_path / "log").read_text().splitlines()[0] == f"BentoLens on {url}"
    finally:
        end(process)
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_host_that_cannot_be_listened_on_is_one_line_before_any_greeting(catalogue: Path) -> None:
    assert "there is no address for the host nowhere.invalid" in refused(
        "serve", catalogue, "--host", "nowhere.invalid"
    )
    told = refused("serve", catalogue, "--host", "192.0.2.7")
    assert "cannot listen on 192.0.2.7:3000" in told
    assert "--host" in told
