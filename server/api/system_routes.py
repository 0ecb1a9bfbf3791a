"""Routes next to BentoML's: the page, and better answers than BentoML's own at /, /docs.json and /metrics."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable
from typing import Any

from bentoml._internal.configuration.containers import BentoMLContainer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from server.api.routes import DEMO, DOCS, METRICS, ROOT


def system_routes(page: ASGIApp | None, docs: Callable[[], dict[str, Any]]) -> Starlette:
    """Return the app of them. It is Starlette's, since BentoML passes requests that it does not know on to one."""
    described = functools.cache(lambda: json.dumps(docs()))

    async def index(request: Request) -> Response:
        """Lead to the page, where BentoML's own would load a tag manager and badges from elsewhere."""
        if page:
            prefix = request.scope.get("root_path")  # without one, a proxy may still have one that it does not tell
            return RedirectResponse(f"{prefix}{DEMO.path}/" if prefix else "demo/")
        return PlainTextResponse("BentoLens. The routes are described at /docs.json.\n")

    async def docs_json(request: Request) -> Response:
        """Every status, example and key, where BentoML's description has three statuses that are never sent."""
        if prefix := request.scope.get("root_path"):
            return JSONResponse({**docs(), "servers": [{"url": prefix}]})
        return Response(described(), media_type="application/json")

    async def metrics(_: Request) -> Response:
        """Return all processes' numbers, which each writes to files that all can read."""
        client = BentoMLContainer.metrics_client.get()
        return Response(await asyncio.to_thread(client.generate_latest), media_type=client.CONTENT_TYPE_LATEST)

    routes: list[Any] = [Route(ROOT.path, index), Route(DOCS.path, docs_json), Route(METRICS.path, metrics)]
    return Starlette(routes=routes + ([Mount(DEMO.path, page)] if page else []))
