"""The verbs compact and rollback: a new generation of a catalogue's index, and the one before."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from commands.console import checked_settings, escaped, folder_argument, json_option, print_json, stderr
from commands.migrate import needs_other_model, roll_back_model
from commands.progress import Bars
from copies import refit_match_model
from index import Generation, merge_catalogue, rollback_catalogue
from model import open_extractor


@click.command()
@folder_argument
@json_option
def compact(folder: Path, as_json: bool) -> None:
    """Merge what was added, removed and updated into a new index file; the catalogue may be served and written to meanwhile.

    Stopped at any moment, it leaves the catalogue as it was. The index file before is kept: see rollback. Where the catalogue
    has become another, the match model, which finds copies, is fitted anew.

    \b
    Example:
      python cli.py compact catalogue
    """
    settings = checked_settings()
    with Bars(stderr) as bars:
        made = merge_catalogue(folder, bars.show)
        refit_match_model(folder, lambda place: open_extractor(place, settings.engine, settings.threads), bars.show)
    _print_generation(folder, made, as_json)


@click.command()
@folder_argument
@json_option
def rollback(folder: Path, as_json: bool) -> None:
    """Go back to the index file before the last merge or migration. No item is lost: what it lacks is searched next to it.

    Where the model before was another one, what was added since is embedded by it. Run again, it goes forth again.

    \b
    Example:
      python cli.py rollback catalogue
    """
    made = roll_back_model(folder) if needs_other_model(folder) else rollback_catalogue(folder)
    _print_generation(folder, made, as_json)


def _print_generation(folder: Path, made: Generation, as_json: bool) -> None:
    if as_json:
        print_json(json.dumps({"catalogue": str(folder), **asdict(made)}, ensure_ascii=False))
    else:
        click.echo(f"{escaped(folder)}: generation {made.generation}, {made.base} of {made.count:,} items")
