"""ASGI middleware: request ids, metrics and the access log."""

from __future__ import annotations

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.routes import HEALTH
from server.telemetry import RequestContext, begin_request
from server.telemetry.metrics import REQUEST_ITEMS, REQUEST_SECONDS, REQUESTS

log = logging.getLogger("bentoml.access")

REQUEST_ID = re.compile(r"[\w.:/+=-]{1,64}", re.ASCII)
UNKNOWN_ROUTE = "none"
QUIET = frozenset(route.path for route in HEALTH)  # answered well, they are no line in the log


class RequestLog:
    """Gives each request its id and context, counts it in the metrics, and writes its line in the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope).get("x-request-id", "")
        request = RequestContext(given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex, UNKNOWN_ROUTE)
        begin_request(request)
        begun, status = time.perf_counter(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request.request_id
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            self._log_request(scope["method"], request, status, (time.perf_counter() - begun) * 1000)

    @staticmethod
    def _log_request(method: str, request: RequestContext, status: int, milliseconds: float) -> None:
        REQUESTS.labels(request.route, status).inc()
        REQUEST_SECONDS.labels(request.route).observe(milliseconds / 1000)
        if request.items:
            REQUEST_ITEMS.labels(request.route).inc(request.items)
        if request.route in QUIET and status == 200:
            return
        facts = {
            "route": request.route,
            "status": status,
            "milliseconds": round(milliseconds, 3),
            "items": request.items or None,
            "key": request.key,
            "code": request.code,
        }
        line = "%s %s %d %.1f ms" + (f" {request.code}" if request.code else "") + " (request %s)"
        log.info(line, method, request.route, status, milliseconds, request.request_id, extra=facts)
