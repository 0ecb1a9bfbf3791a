"""What every verb at the shell shares: where it prints, and how it ends when something was wrong."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from index import VectorIndexError
from ingest import SourceNotFound
from model import ImageError, ModelError
from settings import SettingsError


class PortTaken(Exception):
    """The address to serve on cannot be had."""


NAMED_ERRORS = (
    ImageError,
    VectorIndexError,
    ModelError,
    PortTaken,
    SettingsError,
    SourceNotFound,
    OSError,
    sqlite3.Error,
)


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
