"""The demo page as an ASGI app that imports Gradio at its first request: it takes seconds, and many a service has no need."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from demo.interface import PageParts


class LazyPage:
    """An ASGI app that imports Gradio and builds the page at its first request.

    Uploads lie in ``folder``, which is the service's alone: any of its workers may answer the next request.
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
        if self._parts is None:
            await PlainTextResponse("The catalogue cannot be searched; /readyz says why.\n", 503)(scope, receive, send)
            return
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

    from demo.gradio_patches import (
        accept_uploads_only,
        disable_downloads,
        disable_tracebacks,
        start_no_queue,
        use_root_path,
    )
    from demo.page import CSS, THEME, build_page

    disable_downloads()
    disable_tracebacks()
    use_root_path()
    page = build_page(parts)
    app = gradio.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        path=path,
        max_file_size=parts.max_bytes,
        theme=THEME,
        css=CSS,
        footer_links=[],
        show_error=True,
        ssr_mode=False,
    )
    accept_uploads_only(page)
    start_no_queue(page)
    return app
