"""The verbs backup and restore: a copy of a catalogue, made while it is used, and a catalogue of a copy."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from commands.console import UserPath, escaped, folder_argument, json_option, print_json, stderr
from commands.progress import Bars
from index import Generation, backup_catalogue, restore_catalogue


@click.command()
@folder_argument
@click.argument("target", metavar="BACKUP", type=UserPath())
@click.option("--overwrite", is_flag=True, help="Also where another catalogue is at BACKUP.")
@json_option
def backup(folder: Path, target: Path, overwrite: bool, as_json: bool) -> None:
    """Copy a catalogue to the folder BACKUP, consistently, also while it is served and written to.

    Into a backup that is there already only what has changed is copied. A backup is a catalogue like any other: it can be
    searched, served and verified. Another catalogue at BACKUP, one that was built anew too, is left alone.

    \b
    Example:
      python cli.py backup catalogue /mnt/backup/catalogue
    """
    with Bars(stderr) as bars:
        made = backup_catalogue(folder, target.resolve(), bars.show, overwrite=overwrite)
    _print_copied(made, target, "backed up", as_json)


@click.command()
@click.argument("backup", metavar="BACKUP", type=UserPath())
@click.option("--out", required=True, type=UserPath(), help="The catalogue folder to make.")
@click.option("--overwrite", is_flag=True, help="Replace the catalogue at --out, once the new one is whole.")
@json_option
def restore(backup: Path, out: Path, overwrite: bool, as_json: bool) -> None:
    """Make a catalogue of a backup, once every file of that has been checked.

    A service that has the replaced catalogue open goes on with what it was, and refuses to change it: start it again.

    \b
    Example:
      python cli.py restore /mnt/backup/catalogue --out catalogue
    """
    with Bars(stderr) as bars:
        made = restore_catalogue(backup, out.resolve(), overwrite=overwrite, progress=bars.show)
    _print_copied(made, out, "restored", as_json)


def _print_copied(made: Generation, to: Path, what: str, as_json: bool) -> None:
    if as_json:
        print_json(json.dumps({"catalogue": str(to), **asdict(made)}, ensure_ascii=False))
    else:
        click.echo(f"{what} to {escaped(to)}: generation {made.generation}, {made.base} of {made.count:,} items")
