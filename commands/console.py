"""What every verb at the shell shares: where it prints, and how it ends when something was wrong."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import sys
import unicodedata
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from copies import PlanError
from index import VectorIndexError
from ingest import SourceNotFound, UnreadablePictures
from model import ImageError, ModelError
from search import SearchError
from settings import Settings, SettingsError, read_settings, unknown_settings

# Unicode's categories of what has no shape of its own: control and format characters, half surrogates, separators of lines.
HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


class PortTaken(Exception):
    """The address to serve on cannot be had."""


NAMED_ERRORS = (
    ImageError,
    VectorIndexError,
    ModelError,
    PlanError,
    PortTaken,
    SearchError,
    SettingsError,
    SourceNotFound,
    UnreadablePictures,
    OSError,
    sqlite3.Error,
)


class UserPath(click.Path):
    """A path as users write it: a ~ that the shell left alone, as in --out=~/x, is expanded."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(os.path.expanduser(value), param, ctx)  # noqa: PTH111, which leaves ~nobody as it is


stderr = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
weights_option = click.option("--weights", type=UserPath(), help="Weights from a file (.pth or .safetensors).")
precision_option = click.option(
    "--precision",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "f32", "bf16", "int8"]),
    help="What the network computes in; auto is bf16 where the CPU has it and it stays true, "
    "elsewhere int8 where it comes very close, else f32.",
)
fit_option = click.option(
    "--fit",
    default="crop",
    show_default=True,
    type=click.Choice(["crop", "pad"]),
    help="What the network sees of a picture: its middle, as the model was trained, or all of it, padded to a square.",
)
folder_argument = click.argument("folder", metavar="DIR", type=UserPath())


def checked_settings() -> Settings:
    """Read the settings, and warn of variables that are none; a server warns by itself. Raises SettingsError."""
    for line in unknown_settings():
        stderr.print(f"warning: {escaped(line)}")
    return read_settings()


def escaped(text: object) -> str:
    """Return text as one line of a terminal shows it: control characters, and what is no text, as escapes."""
    return "".join(
        one.encode("unicode_escape").decode() if unicodedata.category(one) in HIDDEN else one for one in str(text)
    )


def print_json(text: str) -> None:
    """Print a JSON document, given as text, on stdout; what the terminal's encoding lacks, as JSON's escapes."""
    if (sys.stdout.encoding or "ascii").lower() not in ("utf-8", "utf8"):
        text = json.dumps(json.loads(text))
    click.echo(text)


def describe(error: Exception) -> str:
    """Return one line on an error."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):  # one triple for each file
        *_, reason = error.args[0][0]
        return escaped(reason)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = f" ({error.filename})" if error.filename else ""
        return escaped(f"the disk is full{where}; free some space, and run the same command again")
    return escaped(str(error).strip() or type(error).__name__)


class Verbs(click.Group):
    """Turns the errors that have names into one line and exit code 1; Ctrl-C into exit code 130."""

    def invoke(self, context: click.Context) -> Any:
        for stream in (sys.stdout, sys.stderr):  # a terminal of few characters gets the others as escapes
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(context)
        except BrokenPipeError:  # the reader of our output has gone: click ends quietly
            raise
        except NAMED_ERRORS as error:
            stderr.print(f"error: {describe(error)}")
            context.exit(1)
        except KeyboardInterrupt:
            stderr.print("stopped")
            context.exit(130)
