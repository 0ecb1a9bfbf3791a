"""Serve the page without paying for it at start: Gradio takes seconds to import, and many a service never shows it."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import traceback
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from demo.interface import PageParts

log = logging.getLogger("bentoml.bentolens")


class LazyPage:
    """An ASGI app that imports Gradio and builds the page at its first request.

    What is uploaded lies in ``folder``, which is the service's alone: any of its workers may answer the next request.
    """

    def __init__(self, path: str, folder: Path) -> None:
        self._path = path
        self._folder = folder
        self._parts: PageParts | None = None
        self._app: ASGIApp | None = None
        self._building = asyncio.Lock()
        self._running = AsyncExitStack()  # left open: the page lives as long as the process

    def connect(self, parts: PageParts) -> None:
        """Hand the page what it calls; before the first request."""
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._building:
            if self._app is None:
                self._app = await self._build()
        # A mount has moved its prefix into root_path; Gradio is mounted under the prefix itself and wants it back.
        root = scope.get("root_path", "").removesuffix(self._path)
        await self._app({**scope, "root_path": root}, receive, send)

    async def _build(self) -> ASGIApp:
        assert self._parts is not None, "the page was not connected"
        app = await asyncio.to_thread(_mount, self._path, self._folder, self._parts)
        await self._running.enter_async_context(app.router.lifespan_context(app))
        return app


def _mount(path: str, folder: Path, parts: PageParts) -> Any:
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    folder.mkdir(mode=0o700, exist_ok=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    import gradio
    from fastapi import FastAPI

    from demo.page import CSS, THEME, build_page

    disable_downloads_and_tracebacks()
    page = build_page(parts)
    app = gradio.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        path=path,
        root_path=path,
        max_file_size=parts.max_bytes,
        theme=THEME,
        css=CSS,
        footer_links=[],
        show_error=True,
        ssr_mode=False,
    )
    # Until this is set, as launch() would, Gradio takes any path of this machine that a request names for an upload.
    page.has_launched = True
    return app


def disable_downloads_and_tracebacks() -> None:
    """Keep Gradio from fetching URLs that an event names, and from printing what an event that it cannot read has in it."""
    import gradio.processing_utils
    import gradio.queueing
    import gradio.route_utils
    import gradio.routes
    import gradio.utils

    def refuse(url: str, cache_dir: str) -> str:
        raise ValueError("this page fetches nothing")

    async def refuse_later(url: str, cache_dir: str) -> str:
        return refuse(url, cache_dir)

    for name in ("ssrf_protected_download", "save_url_to_cache", "unsafe_download"):
        setattr(gradio.processing_utils, name, refuse)
    gradio.processing_utils.async_ssrf_protected_download = refuse_later

    def print_exc(*_: Any, **__: Any) -> None:
        kind, _error, trace = sys.exc_info()
        where = "".join(traceback.format_tb(trace)) if trace else ""  # the lines of code, not the error's own text
        log.warning("an event of the page ended in %s", kind.__name__ if kind else "nothing", extra={"trace": where})

    quiet = SimpleNamespace(**vars(traceback) | {"print_exc": print_exc})
    for module in (gradio.queueing, gradio.route_utils, gradio.routes, gradio.utils):
        if hasattr(module, "traceback"):
            module.traceback = quiet
