"""The verb duplicates: list a catalogue's duplicates with what to keep, and act on a plan of them."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import click

from commands.console import UserPath, escaped, folder_argument, json_option, print_json, stderr
from commands.progress import Bars
from commands.report import write_html
from copies import (
    KINDS,
    PAIRS,
    SURE,
    Action,
    DuplicateFinder,
    Group,
    Kind,
    PathRules,
    PlanError,
    Wanted,
    apply_plan,
    make_plan,
    undo_plan,
    write_plan,
)
from index import Catalogue, LiveWriter, open_catalogue, parse_filter
from server.api.duplicate_schemas import group_body

COLUMNS = (
    "group",
    "keep",
    "key",
    "kind",
    "match",
    "score",
    "width",
    "height",
    "bytes",
    "format",
    "captured_at",
    "reason",
)


@click.command()
@folder_argument
@click.option(
    "--kind", "kinds", type=click.Choice(KINDS), multiple=True, help="Kinds of duplicates (default: the first three)."
)
@click.option(
    "--min-match",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="The least probability of an altered copy.",
)
@click.option(
    "--within",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Seconds between pictures of the same moment.",
)
@click.option(
    "--alike",
    type=click.FloatRange(0.8, 1),
    default=0.9,
    show_default=True,
    help="The least cosine of pictures that are alike.",
)
@click.option("--where", metavar="JSON", help="Only among the items that a filter allows.")
@click.option("--prefer", metavar="GLOB", multiple=True, help="Keep pictures with such keys before others.")
@click.option(
    "--avoid", metavar="GLOB", multiple=True, help="Keep pictures with such keys only where there is no other."
)
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print a table as CSV on stdout, a line for each picture.")
@click.option("--html", type=UserPath(), help="Write a page of the groups with thumbnails to this file.")
@click.option(
    "--plan",
    type=UserPath(),
    help="Write a plan of what to do with the duplicates' files, or the plan to apply or undo.",
)
@click.option(
    "--apply", "action", type=click.Choice(["move", "link", "delete"]), help="Apply the --plan that was written before."
)
@click.option("--to", type=UserPath(), help="The folder that --apply moves duplicates to.")
@click.option("--pairs", type=UserPath(), hidden=True, help="Where pairs are kept.")
@click.option("--undo", is_flag=True, help="Undo what was applied of the --plan.")
def duplicates(
    folder: Path,
    kinds: tuple[Kind, ...],
    where: str | None,
    as_json: bool,
    as_csv: bool,
    html: Path | None,
    plan: Path | None,
    action: Action | None,
    to: Path | None,
    pairs: Path | None,
    undo: bool,
    **wanted: Any,
) -> None:
    """Find the duplicates in a catalogue, in groups, and say which picture of each to keep and why.

    \b
    Kinds, the surest first:
      identical     the same bytes
      same_pixels   the same picture in another file
      altered_copy  a copy that was cropped, scaled, recompressed, turned, ...: --min-match
      same_moment   alike, and captured --within seconds of each other
      alike         a cosine of at least --alike

    Pictures are compared once; what was added since the last time is compared with all. Stop it with Ctrl-C and run the
    same command again: it goes on where it was.

    Files are touched only by a plan that was written before. --apply moves each duplicate to the folder --to, unless it or
    the picture that is kept has changed meanwhile, and takes it out of the catalogue; link puts a hard link to the picture
    that is kept in its place. delete is a move to PLAN.trash, to be removed by hand. --undo puts the files back.

    \b
    Examples:
      python cli.py duplicates catalogue
      python cli.py duplicates catalogue --kind same_moment --within 5 --json
      python cli.py duplicates catalogue --avoid 'backup/*' --html duplicates.html
      python cli.py duplicates catalogue --plan plan.json
      python cli.py duplicates catalogue --plan plan.json --apply move --to ~/duplicates
      python cli.py duplicates catalogue --plan plan.json --undo
    """
    if undo or action:
        if plan is None or (undo and action):
            raise click.UsageError("give --plan FILE, and either --apply or --undo")
        if action in ("move", "link") and to is None:
            raise click.UsageError(f"--apply {action} needs --to DIR")
        _undo(folder, plan, as_json) if undo else _apply(folder, plan, action, to, as_json)  # type: ignore[arg-type]
        return
    paths = PathRules(wanted["prefer"], wanted["avoid"])
    asked = Wanted(kinds or SURE, wanted["min_match"], wanted["within"], wanted["alike"], paths)
    with closing(open_catalogue(folder)) as catalogue, _pairs_place(folder, pairs) as place:
        with closing(DuplicateFinder(catalogue, place)) as finder:
            with Bars(stderr) as bars:
                finder.update(bars.show)
            groups = finder.groups(asked, None if where is None else parse_filter(where))
        if html:
            write_html(html, groups, catalogue)
        if plan:
            steps, without = make_plan(groups, catalogue.signatures.sources(_ids(groups)))
            write_plan(plan, steps)
            stderr.print(
                f"{len(steps)} files in the plan {escaped(plan)}"
                + f"; {without} without a file that is there" * bool(without)
            )
        _print(groups, catalogue, as_json=as_json, as_csv=as_csv)


@contextmanager
def _pairs_place(folder: Path, pairs: Path | None) -> Iterator[Path]:
    """Give the place of the pairs: in the catalogue's folder, or where that cannot be written one that is forgotten."""
    if pairs or os.access(folder, os.W_OK):
        yield pairs or folder / PAIRS
        return
    stderr.print(f"{escaped(folder)} cannot be written, so what is compared now is not kept")
    with tempfile.TemporaryDirectory(prefix="bentolens-") as temporary:
        yield Path(temporary) / PAIRS


def _ids(groups: Sequence[Group]) -> list[int]:
    return [one for group in groups for one in (group.keep.id, *(member.picture.id for member in group.members))]


def _print(groups: Sequence[Group], catalogue: Catalogue, *, as_json: bool, as_csv: bool) -> None:
    if as_json:
        bodies = [group_body(one).model_dump() for one in groups]
        print_json(json.dumps({"groups": bodies, "total": len(groups), "items": len(catalogue)}, ensure_ascii=False))
        return
    if as_csv:
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(COLUMNS)
        table.writerows(row for number, group in enumerate(groups, 1) for row in _rows(number, group))
        click.echo(text.getvalue(), nl=False)
        return
    for group in groups:
        click.echo(f"keep\t{escaped(group.keep.key)}\t{escaped(group.reason)}")
        for member in group.members:
            one, relation = member.picture, member.relation
            click.echo(f"{relation.kind}\t{escaped(one.key)}\t{_size(one.size, one.bytes)}\tmatch {relation.match:.3f}")
    kinds = Counter(member.relation.kind for group in groups for member in group.members)
    told = ", ".join(f"{kinds[kind]} {kind}" for kind in KINDS if kinds[kind])
    click.echo(
        f"{_count(sum(kinds.values()), 'duplicate')} in {_count(len(groups), 'group')}{f': {told}' if told else ''}"
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _rows(number: int, group: Group) -> Iterator[tuple[Any, ...]]:
    for is_kept, one, relation in [(True, group.keep, None), *((False, m.picture, m.relation) for m in group.members)]:
        facts = (one.size[0], one.size[1], one.bytes, one.format, one.captured_at)
        of = (relation.kind, relation.match, relation.cosine) if relation else ("", "", "")
        yield number, "keep" if is_kept else "", one.key, *of, *facts, group.reason if is_kept else ""


def _size(size: tuple[int, int], count: int) -> str:
    return f"{size[0]} × {size[1]}" + f", {count:,} bytes" * bool(count)


def _apply(folder: Path, plan: Path, action: Action, to: Path | None, as_json: bool) -> None:
    held = to.resolve() if to else plan.with_name(f"{plan.name}.trash").resolve()
    done, failed = [], []
    with closing(LiveWriter(folder)) as writer:
        for step, reason in apply_plan(plan, action, held):
            if reason:
                failed.append({"file": step.file, "reason": reason})
                stderr.print(f"left alone: {escaped(step.file)}: {escaped(reason)}")
                continue
            done.append(step.file)
            if action != "link":
                writer.remove([step.id])
    if as_json:
        print_json(json.dumps({"applied": done, "left_alone": failed, "held": str(held)}, ensure_ascii=False))
    else:
        click.echo(f"{len(done)} files moved to {escaped(held)}; {len(failed)} left alone")
    if failed:
        raise click.exceptions.Exit(1)


def _undo(folder: Path, plan: Path, as_json: bool) -> None:
    found = list(undo_plan(plan))
    failed = [{"file": one.file, "reason": reason} for one, reason in found if reason]
    for one in failed:
        stderr.print(f"not put back: {escaped(one['file'])}: {escaped(one['reason'])}")
    if as_json:
        print_json(json.dumps({"put_back": len(found) - len(failed), "failed": failed}, ensure_ascii=False))
    else:
        click.echo(
            f"{len(found) - len(failed)} files put back; add their folder to have them in {escaped(folder)} again"
        )
    if failed:
        raise PlanError(f"{len(failed)} files could not be put back")
