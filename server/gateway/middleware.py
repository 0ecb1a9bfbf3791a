"""ASGI middleware around all routes: the gateway, and access control, its innermost part.

``Gateway`` puts them together, outermost first: ``RequestLog`` (request ids, metrics, log), Starlette's ``CORSMiddleware``
where it is asked for, ``ErrorResponses`` (typed errors) and ``AccessControl`` (routes, keys, rates and the bytes of bodies).
Between them and the routes a proxy's path prefix is put aside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.errors import NO_ROUTE, TIMED_OUT, WRONG_MEDIA, RequestError
from server.api.route import Route
from server.api.routes import DEMO, ROUTES, find_route
from server.gateway.api_keys import ApiKey
from server.gateway.auth import Authenticator
from server.gateway.body_budget import BodyBudget
from server.gateway.demo_access import DemoAccess, cookie_of
from server.gateway.error_responses import ErrorResponses
from server.gateway.prefix import JoinPrefix, split_prefix
from server.gateway.rate_limit import RateLimiter
from server.gateway.request_log import RequestLog
from server.telemetry import current_request


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """What the gateway goes by: who may ask and how much, the bodies' budget and limit, and the page's own access.

    ``demo`` is None where there is no page; a request that uploads to it is cancelled after ``timeout`` seconds.
    ``cors_origins`` are sites whose pages may call the API; ``root_path`` is the path prefix of a proxy.
    """

    authenticator: Authenticator
    rate_limiter: RateLimiter
    body_budget: BodyBudget
    max_body_bytes: int
    timeout: int
    demo: DemoAccess | None = None
    cors_origins: Sequence[str] = ()
    root_path: str | None = None
    routes: tuple[Route, ...] = ROUTES


class Gateway:
    """The middlewares around an app; a websocket is refused, as no route uses one."""

    def __init__(self, app: ASGIApp, config: GatewayConfig) -> None:
        self._app = app
        self._root_path = config.root_path
        inner: ASGIApp = ErrorResponses(AccessControl(JoinPrefix(app), config))
        if config.cors_origins:
            inner = CORSMiddleware(
                inner,
                allow_origins=config.cors_origins,
                allow_methods=("GET", "POST"),
                allow_headers=("Authorization", "Content-Type", "X-API-Key", "X-Request-ID", "traceparent"),
                expose_headers=("X-Request-ID", "Retry-After", "Server-Timing"),
            )
        self._http = RequestLog(inner)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._http(split_prefix(scope, self._root_path), receive, send)


class AccessControl:
    """Refuses what has no route, no key, no share of its rate left, or too large a body; lets the rest through."""

    def __init__(self, app: ASGIApp, config: GatewayConfig) -> None:
        self._app = app
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, headers = current_request(), Headers(scope=scope)
        route = find_route(scope["path"], self._config.routes)
        if route is None or (route is DEMO and self._config.demo is None):
            raise RequestError(NO_ROUTE, "there is no such route")
        request.route = route.path
        if "bentoml" in headers.get("content-type", ""):  # ways that BentoML's services talk with each other
            raise RequestError(WRONG_MEDIA, "no route takes BentoML's own media types")
        if (encoding := headers.get("content-encoding", "identity").strip().lower()) not in ("", "identity"):
            raise RequestError(WRONG_MEDIA, f"the body is encoded ({encoding[:40]!a}); send it as it is, uncompressed")
        # The API's routes heed their time themselves, and answers of the page may be streams, which last.
        seconds = self._config.timeout if route is DEMO and scope["method"] == "POST" else None
        try:
            async with asyncio.timeout(seconds):
                await self.handle(route, headers, scope, receive, send)
        except TimeoutError:
            raise RequestError(TIMED_OUT, f"there was no answer within {self._config.timeout} s") from None
        finally:
            self._config.body_budget.release()

    async def handle(self, route: Route, headers: Headers, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that has a route, or pass it on with its body bounded."""
        demo = self._config.demo if route is DEMO else None
        if demo and (response := await demo.answer(scope, headers, receive)):
            response.headers["Cache-Control"] = "no-store"
            await response(scope, receive, send)
            return
        self._authorize(route, headers, scope)
        max_body_bytes = demo.max_body_bytes(scope["path"]) if demo else self._config.max_body_bytes
        bounded = self._config.body_budget.bounded(receive, headers, max_body_bytes)

        async def receive_noting_errors() -> Message:
            try:
                return await bounded()
            except RequestError as error:  # its reader may answer with words of its own
                current_request().error = error
                raise

        async def send_releasing(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._config.body_budget.release()  # whoever takes long to read the answer keeps no one out
            await send(message)

        await self._app(scope, receive_noting_errors, send_releasing)

    def _authorize(self, route: Route, headers: Headers, scope: Scope) -> None:
        # What a browser asks before it may send a key: CORS answers, or 405.
        if route.scope is None or (scope["method"] == "OPTIONS" and route is not DEMO):
            return
        client = scope.get("client")
        # The cookie is for the page alone: elsewhere a key is sent, which no other site's page can do.
        cookie = cookie_of(headers) if route is DEMO else None
        key = self._config.authenticator.authorize(client[0] if client else None, headers, route.scope, cookie)
        if key is None:
            return
        request = current_request()
        request.key = key.name
        self._config.rate_limiter.charge(key, int(scope["method"] == "POST"), refuse=True)
        # One is charged before the body is read; what else it has is charged once it is known.
        request.charge = partial(self._charge_rest, key)

    def _charge_rest(self, key: ApiKey, count: int) -> None:
        self._config.rate_limiter.charge(key, max(0, count - 1), refuse=False)
