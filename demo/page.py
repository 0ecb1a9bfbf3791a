"""The page itself. It keeps no state in the server, so any of several worker processes can answer any click."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from demo.parts import PageAnswer, PageParts, PageRefusal

# System fonts: the page loads nothing from anywhere else.
THEME = gr.themes.Default(
    primary_hue="teal",
    neutral_hue="slate",
    radius_size="md",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
)
CSS = """
.gradio-container { max-width: 1280px !important; margin: 0 auto; }
#about { color: var(--body-text-color-subdued); }
#note { min-height: 1.6em; color: var(--body-text-color-subdued); }
#hits .grid-wrap { max-height: none; }
"""


def _as_sent(payload: Any) -> str | None:
    """Hand on the uploaded file untouched: reading it is the search's part, and so are its errors."""
    return payload.path if payload is not None else None


def build_page(parts: PageParts) -> gr.Blocks:
    """The page over what it is handed: upload, paste or webcam on one side, the neighbours on the other."""

    async def by_picture(path: str | None, k: float) -> tuple[Any, ...]:
        if path is None:
            return [], "[]", ""
        return await _shown(parts.search(Path(path).read_bytes(), int(k)), "your picture")

    async def by_click(ids: str, names: gr.SelectData, k: float) -> tuple[Any, ...]:
        item_id, name = json.loads(ids)[names.index]
        return await _shown(parts.more_like(item_id, int(k)), name)

    with gr.Blocks(title="BentoLens", analytics_enabled=False) as page:
        gr.Markdown("# BentoLens\nFind the pictures that look like yours.")
        gr.Markdown(parts.about, elem_id="about")
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                picture = gr.Image(
                    label="Query", sources=["upload", "clipboard", "webcam"], type="filepath", height=320, buttons=[]
                )
                picture.preprocess = _as_sent
                k = gr.Slider(1, parts.max_k, value=min(parts.k, parts.max_k), step=1, label="How many (k)")
                go = gr.Button("Search", variant="primary")
            with gr.Column(scale=3, min_width=320):
                note = gr.Markdown("Upload, paste or photograph a picture to begin.", elem_id="note")
                hits = gr.Gallery(
                    label="Neighbours, nearest first: click one to search with it",
                    columns=4,
                    height="auto",
                    object_fit="contain",
                    allow_preview=False,
                    format="jpeg",
                    buttons=[],
                    interactive=False,
                    elem_id="hits",
                )
        shown = gr.Textbox("[]", visible=False)  # ids and names of the hits, kept in the browser
        # Without the queue each event is one plain request, so it does not matter which worker it reaches.
        plain: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "minimal"}
        gr.on([picture.input, go.click], by_picture, [picture, k], [hits, shown, note], **plain)
        hits.select(by_click, [shown, k], [hits, shown, note], **plain)
    return page


async def _shown(asked: Any, what: str) -> tuple[list[tuple[Image.Image, str]], str, str]:
    try:
        answer: PageAnswer = await asked
    except PageRefusal as refusal:
        raise gr.Error(str(refusal), duration=8, print_exception=False) from None
    pictures: list[tuple[Image.Image, str]] = [
        (Image.open(BytesIO(hit.thumbnail)), f"{hit.score:.3f}  {hit.name}") for hit in answer.hits
    ]
    kept = json.dumps([(hit.id, hit.name) for hit in answer.hits])
    steps = ", ".join(f"{step} {ms:.1f} ms" for step, ms in answer.timings_ms.items())
    return pictures, kept, f"**{len(pictures)}** nearest to **{what}** ({steps})"
