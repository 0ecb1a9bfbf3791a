"""The verb migrate: a catalogue's pictures embedded by another model, while it is served."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import click
from rich.markup import escape

from commands.console import (
    checked_settings,
    escaped,
    fit_option,
    folder_argument,
    json_option,
    precision_option,
    print_json,
    stderr,
    weights_option,
)
from commands.progress import Bars
from commands.sources import UrlReader, private_urls_option
from index import METRICS, Generation, needs_other_extractor, open_catalogue
from ingest import CatalogueSamples, MigrationReport, go_back, migrate_catalogue
from model import Limits, build_extractor, open_extractor
from search import open_catalogue_with_extractor

SHOWN = 10

needs_other_model = needs_other_extractor


@click.command()
@folder_argument
@click.option("--model", required=True, help="Any timm model, or open_clip:NAME.TAG, or open_clip:FOLDER.")
@weights_option
@precision_option
@fit_option
@click.option(
    "--dry-run", is_flag=True, help="Embed and compare, and switch nothing; the vectors are kept for the next run."
)
@private_urls_option
@json_option
def migrate(
    folder: Path,
    model: str,
    weights: Path | None,
    precision: Literal["auto", "f32", "bf16", "int8"],
    fit: Literal["crop", "pad"],
    dry_run: bool,
    private_urls: bool,
    as_json: bool,
) -> None:
    """Embed all pictures of a catalogue by another model, and switch to it; it may be searched and changed meanwhile.

    Pictures are read from the files that build --keep-originals has kept, else from where they came from, else, where those
    have gone or changed, from their thumbnails, which are named. Stop it with Ctrl-C and run it again: it goes on. A service
    takes the new model by itself. rollback leads back.

    \b
    Examples:
      python cli.py migrate catalogue --model vit_base_patch16_224 --dry-run
      python cli.py migrate catalogue --model resnet50.tv_in1k --weights resnet50.safetensors
    """
    begun = time.perf_counter()
    settings = checked_settings()
    limits = Limits(bytes=settings.max_bytes, pixels=settings.max_pixels)
    fetch = UrlReader(settings, private=private_urls)
    catalogue, _ = open_catalogue_with_extractor(folder)
    with closing(catalogue):
        info, place = catalogue.info, catalogue.extractor_folder
    before = open_extractor(place, settings.engine, settings.threads)
    with ExitStack() as stack:
        with stderr.status(f"exporting {escape(model)}, and holding it to its reference"):
            extractor = stack.enter_context(
                build_extractor(
                    model,
                    weights,
                    CatalogueSamples(folder, limits, fetch),
                    precision=precision,
                    pad=fit == "pad",
                    normalized=METRICS[info.metric].normalized,
                    engine=settings.engine,
                    threads=settings.threads,
                    boxes=info.regions,
                )
            )
        stderr.print(f"{model} in {extractor.card.precision}: {extractor.card.fidelity}")
        if extractor.wordless:
            stderr.print(f"it cannot be searched by words: {escaped(extractor.wordless)}")
        with Bars(stderr) as bars:
            report = migrate_catalogue(
                *(folder, extractor, before),
                limits=limits,
                batch=settings.max_batch,
                fetch=fetch,
                dry_run=dry_run,
                progress=bars.show,
            )
    _print_thumbnails(report)
    if as_json:
        print_json(json.dumps({"catalogue": str(folder), **asdict(report)}, ensure_ascii=False))
        return
    click.echo(f"{report.embedded} pictures embedded by {model}; {time.perf_counter() - begun:.1f} s")
    click.echo(_describe(report))
    if report.generation:
        click.echo(f"{escaped(folder)} has its vectors now; to go back: python cli.py rollback {escaped(folder)}")
    else:
        click.echo("nothing was switched; the same command without --dry-run does")


def _describe(report: MigrationReport) -> str:
    assert report.overlap is not None
    assert report.milliseconds is not None
    seen = report.overlap
    parts = [f"of {seen.pictures} pictures compared, {seen.neighbours:.0%} of the 10 nearest neighbours are the same"]
    if seen.copies_before is not None:
        parts.append(f"{seen.copies_before} have a copy by the model before, {seen.copies_after} by this one")
    parts.append("{:.1f} ms a picture before, {:.1f} now".format(*report.milliseconds))
    return "; ".join(parts)


def roll_back_model(folder: Path) -> Generation:
    """Go back to the generation before, whose model was another one."""
    settings = checked_settings()
    with closing(open_catalogue(folder)) as catalogue:
        boxes = catalogue.info.regions
    with Bars(stderr) as bars:
        report = go_back(
            folder,
            lambda name: open_extractor(folder / name, settings.engine, settings.threads, boxes),
            limits=Limits(bytes=settings.max_bytes, pixels=settings.max_pixels),
            batch=settings.max_batch,
            fetch=UrlReader(settings, private=False),
            progress=bars.show,
        )
    _print_thumbnails(report)
    assert report.generation is not None
    return report.generation


def _print_thumbnails(report: MigrationReport) -> None:
    for one in report.from_thumbnails[:SHOWN]:
        stderr.print(f"embedded from its thumbnail: {escaped(one['key'])}: {escaped(one['reason'])}")
    if (more := len(report.from_thumbnails) - SHOWN) > 0:
        stderr.print(f"… and {more} more; --json names them all")
