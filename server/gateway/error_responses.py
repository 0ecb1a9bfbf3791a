"""ASGI middleware: every error that leaves has a typed JSON body."""

from __future__ import annotations

import logging

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.errors import (
    BAD_REQUEST,
    NO_ROUTE,
    NOT_READY,
    UNEXPECTED,
    WRONG_METHOD,
    RequestError,
    error_answer,
    error_headers,
    status_of,
)
from server.api.routes import DEMO
from server.gateway.demo_access import EVENTS
from server.telemetry import RequestContext, current_request
from server.telemetry.metrics import ERRORS

log = logging.getLogger("bentoml.access")

KEPT_TEXT = 1000  # bytes of an untyped error that are kept for its message


class ErrorResponses:
    """Answers what was raised with its typed body, and puts one in the place of an error response that has none.

    Errors of the page stay as they are, since its own script reads them, but for those that no script of it causes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = current_request()
        started = ended = False
        untyped: Message | None = None  # the start of an error response that is replaced
        text = b""

        async def send_typed(message: Message) -> None:
            nonlocal started, ended, untyped, text
            if message["type"] == "http.response.start" and _is_untyped_error(scope, request, message["status"]):
                untyped = message
                return
            if message["type"] == "http.response.body" and untyped is not None:
                text = (text + message.get("body", b""))[:KEPT_TEXT]
                if not message.get("more_body"):
                    start = untyped
                    allow = Headers(raw=start["headers"]).get("allow", "")
                    await respond(_name_error(scope, request, start["status"], text), {"Allow": allow} if allow else {})
                return
            started = True
            ended = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        async def respond(error: Exception, headers: dict[str, str] | None = None) -> None:
            nonlocal untyped
            untyped = None  # whose body may never have come
            answer = error_answer(error)
            request.code = answer.error.code
            ERRORS.labels(answer.error.code).inc()
            headers = error_headers(error) | (headers or {})
            response = Response(answer.model_dump_json(), status_of(answer), headers, "application/json")
            await response(scope, receive, send_typed)

        try:
            await self._app(scope, receive, send_typed)
        except Exception as error:
            if not isinstance(error, RequestError):
                error = _unexpected(request, error)
            if not started:
                await respond(error)
            elif not ended:
                raise


def _is_untyped_error(scope: Scope, request: RequestContext, status: int) -> bool:
    """Return whether a response is an error that was not made here."""
    if request.code is not None:
        return False
    if request.route == DEMO.path:
        # Gradio answers 500 to events that no script of the page sends.
        return request.error is not None or (status == 500 and scope["path"].startswith(EVENTS))
    return status >= 400


def _name_error(scope: Scope, request: RequestContext, status: int, text: bytes) -> Exception:
    """Return the named error for a response that has none."""
    if request.error:
        return request.error
    if request.route == DEMO.path:  # its handlers have their own errors, so that this is the caller's
        return RequestError(BAD_REQUEST, "this is not what the page sends")
    if status == 405:
        return RequestError(WRONG_METHOD, f"this route does not take {scope['method'][:20]}")
    if status == 404:
        return RequestError(NO_ROUTE, "there is no such route")
    if 400 <= status < 500:
        return RequestError(BAD_REQUEST, "this is no request that can be read")
    if status == 503:
        return RequestError(NOT_READY, text.decode("utf-8", "replace").strip() or "the service is not ready")
    return RequestError(UNEXPECTED, "")


def _unexpected(request: RequestContext, error: Exception) -> Exception:
    """Log an error that has no name; in the page it is the caller's, and its text may quote what was sent."""
    if request.route == DEMO.path:
        log.warning("an event of the page ended in %s", type(error).__name__)
        return RequestError(BAD_REQUEST, "this is not what the page sends")
    log.exception("a request ended in an error")
    return error
