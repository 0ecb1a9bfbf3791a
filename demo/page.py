"""The page itself. It keeps no state in the server, so any of several worker processes can answer any click."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder
from PIL import Image

from demo.interface import PageAnswer, PageParts, PageRefusal

# System fonts: the page loads nothing from anywhere else.
THEME = gr.themes.Default(
    primary_hue="teal",
    neutral_hue="slate",
    radius_size="md",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
)
BEGIN = "Upload, paste or photograph a picture to begin."
CSS = """
.gradio-container { width: 100% !important; max-width: 1280px !important; margin: 0 auto; }
.gradio-container main > .wrap, .gradio-container .column { width: 100%; }
#head h1 { margin: 0 0 0.2em; }
#note { min-height: 1.6em; color: var(--body-text-color-subdued); }
#hits .grid-wrap { max-height: none; }
#hits .caption-label { left: 0; right: 0; max-width: 100%; border-radius: 0; }
@media (max-width: 640px) { #hits .grid-container { grid-template-columns: repeat(2, 1fr) !important; } }
"""


def _as_sent(payload: Any) -> str | None:
    """Hand on the uploaded file untouched: reading it is the search's part, and so are its errors.

    The path comes from the browser, so only a file that was uploaded here is taken.
    """
    if payload is None:
        return None
    path = Path(payload.path).resolve()
    if not path.is_relative_to(Path(get_upload_folder()).resolve()) or not path.is_file():
        raise gr.Error("upload a picture first", print_exception=False)
    return str(path)


def build_page(parts: PageParts) -> gr.Blocks:
    """Build the page over what it is handed: upload, paste or webcam on one side, the neighbours on the other."""

    def title() -> str:
        return f"# BentoLens\nFind the pictures that look like yours, among {parts.about()}."

    async def by_picture(path: str | None, k: float) -> tuple[Any, ...]:
        if path is None:
            return [], "[]", BEGIN, ""
        data = await asyncio.to_thread(Path(path).read_bytes)
        return *await _shown(parts.search(data, int(k)), "your picture"), ""

    async def by_item(item: Any, k: float) -> tuple[Any, ...]:
        match item:
            case [int(item_id), str(name)]:
                return *await _shown(parts.more_like(item_id, int(k)), name), json.dumps(item)
        return [], "[]", BEGIN, ""

    async def again(path: str | None, asked: str, k: float) -> tuple[Any, ...]:
        return await by_item(_parsed(asked), k) if asked else await by_picture(path, k)

    async def by_click(kept: str, k: float, clicked: gr.SelectData) -> tuple[Any, ...]:
        items, place = _parsed(kept), clicked.index
        item = items[place] if isinstance(items, list) and isinstance(place, int) and 0 <= place < len(items) else None
        found = await by_item(item, k)
        jpeg = await parts.thumbnail(item[0]) if item and found[0] else None
        return *found, _opened(jpeg) if jpeg else gr.skip()

    # Uploads, and the thumbnails that Gradio writes out to show them, are gone from the disk an hour later.
    with gr.Blocks(title="BentoLens", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        head = gr.Markdown(title(), elem_id="head")
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                picture = gr.Image(
                    label="Query", sources=["upload", "clipboard", "webcam"], type="filepath", height=320, buttons=[]
                )
                picture.preprocess = _as_sent
                k = gr.Slider(1, parts.max_k, value=min(parts.k, parts.max_k), step=1, label="How many (k)")
                go = gr.Button("Search", variant="primary")
            with gr.Column(scale=3, min_width=320):
                note = gr.Markdown(BEGIN, elem_id="note")
                hits = gr.Gallery(
                    label="Neighbours",
                    show_label=False,
                    columns=4,
                    height="auto",
                    object_fit="contain",
                    allow_preview=False,
                    format="jpeg",
                    buttons=[],
                    interactive=False,
                    elem_id="hits",
                )
        # What a click needs is kept in the browser: the ids and names shown, and the item last searched with, if any.
        kept, asked = gr.Textbox("[]", visible=False), gr.Textbox("", visible=False)
        # Without the queue each event is one plain request, so it does not matter which worker it reaches.
        plain: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "minimal"}
        found = [hits, kept, note, asked]
        picture.input(by_picture, [picture, k], found, **plain)
        gr.on([go.click, k.release], again, [picture, asked, k], found, **plain)
        hits.select(by_click, [kept, k], [*found, picture], **plain)
        page.load(title, None, head, **plain)  # the catalogue may have changed since the page was built
    return page


async def _shown(answer: Awaitable[PageAnswer], what: str) -> tuple[Any, str, str]:
    """Return a search's outcome as the gallery, what the browser keeps of it, and the note above it."""
    try:
        found = await answer
    except PageRefusal as refusal:
        return [], "[]", f"**Not searched:** {refusal}."  # gr.Error would say no more than "Error" outside the queue
    pictures = [(_opened(hit.thumbnail), f"{hit.score:.3f}  {PurePosixPath(hit.name).name}") for hit in found.hits]
    kept = json.dumps([(hit.id, hit.name) for hit in found.hits])
    steps = ", ".join(f"{step} {ms:.1f} ms" for step, ms in found.timings_ms.items())
    # As code, since a file's name may be Markdown, and Markdown can make a browser fetch things.
    note = f"**{len(pictures)}** nearest to `{what.replace('`', chr(39))}` ({steps}). Click one to search with it."
    return gr.Gallery(pictures, selected_index=None), kept, note


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _opened(jpeg: bytes) -> Image.Image:
    return Image.open(BytesIO(jpeg))
