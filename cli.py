"""The command line: python cli.py VERB …"""

from __future__ import annotations

import signal

import click

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports below leaves no traceback

from commands import (
    add,
    backup,
    build,
    compact,
    compare_images,
    duplicates,
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
    compare_images,
    duplicates,
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
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli()
