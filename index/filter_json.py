"""A filter as JSON has it: parsed without losing anything, and the fields that it names."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from typing import Any

from index.errors import InvalidFilter


def parse_filter(text: str) -> object:
    """Parse a filter's JSON text. Raises InvalidFilter when it is not JSON, or names a field twice in one object."""
    try:
        return json.loads(text, object_pairs_hook=refuse_repeats)
    except RecursionError:
        raise InvalidFilter("where: the filter is nested too deeply") from None
    except ValueError as error:
        raise InvalidFilter(f"where: this is not JSON ({error})") from None


def refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that is there twice (ValueError): an ``object_pairs_hook`` for json.loads that loses nothing."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} is there twice in one object")
        found[name] = value
    return found


def field_names(where: object) -> Iterator[str]:
    """Yield the names of the metadata's fields that a filter asks of, in NFC; not those of fields inside them."""
    if isinstance(where, dict):
        for name, asked in where.items():
            if not name.startswith("$"):
                yield unicodedata.normalize("NFC", name)
            elif name == "$near":
                yield from (one for one in field_names(asked) if one != "km")
            elif isinstance(asked, list):
                for one in asked:
                    yield from field_names(one)
            else:
                yield from field_names(asked)
