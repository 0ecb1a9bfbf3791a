"""The shell door of BentoLens: python cli.py VERB …"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import click
import numpy as np
from rich.markup import escape

from commands.console import Verbs, check_port, folder_argument, greeting, json_option, stderr, tell_skipped
from commands.pack import pack_catalogue
from commands.progress import Bars
from index import IndexFault, check_place, parse_filter, verify_catalogue
from ingest.pipeline import BuildReport, build_catalogue
from ingest.sources import SourceSamples, find_sources
from model import (
    ExtractorCard,
    ImageFault,
    Limits,
    ModelFault,
    UnreadableImage,
    build_extractor,
    open_proved,
    read_file,
)
from search.engine import Query, fill_in, milliseconds_since, open_pair, search_answer, to_pixels
from server.api.errors import ErrorAnswer
from settings import Settings, read_settings


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Reverse image search over your own pictures.

    Results go to stdout, everything else to stderr. Exit codes: 0 good, 1 an error (one line), 2 wrong usage, 130 Ctrl-C.
    """


@cli.command()
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The catalogue folder to make.")
@click.option("--model", default="resnet50.tv_in1k", show_default=True, help="Any timm model.")
@click.option("--weights", type=click.Path(path_type=Path), help="Weights from a file (.pth or .safetensors).")
@click.option(
    "--precision",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "f32", "bf16", "int8"]),
    help="What the network computes in; auto is bf16 where the CPU has it and it stays true, else f32.",
)
@click.option("--labels-from-folders", is_flag=True, help="Keep the name of each picture's folder as its label.")
@click.option("--overwrite", is_flag=True, help="Replace the catalogue at --out, once the new one is whole.")
@json_option
def build(
    sources: tuple[Path, ...],
    out: Path,
    model: str,
    weights: Path | None,
    precision: Literal["auto", "f32", "bf16", "int8"],
    labels_from_folders: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Make a catalogue of the pictures in folders (and all folders below them) or single files.

    Files that cannot be read are skipped and listed. Stop it with Ctrl-C and run the same command again: it goes on
    where it was.

    \b
    Examples:
      python cli.py build ~/Pictures --out catalogue
      python cli.py build shop/ archive/ --out catalogue --model vit_base_patch16_224 --labels-from-folders
      python cli.py build ~/Pictures --out catalogue --model resnet50.tv_in1k --weights resnet50.safetensors
    """
    begun = time.perf_counter()
    settings = read_settings()
    out = out.expanduser().resolve()  # a link to a catalogue stays a link
    weights = weights.expanduser() if weights else None
    check_place(out, overwrite=overwrite)
    found = find_sources([source.expanduser() for source in sources])
    samples = SourceSamples(found, _limits(settings))
    partial = out.with_name(f"{out.name}.partial")
    with ExitStack() as stack:
        with stderr.status(f"exporting {escape(model)}, and holding it to its reference"):
            extractor = stack.enter_context(
                build_extractor(
                    model,
                    weights,
                    samples,
                    precision=precision,
                    engine=settings.engine,
                    threads=settings.threads,
                    begun=partial / "extractor",
                )
            )
        stderr.print(f"{model} in {extractor.card.precision}: {extractor.card.fidelity}")
        try:
            with Bars(stderr) as bars:
                report = build_catalogue(
                    found,
                    out,
                    extractor,
                    limits=_limits(settings),
                    labels=labels_from_folders,
                    overwrite=overwrite,
                    batch=settings.max_batch,
                    progress=bars.show,
                )
        except KeyboardInterrupt:
            stderr.print(f"stopped; what is done is kept in {partial}: run the same command again to go on")
            raise click.exceptions.Exit(130) from None
    _tell(report, extractor.card, out, time.perf_counter() - begun, as_json)


def _limits(settings: Settings) -> Limits:
    return Limits(bytes=settings.max_bytes, pixels=settings.max_pixels)


def _tell(report: BuildReport, card: ExtractorCard, out: Path, seconds: float, as_json: bool) -> None:
    tell_skipped(report.skipped, out / "report.json")
    if as_json:
        measured = {"precision": card.precision, "fidelity": card.fidelity and asdict(card.fidelity)}
        click.echo(json.dumps({"catalogue": str(out), **asdict(report), **measured}, ensure_ascii=False))
        return
    parts = [f"{report.added + report.kept} pictures in {out}"]
    if report.kept:
        parts.append(f"{report.kept} of them from the build that was broken off")
    parts.append(f"{len(report.skipped)} skipped")
    if report.others:
        parts.append(f"{len(report.others)} files passed over that are no pictures by their names")
    parts.append(f"{seconds:.1f} s")
    click.echo("; ".join(parts))


@cli.command()
@folder_argument
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
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
    settings = read_settings()
    catalogue, card = open_pair(folder)
    with closing(catalogue):
        begun = time.perf_counter()
        asked = None if where is None else parse_filter(where)
        allowed = None if asked is None else catalogue.allow(asked)
        timings = {} if asked is None else {"filter": milliseconds_since(begun)}
        begun = time.perf_counter()
        pixels = [_read(image, card, _limits(settings)) for image in images]
        timings["decode"] = milliseconds_since(begun)
        begun = time.perf_counter()
        readable = [one for one in pixels if not isinstance(one, ImageFault)]
        vectors: Iterable[np.ndarray] = (
            open_proved(catalogue.extractor_folder, settings.engine, settings.threads).embed(np.stack(readable))
            if readable
            else ()
        )
        queries = fill_in(pixels, [Query(vector, len(readable)) for vector in vectors])
        timings["embed"] = milliseconds_since(begun)
        answer = search_answer(catalogue, queries, k or settings.k, settings.ef, timings, allowed)
    if as_json:
        click.echo(answer.model_dump_json())
    failed = False
    for image, result in zip(images, answer.results, strict=True):
        if isinstance(result, ErrorAnswer):
            failed = True
            stderr.print(f"error: {image}: {result.error.message}")
        elif not as_json:
            for hit in result.hits:
                click.echo(
                    f"{hit.score:.4f}\t{hit.key}" if len(images) == 1 else f"{image}\t{hit.score:.4f}\t{hit.key}"
                )
    if failed:
        raise click.exceptions.Exit(1)


def _read(image: Path, card: ExtractorCard, limits: Limits) -> np.ndarray | ImageFault:
    try:
        return to_pixels(read_file(image, limits)[0], card.preprocessing, limits)
    except ImageFault as fault:
        return fault
    except OSError as error:
        return UnreadableImage(f"the file cannot be read ({error.strerror})")


@cli.command()
@folder_argument
@json_option
def info(folder: Path, as_json: bool) -> None:
    """Say what a catalogue holds and what it was made with.

    \b
    Example:
      python cli.py info catalogue
    """
    catalogue, card = open_pair(folder)
    with closing(catalogue):
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        about = {name: getattr(card, name) for name in ("precision", "kept_in_f32")}
        facts = {**asdict(catalogue.info), "bytes": size, **about}
        facts |= {"fidelity": card.fidelity and asdict(card.fidelity), "preprocessing": asdict(card.preprocessing)}
    if as_json:
        click.echo(json.dumps(facts))
        return
    facts |= {"files": ", ".join(catalogue.info.files), "fidelity": card.fidelity}
    for name, value in facts.items():
        click.echo(f"{name:<16} {value}")


@cli.command()
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
            open_pair(folder)[0].close()  # what remains: that the catalogue and its extractor belong together
        except (IndexFault, ModelFault) as fault:
            faults.append(str(fault))
    if as_json:
        click.echo(json.dumps({"catalogue": str(folder), "faults": faults}, ensure_ascii=False))
    elif faults:
        click.echo("\n".join(faults))
    else:
        click.echo(f"{folder} is sound")
    if faults:
        raise click.exceptions.Exit(1)


@cli.command()
@folder_argument
@json_option
def pack(folder: Path, as_json: bool) -> None:
    """Put a catalogue into BentoML's model store, ready for: bentoml build.

    \b
    Example:
      python cli.py pack catalogue && bentoml build
    """
    catalogue, _ = open_pair(folder)
    with closing(catalogue):
        tag = pack_catalogue(catalogue)
    click.echo(json.dumps({"tag": tag}) if as_json else tag)


@cli.command()
@folder_argument
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 is for other machines, which need a key.")
def serve(folder: Path, port: int, host: str) -> None:
    """Serve a catalogue: the HTTP API, and the page at /demo. Ctrl-C ends it.

    Checks the settings, the catalogue and the port, then becomes: LENS_CATALOGUE=DIR bentoml serve service:ImageSearch

    \b
    Examples:
      python cli.py serve catalogue
      python cli.py serve catalogue --port 8080 --host 0.0.0.0
    """
    settings = read_settings()
    open_pair(folder)[0].close()
    check_port(host, port)
    stderr.print(greeting(host, port, settings))
    environment = os.environ | {"LENS_CATALOGUE": str(folder.resolve()), "BENTOML_DO_NOT_TRACK": "True"}
    command = ["-m", "bentoml", "serve", "service:ImageSearch", "--working-dir", str(Path(__file__).resolve().parent)]
    os.execve(sys.executable, [sys.executable, *command, "--host", host, "--port", str(port)], environment)


if __name__ == "__main__":
    cli()
