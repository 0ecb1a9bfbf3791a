"""The verb search: query a catalogue without a server."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import click

from commands.console import UserPath, checked_settings, escaped, folder_argument, json_option, print_json, stderr
from index import parse_filter
from model import ImageError, Limits, Room, UnreadableImage, open_verified_engine, read_file
from search import LocalEmbedder, QueryInput, SearchEngine, SearchResult, open_catalogue_with_extractor
from server.api.schemas import search_answer


@click.command()
@folder_argument
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=UserPath())
@click.option("--k", type=click.IntRange(min=1), help="Hits for each picture (default: LENS_K or 10).")
@click.option("--where", metavar="JSON", help="A filter on the pictures' metadata.")
@json_option
def search(folder: Path, images: tuple[Path, ...], k: int | None, where: str | None, as_json: bool) -> None:
    """Find the pictures in a catalogue that look like IMAGE, without a server.

    Prints a line for each hit: score, key. With --json, what POST /search answers. Exit code 1 when any IMAGE could
    not be read; the others are answered all the same.

    \b
    Examples:
      python cli.py search catalogue holiday.jpg
      python cli.py search catalogue a.jpg b.heic --k 3 --json
      python cli.py search catalogue a.jpg --where '{"width": {"$gte": 640}, "label": {"$ne": "cats"}}'
    """
    settings = checked_settings()
    limits = Limits(settings.max_bytes, settings.max_pixels, Room(settings.max_pixels))
    catalogue, card = open_catalogue_with_extractor(folder)
    with closing(catalogue):
        parsed = None if where is None else parse_filter(where)
        inputs = [_read(image, limits) for image in images]
        embedder = LocalEmbedder(
            lambda: open_verified_engine(catalogue.extractor_folder, settings.engine, settings.threads)
        )
        threads = settings.decode_threads
        engine = SearchEngine(catalogue, card, embedder, ef=settings.ef, limits=limits, decode_threads=threads)
        result = asyncio.run(engine.search(inputs, k or settings.k, parsed))
    if as_json:
        print_json(search_answer(result).model_dump_json())
    failed = _print(images, result, hits=not as_json)
    if result.hint:
        stderr.print(f"hint: {escaped(result.hint)}")
    if failed:
        raise click.exceptions.Exit(1)


def _print(images: tuple[Path, ...], result: SearchResult, *, hits: bool) -> bool:
    """Print the hits, if they are wanted, and the errors; return whether there were errors."""
    failed = False
    for image, found in zip(images, result.results, strict=True):
        if isinstance(found, Exception):
            failed = True
            stderr.print(f"error: {escaped(image)}: {escaped(found)}")
            continue
        for hit in found.hits if hits else ():
            line = f"{hit.score:.4f}\t{escaped(hit.item.key)}"
            click.echo(line if len(images) == 1 else f"{escaped(image)}\t{line}")
    return failed


def _read(image: Path, limits: Limits) -> QueryInput:
    try:
        return read_file(image, limits)[0]
    except ImageError as error:
        return error
    except OSError as error:
        return UnreadableImage(f"the file cannot be read ({error.strerror})")
