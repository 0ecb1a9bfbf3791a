"""The verb compare-images: how alike two pictures are."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
from rich.markup import escape

from commands.console import UserPath, checked_settings, escaped, json_option, print_json, stderr, weights_option
from model import ImageError, Limits, build_reference, open_verified_engine, read_file, read_picture
from search import compare, open_catalogue_with_extractor


@click.command("compare-images")
@click.argument("pictures", metavar="A B", nargs=2, type=UserPath())
@click.option(
    "--catalogue", metavar="DIR", type=UserPath(), help="Use a catalogue's model, and compare with its pictures."
)
@click.option(
    "--model", default="resnet50.tv_in1k", show_default=True, help="Any timm model, where there is no catalogue."
)
@weights_option
@json_option
def compare_images(
    pictures: tuple[Path, Path], catalogue: Path | None, model: str, weights: Path | None, as_json: bool
) -> None:
    """Say how alike two pictures are: cosine similarity, Euclidean distance, how to read them, and what the embeddings are.

    A similarity means little by itself, since each model has its own scale: with --catalogue it is compared with how alike
    the pictures of a catalogue are to each other.

    \b
    Examples:
      python cli.py compare-images a.jpg b.jpg --catalogue catalogue
      python cli.py compare-images a.jpg b.jpg --model tf_efficientnet_lite0
    """
    settings = checked_settings()
    limits = Limits(settings.max_bytes, settings.max_pixels)
    with ExitStack() as stack:
        opened = None
        if catalogue is not None:
            opened, card = open_catalogue_with_extractor(catalogue)
            stack.enter_context(closing(opened))
            engine = open_verified_engine(opened.extractor_folder, settings.engine, settings.threads)
        else:
            with stderr.status(f"loading {escape(model)}"):
                engine = build_reference(model, weights)
            card = engine.card
        pixels = []
        for path in pictures:
            try:
                image = read_picture(read_file(path, limits)[0], limits, card.preprocessing.enough).image
            except (ImageError, OSError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                raise click.ClickException(f"{escaped(path)}: {reason}") from None
            pixels.append(card.preprocessing.to_pixels(image))
        one, other = engine.embed(np.stack(pixels))
        found = compare(one, other, opened)
    if as_json:
        print_json(json.dumps({"model": card.model, **asdict(found)}))
        return
    facts = {"cosine similarity": f"{found.cosine:.4f}", "Euclidean distance": f"{found.euclidean:.4f}"}
    facts |= {"reading": found.reading, "model": card.model}
    for path, one in zip(pictures, found.embeddings, strict=True):
        facts[escaped(path.name)] = (
            f"{one.dim} dimensions, norm {one.norm:.4f}, from {one.min:.4f} to {one.max:.4f}, mean {one.mean:.4f}"
        )
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name:<{width}}  {value}")
