"""What a route gives, as the answer that is sent: JSON, within its time, and each named error with its status."""

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

from server.api.errors import TIMED_OUT, ErrorAnswer, ListAnswer, RequestFault, error_answer, headers_of, status_of
from server.runtime.shutdown import given_up, may_be_given_up
from server.telemetry.metrics import ERRORS, STEP_SECONDS, this_visit

log = logging.getLogger("bentoml.bentolens")

Route = Callable[..., Awaitable[BaseModel]]


class Typed:
    """Decorates routes: gives them up after some seconds."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds

    def __call__(self, route: Route) -> Callable[..., Awaitable[Response]]:
        """The route as BentoML calls it; the fields of its form are not read by BentoML, but by the route itself."""

        @functools.wraps(route)
        async def respond(service: Any, ctx: bentoml.Context, **unread: Any) -> Response:
            headers: dict[str, str] = {}
            visit = this_visit()
            try:
                answer = await self._in_time(route(service, ctx))
                sole = answer.sole_error() if isinstance(answer, ListAnswer) else None
                told = json.dumps(sole.model_dump() | answer.model_dump(mode="json")) if sole else None
                body = told or answer.model_dump_json()
                _observe(answer)
            except Exception as error:
                sole = error_answer(error)
                body = sole.model_dump_json()
                ERRORS.labels(sole.error.code).inc()
                headers = headers_of(error)
                if (status := status_of(sole)) >= 500:
                    log.error("%s: %s", sole.error.code, error, exc_info=status == 500)
            visit.code = sole.error.code if sole else None
            # BentoML gives the response the status of its context, whatever its own is.
            ctx.response.status_code = status_of(sole) if sole else 200
            return Response(body, headers=headers, media_type="application/json")

        return respond

    async def _in_time(self, answer: Awaitable[BaseModel]) -> BaseModel:
        try:
            async with asyncio.timeout(self._seconds) as limit:
                with may_be_given_up(limit):
                    return await answer
        except TimeoutError:
            told = "before the service stopped" if given_up() else f"within {self._seconds} s"
            raise RequestFault(TIMED_OUT, f"there was no answer {told}") from None


def _observe(answer: BaseModel) -> None:
    """Tell the metrics of an answer's steps, and of the errors that stand in it in the places of what was asked."""
    for step, milliseconds in getattr(answer, "timings_ms", {}).items():
        STEP_SECONDS.labels(step).observe(milliseconds / 1000)
    if isinstance(answer, ListAnswer):
        for part in answer.parts():
            if isinstance(part, ErrorAnswer):
                ERRORS.labels(part.error.code).inc()
