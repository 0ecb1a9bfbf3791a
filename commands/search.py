"""The verb search: query a catalogue without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import click

from commands.console import UserPath, checked_settings, escaped, folder_argument, json_option, print_json, stderr
from commands.queries import RegionType, combine_each, read_example, read_picture_query
from index import parse_filter
from model import Limits, Region, Room, open_verified_engine
from search import (
    Found,
    FoundHit,
    ItemQuery,
    LocalEmbedder,
    LocalMaps,
    LocalTexts,
    SearchEngine,
    SearchResult,
    TextQuery,
    open_catalogue_with_extractor,
)
from server.api.errors import RequestError
from server.api.parsing import name_or_json
from server.api.query_requests import ShapingFields
from server.api.requests import check
from server.api.schemas import search_answer

SHAPING = (
    click.option("--k", type=int, help="Hits for each query (default: LENS_K or 10)."),
    click.option("--where", metavar="JSON", help="A filter on the pictures' metadata."),
    click.option("--min-score", type=float, help="The least score that a hit has."),
    click.option("--fold", type=float, help="Fold hits that are so similar to one before them (0.98) into it."),
    click.option("--group-by", metavar="FIELD", help="One hit for each value of a field."),
    click.option("--diversity", type=float, default=0.0, help="How much hits are to differ, from 0 to 1."),
    click.option(
        "--sort", metavar="FIELD", help="Sort the hits by a field, score, key or added_at; -FIELD: last first."
    ),
    click.option("--offset", type=int, default=0, help="Hits to leave out, from the first on."),
    click.option("--limit", type=int, help="Hits of the page."),
    click.option("--facet", "facets", metavar="FIELD", multiple=True, help="Count a field's values among the hits."),
    click.option(
        "--parts",
        type=click.Choice(["items", "query"]),
        help="Search for IMAGE among the parts of items (after build --regions), or for the parts of IMAGE.",
    ),
    click.option("--match", is_flag=True, help="Say how probably each hit is a copy of IMAGE, altered or not."),
    click.option("--min-match", type=float, help="The least probability of being a copy that a hit has, such as 0.9."),
    click.option("--classify", metavar="FIELD", help="Have the hits vote on the value of a field."),
)


def shaping_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the options that shape an answer."""
    for option in reversed(SHAPING):
        command = option(command)
    return command


@click.command()
@folder_argument
@click.argument("images", metavar="[IMAGE]...", nargs=-1, type=UserPath())
@click.option("--id", "ids", type=click.IntRange(min=0), multiple=True, help="Search by an item of the catalogue.")
@click.option("--text", "texts", metavar="WORDS", multiple=True, help="Search by words, where the model knows them.")
@click.option("--region", type=RegionType(), help="Search by a box in each IMAGE, in shares of its width and height.")
@click.option("--positive", metavar="EXAMPLE", multiple=True, help="What hits are to be like, too.")
@click.option("--negative", metavar="EXAMPLE", multiple=True, help="What hits are to be unlike.")
@click.option(
    "--combine",
    type=click.Choice(["mean", "best"]),
    default="mean",
    show_default=True,
    help="Search by the examples' mean, or by whichever is nearest.",
)
@shaping_options
@json_option
def search(
    folder: Path,
    images: tuple[Path, ...],
    ids: tuple[int, ...],
    texts: tuple[str, ...],
    region: Region | None,
    positive: tuple[str, ...],
    negative: tuple[str, ...],
    combine: Literal["mean", "best"],
    where: str | None,
    as_json: bool,
    **shaping: Any,
) -> None:
    """Find the pictures in a catalogue that look like IMAGE, without a server.

    An EXAMPLE is a file, id:N for an item, or text:WORDS, with ^WEIGHT after it or not (id:7^0.5). A FIELD inside another is
    a JSON list: '["camera", "make"]'.

    Prints a line for each hit: score, key. With --json, what POST /search answers. Exit code 1 when any IMAGE could
    not be read; the others are answered all the same.

    \b
    Examples:
      python cli.py search catalogue holiday.jpg
      python cli.py search catalogue a.jpg b.heic --k 3 --json
      python cli.py search catalogue a.jpg --where '{"width": {"$gte": 640}, "label": {"$ne": "cats"}}'
      python cli.py search catalogue --text "musical instrument"
      python cli.py search catalogue room.jpg --region 0.6,0.4,0.3,0.5
      python cli.py search catalogue a.jpg --positive b.jpg --negative id:7^0.5
      python cli.py search catalogue a.jpg --k 100 --sort -captured_at --limit 10
      python cli.py search catalogue a.jpg --group-by sku --fold 0.98
      python cli.py search catalogue lamp.jpg --parts items
      python cli.py search catalogue a.jpg --min-match 0.9
    """
    settings = checked_settings()
    limits = Limits(settings.max_bytes, settings.max_pixels, Room(settings.max_pixels))
    if not (images or ids or texts or positive):
        raise click.UsageError("give an IMAGE, --id, --text or --positive to search by")
    try:
        most = max(settings.max_k, *(shaping[name] or 0 for name in ("k", "offset", "limit")))  # which bounds a service
        wanted = check(ShapingFields, _fields(shaping)).shaping(settings.model_copy(update={"max_k": most}))
    except RequestError as error:
        raise click.UsageError(str(error)) from None
    catalogue, card = open_catalogue_with_extractor(folder)
    with closing(catalogue):
        parsed = None if where is None else parse_filter(where)
        own = [
            *(read_picture_query(image, limits, region) for image in images),
            *map(ItemQuery, ids),
            *map(TextQuery, texts),
        ]
        likes, unlikes = ([read_example(text, limits) for text in some] for some in (positive, negative))
        inputs = combine_each(own, likes, unlikes, combine)
        embedder = LocalEmbedder(
            lambda: open_verified_engine(catalogue.extractor_folder, settings.engine, settings.threads)
        )
        threads = settings.decode_threads
        maps = LocalMaps(catalogue.extractor_folder, card, settings.threads)
        words = LocalTexts(catalogue.extractor_folder, card, settings.threads)
        engine = SearchEngine(
            catalogue, card, embedder, ef=settings.ef, limits=limits, decode_threads=threads, maps=maps, texts=words
        )
        result = asyncio.run(engine.search(inputs, wanted, parsed))
    if as_json:
        print_json(search_answer(result).model_dump_json())
    names = [*map(str, images), *(f"id:{one}" for one in ids), *(f"text:{one}" for one in texts)]
    failed = _print(names or ["query"], result, hits=not as_json)
    if result.hint:
        stderr.print(f"hint: {escaped(result.hint)}")
    if failed:
        raise click.exceptions.Exit(1)


def _fields(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options as the fields of a request."""
    named = {name: name_or_json(name, given[name]) for name in ("sort", "group_by", "classify") if given[name]}
    facets = [name_or_json("facet", one) for one in given["facets"]]
    return {name: value for name, value in given.items() if value is not None} | named | {"facets": facets}


def _print(names: Sequence[str], result: SearchResult, *, hits: bool) -> bool:
    """Print the hits, if they are wanted, and the errors; return whether there were errors."""
    failed = False
    for name, found in zip(names, result.results, strict=True):
        before = "" if len(names) == 1 else f"{escaped(name)}\t"
        if isinstance(found, Exception):
            failed = True
            stderr.print(f"error: {escaped(name)}: {escaped(found)}")
            continue
        for hit in found.hits if hits else ():
            click.echo(before + _line(hit))
        if hits:
            _print_counts(found)
    return failed


def _line(hit: FoundHit) -> str:
    parts = [f"{hit.score:.4f}", escaped(hit.item.key)]
    if hit.match is not None:
        parts.append(f"match {hit.match:.3f}")
    if hit.group:
        parts.append(f"{escaped(hit.group.value)} ({hit.group.size})")
    if hit.box:
        parts.append(",".join(f"{value:.2f}" for value in hit.box))
    if hit.folded:
        parts.append(f"+{len(hit.folded)}")
    return "\t".join(parts)


def _print_counts(found: Found) -> None:
    if found.no_match:
        stderr.print("no match: none of these is a copy")
    for vote in found.classify or ():
        stderr.print(f"vote: {escaped(vote.value)} {vote.confidence:.3f} ({vote.count})")
    for facet in found.facets or ():
        values = ", ".join(f"{escaped(value)} ({count})" for value, count in facet.values)
        stderr.print(f"{escaped('.'.join(facet.path))}: {values}")
