"""A page of duplicates, one file that needs no other: each group with thumbnails, sizes, dates, and which to keep."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from copies import Group, Picture
from index import Catalogue

HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Duplicates</title><style>
:root { color-scheme: light dark; font-family: system-ui, sans-serif; line-height: 1.4 }
body { margin: 1rem auto; max-width: 76rem; padding: 0 1rem }
section { border-top: 1px solid #8888; padding: 1rem 0 }
.row { display: flex; flex-wrap: wrap; gap: 1rem }
figure { margin: 0; width: 11rem; font-size: .85rem; overflow-wrap: anywhere }
img { width: 100%; height: 8rem; object-fit: contain; background: #8882; border-radius: .4rem }
.keep img { outline: 3px solid #2a7 }
.kind { font-weight: 600 } .dim { opacity: .7 }
</style></head><body>
"""


def write_html(path: Path, groups: Sequence[Group], catalogue: Catalogue) -> None:
    """Write the page. Raises OSError."""
    with path.open("w", encoding="utf-8") as file:
        file.write(HEAD)
        count = sum(len(one.members) for one in groups)
        file.write(f"<h1>{count:,} duplicates in {len(groups):,} groups</h1>\n")
        for number, group in enumerate(groups, 1):
            file.write(f'<section><h2>{number}. {group.kind.replace("_", " ")}</h2><div class="row">\n')
            file.write(_figure(catalogue, group.keep, f"keep: {group.reason}", "keep"))
            for one in group.members:
                kind = f"{one.relation.kind.replace('_', ' ')}, match {one.relation.match:.3f}"
                file.write(_figure(catalogue, one.picture, kind, "other"))
            file.write("</div></section>\n")
        file.write("</body></html>\n")


def _figure(catalogue: Catalogue, one: Picture, what: str, role: str) -> str:
    thumbnail = base64.b64encode(catalogue.thumbnail(one.id) or b"").decode()
    size = (
        f"{one.size[0]} × {one.size[1]}"
        + f", {one.bytes / 1024:,.0f} KB" * bool(one.bytes)
        + f", {one.format}" * bool(one.format)
    )
    return (
        f'<figure class="{role}"><img loading="lazy" alt="{escape(one.key)}" src="data:image/jpeg;base64,{thumbnail}">'
        f'<figcaption><span class="kind">{escape(what)}</span><br>{escape(one.key)}<br>'
        f'<span class="dim">{escape(size)}<br>{escape(one.captured_at)}</span></figcaption></figure>\n'
    )
