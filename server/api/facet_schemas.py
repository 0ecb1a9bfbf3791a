"""The JSON shape of a facet: the values that a field has among some items."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from index import Facet

Value = str | int | float | bool | None


class FacetValue(BaseModel):
    """A value, and how many items have it."""

    value: Value
    count: int


class FacetBody(BaseModel):
    """What a field has: ``count`` items have it, with ``distinct`` values."""

    field: list[str] = Field(description="the names on the way to the field")
    count: int
    distinct: int
    values: list[FacetValue]
    numbers: list[int | float] | None = Field(None, description="the least and the greatest number")
    texts: list[str] | None = Field(None, description="the least and the greatest text, as of dates")


def facet_body(facet: Facet) -> FacetBody:
    """Return a facet in the shape of its answer."""
    values: list[Any] = [FacetValue(value=value, count=count) for value, count in facet.values]
    return FacetBody(
        field=list(facet.path),
        count=facet.count,
        distinct=facet.distinct,
        values=values,
        numbers=None if facet.numbers is None else list(facet.numbers),
        texts=None if facet.texts is None else list(facet.texts),
    )
