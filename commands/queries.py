"""What the verb search searches by: files, items, and the examples that --positive and --negative name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click

from model import ImageError, Limits, Region, UnreadableImage, read_file
from search import MOST_WEIGHT, CombinedQuery, Example, ItemQuery, PictureQuery, QueryInput, Term, TextQuery

EXAMPLE = re.compile(r"(?:(?P<kind>id|text):)?(?P<what>.*?)(?:\^(?P<weight>\d+(?:\.\d*)?|\.\d+))?", re.DOTALL)


class RegionType(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.4
    """A box in a picture: x,y,width,height, in shares of the picture's width and height."""

    name = "x,y,width,height"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Region:
        """Return the box; fails for one that is none."""
        if isinstance(value, Region):
            return value
        try:
            x, y, width, height = map(float, str(value).split(","))
            return Region(x, y, width, height)
        except ValueError as error:
            reason = str(error) if "region" in str(error) else "write four shares, such as 0.5,0.5,0.25,0.25"
            self.fail(reason, param, ctx)


def read_picture_query(path: Path, limits: Limits, region: Region | None = None) -> Term:
    """Return a picture file as a query, or what is wrong with it."""
    try:
        return PictureQuery(read_file(path, limits)[0], region)
    except ImageError as error:
        return error
    except OSError as error:
        return UnreadableImage(f"the file cannot be read ({error.strerror})")


def read_example(text: str, limits: Limits) -> Example:
    """Return what an example names: a file, id:N or text:WORDS, with ^WEIGHT after it or not. Raises click.BadParameter."""
    found = EXAMPLE.fullmatch(text)
    assert found
    weight, what = float(found["weight"] or 1), found["what"]
    if not 0 < weight <= MOST_WEIGHT:
        raise click.BadParameter(f"{text}: a weight is above 0 and at most {MOST_WEIGHT}")
    if found["kind"] is None:
        return Example(read_picture_query(Path(what).expanduser(), limits), weight)
    if found["kind"] == "text":
        return Example(TextQuery(what), weight)
    if not re.fullmatch(r"\d{1,18}", what):
        raise click.BadParameter(f"{text}: an item's id is a number, as in id:7")
    return Example(ItemQuery(int(what)), weight)


def combine_each(
    own: Sequence[Term], positive: Sequence[Example], negative: Sequence[Example], mode: Literal["mean", "best"]
) -> list[QueryInput]:
    """Return a query for each thing that is searched by, with the further examples; or one by these alone."""
    if not positive and not negative:
        return list(own)
    firsts: list[tuple[Example, ...]] = [(Example(term),) for term in own] or [()]
    return [CombinedQuery((*first, *positive), tuple(negative), mode) for first in firsts]
