"""The verb serve: the HTTP API and the page, by BentoML."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import closing
from pathlib import Path

import click

from commands.console import PortTaken, folder_argument, stderr
from search import open_catalogue_with_extractor
from settings import Settings, read_settings

ROOT = Path(__file__).resolve().parents[1]


@click.command()
@folder_argument
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 is for other machines, which need a key.")
def serve(folder: Path, port: int, host: str) -> None:
    """Serve a catalogue: the HTTP API, and the page at /demo. Ctrl-C ends it.

    Checks the settings, the catalogue and the port, then becomes: LENS_CATALOGUE=DIR bentoml serve service:ImageSearch

    \b
    Examples:
      python cli.py serve catalogue
      python cli.py serve catalogue --port 8080 --host 0.0.0.0
    """
    settings = read_settings()
    open_catalogue_with_extractor(folder)[0].close()
    check_keys(settings)
    check_port(host, port)
    stderr.print(greeting(host, port, settings))
    environment = os.environ | {"LENS_CATALOGUE": str(folder.resolve()), "BENTOML_DO_NOT_TRACK": "True"}
    command = ["-m", "bentoml", "serve", "service:ImageSearch", "--working-dir", str(ROOT)]
    os.execve(sys.executable, [sys.executable, *command, "--host", host, "--port", str(port)], environment)


def check_keys(settings: Settings) -> None:
    """Raise SettingsError when the API keys cannot be used; the service itself would say so after the greeting."""
    from server.gateway.auth import Authenticator  # takes a second

    Authenticator(settings)


def check_port(host: str, port: int) -> None:
    """Raise PortTaken unless one can listen there now."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortTaken(f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port") from None


def greeting(host: str, port: int, settings: Settings) -> str:
    """Say where a service will be found, and by whom."""
    local = host in ("127.0.0.1", "localhost", "::1")
    page = "/demo" if settings.demo else ""
    where = f"BentoLens on http://{'localhost' if local or host == '0.0.0.0' else host}:{port}{page}"
    if settings.keys is not None or settings.keys_file is not None:
        return f"{where}, for those who have a key"
    if settings.allow_anonymous:
        return f"{where}, for everyone who reaches it (LENS_ALLOW_ANONYMOUS=1)"
    return (
        where
        if local
        else f"{where}; other machines are refused: give keys with LENS_KEYS_FILE, or LENS_ALLOW_ANONYMOUS=1"
    )
