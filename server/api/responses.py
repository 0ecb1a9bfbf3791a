"""What a route returns, as the response that is sent: JSON, within its time, and each named error with its status."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import bentoml
from pydantic import BaseModel
from starlette.responses import Response

from server.api.errors import TIMED_OUT, ErrorAnswer, RequestError, error_answer, error_headers, status_of
from server.api.route import Route
from server.api.schemas import ListAnswer
from server.runtime.shutdown import cancel_on_shutdown, is_cancelled
from server.telemetry import current_request
from server.telemetry.metrics import ERRORS, STEP_SECONDS

log = logging.getLogger("bentoml.bentolens")

Handler = Callable[..., Awaitable[BaseModel]]


def serve_route(route: Route, seconds: int) -> Callable[[Handler], Any]:
    """Decorate a method of a BentoML service as the handler of a route; it is cancelled after ``seconds``."""

    def decorate(handler: Handler) -> Any:
        respond = json_errors(handler, seconds)
        return bentoml.api(route=route.path, input_spec=route.form, output_spec=route.answer)(respond)

    return decorate


def json_errors(handler: Handler, seconds: int) -> Callable[..., Awaitable[Response]]:
    """Make a handler respond with JSON, errors included, within ``seconds``.

    The fields of its form are not read by BentoML, but by the handler itself.
    """

    @functools.wraps(handler)
    async def respond(service: Any, ctx: bentoml.Context, **unread: Any) -> Response:
        headers: dict[str, str] = {}
        status = 200
        try:
            answer = await _within(seconds, handler(service, ctx))
            sole = answer.sole_error() if isinstance(answer, ListAnswer) else None
            body = json.dumps(sole.model_dump() | answer.model_dump(mode="json")) if sole else answer.model_dump_json()
            status = answer.status if isinstance(answer, ListAnswer) else 200
            _observe(answer)
        except Exception as error:
            sole = error_answer(error)
            body = sole.model_dump_json()
            ERRORS.labels(sole.error.code).inc()
            headers = error_headers(error)
            if status_of(sole) >= 500:
                log.error("%s: %s", sole.error.code, error, exc_info=status_of(sole) == 500)
        current_request().code = sole.error.code if sole else None
        # BentoML gives the response the status of its context, whatever its own is.
        ctx.response.status_code = status_of(sole) if sole else status
        return Response(body, headers=headers, media_type="application/json")

    return respond


async def _within(seconds: int, answer: Awaitable[BaseModel]) -> BaseModel:
    try:
        async with asyncio.timeout(seconds) as limit:
            with cancel_on_shutdown(limit):
                return await answer
    except TimeoutError:
        when = "before the service stopped" if is_cancelled() else f"within {seconds} s"
        raise RequestError(TIMED_OUT, f"there was no answer {when}") from None


def _observe(answer: BaseModel) -> None:
    """Count an answer's steps, and the errors that stand in it in the places of what was asked, in the metrics."""
    for step, milliseconds in getattr(answer, "timings_ms", {}).items():
        STEP_SECONDS.labels(step).observe(milliseconds / 1000)
    if isinstance(answer, ListAnswer):
        for part in answer.parts():
            if isinstance(part, ErrorAnswer):
                ERRORS.labels(part.error.code).inc()
