"""The command line: python cli.py VERB …"""

from __future__ import annotations

import click

from commands import (
    add,
    backup,
    build,
    compact,
    info,
    migrate,
    pack,
    remove,
    restore,
    rollback,
    search,
    serve,
    update,
    verify,
)
from commands.console import Verbs


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Reverse image search over your own pictures.

    Results go to stdout, everything else to stderr. Exit codes: 0 good, 1 an error (one line), 2 wrong usage, 130 Ctrl-C.
    """


for verb in (
    build,
    add,
    remove,
    update,
    search,
    info,
    verify,
    compact,
    rollback,
    migrate,
    backup,
    restore,
    pack,
    serve,
):
    cli.add_command(verb)


if __name__ == "__main__":
    cli()
