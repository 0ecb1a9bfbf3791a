"""The verb pack: a catalogue into BentoML's model store, from where ``bentoml build`` takes it."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import click

from commands.console import folder_argument, json_option, print_json
from index import Catalogue, backup_catalogue
from search import open_catalogue_with_extractor
from settings import MODEL_NAME


@click.command()
@folder_argument
@json_option
def pack(folder: Path, as_json: bool) -> None:
    """Put a catalogue into BentoML's model store, ready for: bentoml build.

    \b
    Example:
      python cli.py pack catalogue && bentoml build
    """
    catalogue, _ = open_catalogue_with_extractor(folder)
    with closing(catalogue):
        tag = pack_catalogue(catalogue)
    print_json(json.dumps({"tag": tag})) if as_json else click.echo(tag)


def pack_catalogue(catalogue: Catalogue) -> str:
    """Copy an open catalogue into the model store; its tag, name:version. Raises OSError when the disk is full."""
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    import bentoml  # takes a second, and most verbs do without

    info = catalogue.info
    labels = {"model": info.model, "items": str(info.count), "generation": str(info.generation)}
    with bentoml.models.create(MODEL_NAME, labels=labels) as packed:
        backup_catalogue(catalogue.folder, Path(packed.path))
    return str(packed.tag)
