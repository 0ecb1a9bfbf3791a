"""What every verb at the shell shares: where it prints, and how it ends when something was wrong."""

from __future__ import annotations

import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from index import IndexFault
from ingest.sources import SourceNotFound
from model import ImageFault, ModelFault
from settings import Settings, SettingsFault

SHOWN_SKIPS = 10


class PortTaken(Exception):
    """The address to serve on cannot be had."""


NAMED_ERRORS = (ImageFault, IndexFault, ModelFault, PortTaken, SettingsFault, SourceNotFound, OSError, sqlite3.Error)


stderr = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
folder_argument = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))


class Verbs(click.Group):
    """Turns the errors that have names into one line and exit code 1; Ctrl-C into exit code 130."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except BrokenPipeError:  # the reader of our output has gone: click ends quietly
            raise
        except NAMED_ERRORS as error:
            stderr.print(f"error: {' '.join(str(error).split())}")
            context.exit(1)
        except KeyboardInterrupt:
            stderr.print("stopped")
            context.exit(130)


def check_port(host: str, port: int) -> None:
    """Raise PortTaken unless one can listen there now."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortTaken(f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port") from None


def greeting(host: str, port: int, settings: Settings) -> str:
    """Where a service will be found, and by whom."""
    local = host in ("127.0.0.1", "localhost", "::1")
    told = f"BentoLens on http://{'localhost' if local or host == '0.0.0.0' else host}:{port}/demo"
    if settings.keys is not None or settings.keys_file is not None:
        return f"{told}, for those who have a key"
    if settings.open:
        return f"{told}, for everyone who reaches it (LENS_OPEN=1)"
    return told if local else f"{told}; other machines are refused: give keys with LENS_KEYS_FILE, or LENS_OPEN=1"


def tell_skipped(skipped: list[dict[str, str]], report: Path) -> None:
    """Name the first few files that a build skipped, and where all of them are."""
    for skip in skipped[:SHOWN_SKIPS]:
        stderr.print(f"skipped {skip['key']}: {skip['reason']}")
    if (more := len(skipped) - SHOWN_SKIPS) > 0:
        stderr.print(f"… and {more} more; all of them are in {report}")
