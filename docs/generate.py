"""Write the generated parts of the reference pages from the code's tables: python docs/generate.py [--check]

A part stands between two comments, ``<!-- generated: NAME -->`` and ``<!-- end -->``; the rest of a page is written by hand.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click
from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from cli import cli
from index import METRICS, OPERATORS
from model import FORMATS
from server.api.errors import KINDS_BY_STATUS
from server.api.query_requests import MOST_EXAMPLES, ExampleOne, Examples, ShapingFields
from server.api.routes import ROUTES
from settings import PREFIX, Settings

PART = re.compile(r"<!-- generated: (\w+) -->\n.*?<!-- end -->", re.DOTALL)
PAGES = ("api.md", "cli.md", "configuration.md", "filters.md")


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a Markdown table; a bar inside a cell is escaped."""
    lines = [head, ("---",) * len(head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def routes() -> str:
    """Return the table of routes."""
    rows = [(f"`{one.method} {one.path}`", one.scope or "none", one.summary, one.takes, one.gives) for one in ROUTES]
    return table(("route", "scope", "what", "takes", "gives"), rows)


def _fields(*models: type[BaseModel]) -> str:
    rows = [
        (f"`{name}`", one.description or "")
        for model in models
        for name, one in model.model_fields.items()
        if name not in ("where", "positive", "negative", "combine")
    ]
    return table(("field", "what"), rows)


def examples() -> str:
    """Return the table of what an example can be, and of what a query has besides."""
    described = {name: one.description or "" for name, one in Examples.model_fields.items()}
    more = "\n".join(f"| `{name}` | {what}; at most {MOST_EXAMPLES} |" for name, what in list(described.items())[:2])
    return f"{_fields(ExampleOne)}\n{more}\n| `combine` | {described['combine']}: `mean` or `best` |"


def shaping() -> str:
    """Return the table of how an answer can be shaped."""
    return _fields(ShapingFields)


def errors() -> str:
    """Return the table of statuses and error codes, with their hints."""
    rows = [
        (str(int(status)), f"`{kind.code}`", kind.hint)
        for status in sorted(KINDS_BY_STATUS)
        for kind in KINDS_BY_STATUS[status]
    ]
    return table(("status", "code", "hint"), rows)


def formats() -> str:
    """Return the table of image formats."""
    rows = [
        (one.name, " ".join(f"`{suffix}`" for suffix in one.suffixes), ", ".join(one.media_types)) for one in FORMATS
    ]
    return table(("format", "suffixes", "media types"), rows)


def metrics() -> str:
    """Return the table of metrics and what a score means under each."""
    rows = [
        (f"`{name}`", "unit length" if spec.normalized else "as the network gives them", spec.meaning)
        for name, spec in METRICS.items()
    ]
    return table(("`--metric`", "embeddings", "score, higher is closer"), rows)


def operators() -> str:
    """Return the table of filter operators."""
    rows = [
        (
            f"`{one.name}`",
            one.operand,
            one.holds if one.operand in ("filter", "filters") else f"holds where the field {one.holds}",
        )
        for one in OPERATORS
    ]
    return table(("operator", "takes", ""), rows)


def settings() -> str:
    """Return the table of settings."""
    rows = []
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        stated = extra.get("default_text") if isinstance(extra, dict) else None
        default = stated or ("none" if field.default is None else str(field.default).lower())
        rows.append((f"`{PREFIX}{name.upper()}`", str(default), field.description or ""))
    return table(("variable", "default", ""), rows)


def verbs() -> str:
    """Return what each verb's --help prints."""
    parts = []
    for name, verb in cli.commands.items():
        names = cli.context_settings["help_option_names"]  # click keeps them from the first call of a verb in a process
        context = click.Context(
            verb, info_name=f"python cli.py {name}", max_content_width=100, terminal_width=100, help_option_names=names
        )
        parts.append(f"## {name}\n\n```text\n{inspect.cleandoc(verb.get_help(context))}\n```")
    return "\n\n".join(parts)


PARTS: dict[str, Callable[[], str]] = {
    one.__name__: one for one in (routes, examples, shaping, errors, formats, metrics, operators, settings, verbs)
}


def render(page: str) -> str:
    """Return a page's text with its generated parts made anew."""
    return PART.sub(lambda part: f"<!-- generated: {part[1]} -->\n{PARTS[part[1]]()}\n<!-- end -->", page)


def main() -> None:
    """Write the pages, or with --check name those that are stale and exit with 1."""
    stale = []
    for name in PAGES:
        path = ROOT / "docs" / name
        text = path.read_text(encoding="utf-8")
        if (made := render(text)) != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(made, encoding="utf-8")
    if stale and "--check" in sys.argv:
        raise SystemExit(f"stale: {', '.join(stale)}; run: make docs")


if __name__ == "__main__":
    main()
