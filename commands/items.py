"""The verbs add, remove and update: change a catalogue that is there, also while it is served."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import click

from commands.build import print_skipped
from commands.console import checked_settings, escaped, folder_argument, json_option, print_json, stderr
from commands.progress import Bars
from commands.sources import look_through, source_options
from index import InvalidEntry, LiveWriter, open_catalogue, parse_filter
from ingest import add_sources
from model import Limits, open_extractor
from search import open_catalogue_with_extractor

PART = 500  # items in one transaction

keys_argument = click.argument("keys", metavar="[KEY]...", nargs=-1)
ids_option = click.option("--id", "ids", type=click.IntRange(min=1), multiple=True, help="An item by its id.")
where_option = click.option("--where", metavar="JSON", help="All items that a filter allows.")


@click.command()
@folder_argument
@source_options
@click.option(
    "--skip-duplicates",
    "duplicates",
    flag_value="skip",
    help="Leave out pictures that the catalogue has, altered or not.",
)
@click.option(
    "--report-duplicates",
    "duplicates",
    flag_value="report",
    help="Add them all the same, and say of which items they are duplicates.",
)
@json_option
def add(
    folder: Path,
    labels_from_folders: bool,
    duplicates: Literal["skip", "report"] | None,
    as_json: bool,
    **sources: Any,
) -> None:
    """Add pictures to a catalogue, of all the kinds of sources that build takes; it may be served meanwhile.

    A file that the catalogue has under the same key, unchanged, is left alone; a changed one replaces it. Every batch is kept
    once it is done: stop it with Ctrl-C and run the same command again. Exit code 1 when nothing could be added.

    \b
    Examples:
      python cli.py add catalogue ~/Pictures
      python cli.py add catalogue new.jpg other.heic holiday.zip
      python cli.py add catalogue products.parquet --picture-column photo --key-column sku
      python cli.py add catalogue ~/Downloads --skip-duplicates
    """
    begun = time.perf_counter()
    settings = checked_settings()
    found = look_through(settings, **sources)
    catalogue, _ = open_catalogue_with_extractor(folder)
    with closing(catalogue), closing(LiveWriter(folder)) as writer:
        place, boxes = catalogue.extractor_folder, catalogue.info.regions
        extractor = open_extractor(place, settings.engine, settings.threads, boxes)
        with Bars(stderr) as bars:
            report = add_sources(
                found,
                writer,
                extractor,
                limits=Limits(bytes=settings.max_bytes, pixels=settings.max_pixels),
                labels=labels_from_folders,
                batch=settings.max_batch,
                duplicates=duplicates,
                progress=bars.show,
            )
    print_skipped(report.skipped)
    for one in report.duplicates:
        told = f"{one['key']} is a duplicate of {one['of']} ({one['kind']}, match {one['match']:.3f})"
        stderr.print(f"{'left out' if duplicates == 'skip' else 'duplicate'}: {escaped(told)}")
    if as_json:
        print_json(json.dumps({"catalogue": str(folder), **asdict(report)}, ensure_ascii=False))
    else:
        seconds = time.perf_counter() - begun
        click.echo(
            f"{report.added} pictures added to {escaped(folder)}; {report.kept} unchanged; {len(report.skipped)} skipped; "
            + (f"{len(report.duplicates)} duplicates; " if duplicates else "")
            + f"{seconds:.1f} s"
        )
    if report.skipped and not (report.added or report.kept or report.duplicates):
        stderr.print("error: none of the pictures could be added")
        raise click.exceptions.Exit(1)


@click.command()
@folder_argument
@keys_argument
@ids_option
@where_option
@json_option
def remove(folder: Path, keys: tuple[str, ...], ids: tuple[int, ...], where: str | None, as_json: bool) -> None:
    """Remove items by key, by id or by a filter; the pictures' own files stay. A KEY of - reads keys from stdin, one a line.

    Exit code 1 when one of them was not there; the others are removed all the same.

    \b
    Examples:
      python cli.py remove catalogue beach/IMG_0042.jpg
      python cli.py remove catalogue --where '{"label": "drafts"}'
      find gone -name '*.jpg' | python cli.py remove catalogue -
    """
    names = _chosen(folder, keys, ids, where)
    with closing(LiveWriter(folder)) as writer:
        found: list[int | None] = []
        for at in range(0, len(names), PART):
            found += writer.remove(names[at : at + PART])
    _print_changed(names, found, "removed", as_json)


@click.command()
@folder_argument
@keys_argument
@ids_option
@where_option
@click.option("--set", "changes", metavar="JSON", required=True, help="Fields to set, as an object; null removes one.")
@click.option("--replace", is_flag=True, help="Make this the whole metadata.")
@json_option
def update(
    folder: Path,
    keys: tuple[str, ...],
    ids: tuple[int, ...],
    where: str | None,
    changes: str,
    replace: bool,
    as_json: bool,
) -> None:
    """Change the metadata of items by key, by id or by a filter. A KEY of - reads keys from stdin, one a line.

    Exit code 1 when one of them was not there; the others are changed all the same.

    \b
    Examples:
      python cli.py update catalogue beach/IMG_0042.jpg --set '{"label": "beach"}'
      python cli.py update catalogue --where '{"label": "beech"}' --set '{"label": "beach"}'
    """
    try:
        fields = json.loads(changes)
    except (ValueError, RecursionError) as error:
        raise InvalidEntry(f"--set: this is not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise InvalidEntry('--set: give an object, such as {"label": "beach"}')
    names = _chosen(folder, keys, ids, where)
    with closing(LiveWriter(folder)) as writer:
        found: list[int | None] = []
        for at in range(0, len(names), PART):
            part = names[at : at + PART]
            found += writer.update(part, [fields] * len(part), replace=replace)
    _print_changed(names, found, "updated", as_json)


def _chosen(folder: Path, keys: tuple[str, ...], ids: tuple[int, ...], where: str | None) -> Sequence[int | str]:
    """Return the items that were named: keys, or ids. Raises UsageError unless they were named in one way."""
    if sum(map(bool, (keys, ids, where))) != 1:
        raise click.UsageError("name items by KEY, by --id or by --where: one of these")
    if ids:
        return list(ids)
    if where is not None:
        with closing(open_catalogue(folder)) as catalogue:
            return catalogue.allow(parse_filter(where)).ids()
    lines = list(keys) if keys != ("-",) else sys.stdin.read().splitlines()
    return [line for line in lines if line]


def _print_changed(names: Sequence[int | str], found: list[int | None], what: str, as_json: bool) -> None:
    missing = [name for name, item_id in zip(names, found, strict=True) if item_id is None]
    done = len(found) - len(missing)
    for name in missing:
        stderr.print(f"error: there is no item {escaped(name)}")
    if as_json:
        print_json(json.dumps({what: done, "missing": missing}, ensure_ascii=False))
    else:
        click.echo(f"{done} items {what}")
    if missing:
        raise click.exceptions.Exit(1)
