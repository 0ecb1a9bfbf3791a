"""The verbs info and verify: what a catalogue holds, and whether it is sound."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import click

from commands.console import escaped, folder_argument, json_option, print_json, stderr
from commands.progress import Bars
from index import VectorIndexError, read_usage, verify_catalogue
from model import ModelError
from search import open_catalogue_with_extractor


@click.command()
@folder_argument
@json_option
def info(folder: Path, as_json: bool) -> None:
    """Say what a catalogue holds, what it was made with, what it takes on the disk, and what is to be merged.

    health is a quick look; verify reads every byte.

    \b
    Example:
      python cli.py info catalogue
    """
    catalogue, card = open_catalogue_with_extractor(folder)
    with closing(catalogue):
        about = {name: getattr(card, name) for name in ("precision", "kept_in_f32")}
        known, usage = catalogue.info, read_usage(folder)
        health = catalogue.fault() or "ok"
        facts = {**asdict(known), **asdict(usage), "bytes": sum(usage.bytes.values()), "bytes_of": usage.bytes}
        facts |= {"health": health, **about}
        facts |= {"fidelity": card.fidelity and asdict(card.fidelity), "preprocessing": asdict(card.preprocessing)}
    if as_json:
        print_json(json.dumps(facts, ensure_ascii=False))
        return
    kept = [f"{one.generation} ({one.model}, {one.count:,} items, {one.created_at})" for one in usage.generations]
    facts |= {"files": ", ".join(known.files), "fidelity": card.fidelity, "generations": ", ".join(kept)}
    facts["regions"] = f"{len(known.regions)} boxes in each picture" if known.regions else "none"
    facts |= {"bytes_of": ", ".join(f"{kind} {size:,}" for kind, size in usage.bytes.items())}
    for name, value in facts.items():
        click.echo(f"{name:<16} {escaped(value)}")


@click.command()
@folder_argument
@json_option
def verify(folder: Path, as_json: bool) -> None:
    """Check every file of a catalogue against its SHA-256, and that all that is in it fits together.

    Names each fault on a line of its own; exit code 1 when there is one.

    \b
    Example:
      python cli.py verify catalogue
    """
    with Bars(stderr) as bars:
        faults = list(verify_catalogue(folder, bars.show))
    if not faults:
        try:
            catalogue, _ = open_catalogue_with_extractor(folder)  # what remains: that the two belong together
            catalogue.close()
        except (VectorIndexError, ModelError) as error:
            faults.append(str(error))
    if as_json:
        print_json(json.dumps({"catalogue": str(folder), "faults": faults}, ensure_ascii=False))
    elif faults:
        click.echo("\n".join(map(escaped, faults)))
    else:
        click.echo(f"{escaped(folder)} is sound")
    if faults:
        raise click.exceptions.Exit(1)
