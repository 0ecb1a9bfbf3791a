"""The verb build: pictures into a catalogue."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import click
from rich.markup import escape

from commands.console import (
    UserPath,
    checked_settings,
    escaped,
    fit_option,
    json_option,
    precision_option,
    print_json,
    stderr,
    weights_option,
)
from commands.progress import Bars
from commands.sources import look_through, source_options
from index import METRICS, Metric, check_place
from ingest import BuildReport, SourceSamples, build_catalogue
from model import WINDOWS, ExtractorCard, Limits, build_extractor

SHOWN_SKIPS = 10


@click.command()
@source_options
@click.option("--out", required=True, type=UserPath(), help="The catalogue folder to make.")
@click.option(
    "--model",
    default="resnet50.tv_in1k",
    show_default=True,
    help="Any timm model, or open_clip:NAME.TAG, or open_clip:FOLDER.",
)
@weights_option
@precision_option
@fit_option
@click.option(
    "--metric",
    default="cosine",
    show_default=True,
    type=click.Choice(list(METRICS)),
    help="What makes two pictures alike: the angle between embeddings, their inner product, or their distance.",
)
@click.option(
    "--keep-originals", is_flag=True, help="Keep the pictures' own files too, for migrate; they take their space."
)
@click.option(
    "--regions",
    is_flag=True,
    help=f"Keep vectors of {len(WINDOWS)} boxes in each picture too, so that a part of one is found; they take their space.",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace the catalogue at --out, once the new one is whole; pictures that have not changed are not embedded again.",
)
@json_option
def build(
    out: Path,
    model: str,
    weights: Path | None,
    precision: Literal["auto", "f32", "bf16", "int8"],
    fit: Literal["crop", "pad"],
    metric: Metric,
    labels_from_folders: bool,
    keep_originals: bool,
    regions: bool,
    overwrite: bool,
    as_json: bool,
    **sources: Any,
) -> None:
    """Make a catalogue of pictures: folders (and all folders below them), single files, zip and tar files, tables (CSV, TSV,
    JSON lines, Parquet) of paths or URLs, s3:// and other URLs that fsspec reads, or - for paths on stdin.

    Files and folders that cannot be read are skipped and listed; hidden ones, and those that systems make beside pictures
    (@eaDir, $RECYCLE.BIN, __MACOSX, …), are left out. Stop it with Ctrl-C and run the same command again: it goes on
    where it was.

    \b
    Examples:
      python cli.py build ~/Pictures --out catalogue
      python cli.py build shop/ archive/ --out catalogue --model vit_base_patch16_224 --labels-from-folders
      python cli.py build ~/Pictures --out catalogue --exclude '*_thumb.jpg' --exclude drafts
      python cli.py build products.csv --out catalogue --picture-column photo_url --key-column sku
      python cli.py build shards/*.tar s3://bucket/photos --out catalogue
      find ~/Pictures -name '*.heic' | python cli.py build - --out catalogue
      python cli.py build ~/Pictures --out catalogue --model resnet50.tv_in1k --weights resnet50.safetensors
      python cli.py build ~/Pictures --out catalogue --model open_clip:ViT-B-16-SigLIP.webli
    """
    begun = time.perf_counter()
    settings = checked_settings()
    out = out.resolve()  # a link to a catalogue stays a link
    check_place(out, overwrite=overwrite)
    found = look_through(settings, **sources)
    limits = Limits(bytes=settings.max_bytes, pixels=settings.max_pixels)
    samples = SourceSamples(found, limits)
    partial = out.with_name(f"{out.name}.partial")
    with ExitStack() as stack:
        with stderr.status(f"exporting {escape(model)}, and holding it to its reference"):
            extractor = stack.enter_context(
                build_extractor(
                    model,
                    weights,
                    samples,
                    precision=precision,
                    normalized=METRICS[metric].normalized,
                    pad=fit == "pad",
                    engine=settings.engine,
                    threads=settings.threads,
                    boxes=WINDOWS if regions else (),
                    begun=partial / "extractor",
                )
            )
        stderr.print(f"{extractor.card.model} in {extractor.card.precision}: {extractor.card.fidelity}")
        if extractor.wordless:
            stderr.print(f"it cannot be searched by words: {escaped(extractor.wordless)}")
        try:
            with Bars(stderr) as bars:
                report = build_catalogue(
                    found,
                    out,
                    extractor,
                    metric=metric,
                    limits=limits,
                    labels=labels_from_folders,
                    originals=keep_originals,
                    overwrite=overwrite,
                    batch=settings.max_batch,
                    progress=bars.show,
                )
        except KeyboardInterrupt:
            stderr.print(
                f"stopped; what is done is kept in {escaped(partial)}: run the same command again to go on"
                if partial.exists()
                else f"stopped; {escaped(out)} is whole but for its match model: compact adds it"
            )
            raise click.exceptions.Exit(130) from None
    _print_report(report, extractor.card, out, time.perf_counter() - begun, as_json)


def _print_report(report: BuildReport, card: ExtractorCard, out: Path, seconds: float, as_json: bool) -> None:
    print_skipped(report.skipped, out / "report.json")
    if as_json:
        measured = {"precision": card.precision, "fidelity": card.fidelity and asdict(card.fidelity)}
        print_json(json.dumps({"catalogue": str(out), **asdict(report), **measured}, ensure_ascii=False))
        return
    parts = [f"{report.added + report.kept + report.reused} pictures in {escaped(out)}"]
    if report.kept:
        parts.append(f"{report.kept} of them from the build that was broken off")
    if report.reused:
        parts.append(f"{report.reused} of them unchanged since the last build")
    parts.append(f"{len(report.skipped)} skipped")
    if report.others:
        parts.append(f"{len(report.others)} files passed over that are no pictures")
    if report.left_out:
        parts.append(f"{len(report.left_out)} files and folders left out as junk or by --exclude")
    parts.append(f"{seconds:.1f} s")
    click.echo("; ".join(parts))


def print_skipped(skipped: list[dict[str, str]], report: Path | None = None) -> None:
    """Name the first few files that were skipped and where all of them are, or all of them where that is nowhere."""
    for skip in skipped[:SHOWN_SKIPS] if report else skipped:
        place = f" ({skip['place']})" if "place" in skip else ""
        stderr.print(f"skipped {escaped(skip['key'] + place)}: {escaped(skip['reason'])}")
    if report and (more := len(skipped) - SHOWN_SKIPS) > 0:
        stderr.print(f"… and {more} more; all of them are in {escaped(report)}")
