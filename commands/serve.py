"""The verb serve: the HTTP API and the page, by BentoML."""

from __future__ import annotations

import errno
import os
import socket
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import click

from commands.console import PortTaken, folder_argument, stderr
from search import open_catalogue_with_extractor
from settings import Settings, read_settings

HERE = ("127.0.0.1", "localhost", "0.0.0.0", "::")
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
    give_bentoml_a_home()
    open_catalogue_with_extractor(folder)[0].close()
    check_keys(settings)
    address = check_address(host, port)
    stderr.print(greeting(host, port, settings))
    environment = os.environ | {"LENS_CATALOGUE": str(folder.resolve()), "BENTOML_DO_NOT_TRACK": "True"}
    command = ["-m", "bentoml", "serve", "service:ImageSearch", "--working-dir", str(ROOT)]
    os.execve(sys.executable, [sys.executable, *command, "--host", address, "--port", str(port)], environment)


def check_keys(settings: Settings) -> None:
    """Raise SettingsError when the API keys cannot be used; the service itself would say so after the greeting."""
    from server.gateway.auth import Authenticator  # takes a second

    Authenticator(settings)


def check_address(host: str, port: int) -> str:
    """Return the IP address of a host, which is what BentoML listens on; of several one by IPv4.

    Raises PortTaken unless one can listen there now.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise PortTaken(f"there is no address for the host {host}; use 127.0.0.1, 0.0.0.0 or ::1") from None
    family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address[:2])
        except OSError as error:
            other = "port with --port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "host with --host"
            raise PortTaken(
                f"cannot listen on {in_url(host)}:{port} ({error.strerror}); choose another {other}"
            ) from None
    return str(address[0])


def in_url(host: str) -> str:
    """Return a host as URLs have it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def give_bentoml_a_home() -> None:
    """Have BentoML keep its files elsewhere where it cannot in the user's home: it ends with a traceback there."""
    home = Path(os.environ.get("BENTOML_HOME") or Path("~").expanduser() / "bentoml")
    try:
        home.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=home).close()
    except OSError:
        place = Path(tempfile.gettempdir()) / f"bentolens-home-{os.getuid()}"
        place.mkdir(mode=0o700, exist_ok=True)
        if place.stat().st_uid != os.getuid():
            place = Path(tempfile.mkdtemp(prefix="bentolens-home-"))
        os.environ["BENTOML_HOME"] = str(place)


def greeting(host: str, port: int, settings: Settings) -> str:
    """Say where a service will be found, and by whom."""
    local = host in ("127.0.0.1", "localhost", "::1")
    page = "/demo" if settings.demo else ""
    where = f"BentoLens on http://{'localhost' if host in HERE else in_url(host)}:{port}{page}"
    if settings.keys is not None or settings.keys_file is not None:
        return f"{where}, for those who have a key"
    if settings.allow_anonymous:
        return f"{where}, for everyone who reaches it (LENS_ALLOW_ANONYMOUS=1)"
    return (
        where
        if local
        else f"{where}; other machines are refused: give keys with LENS_KEYS_FILE, or LENS_ALLOW_ANONYMOUS=1"
    )
