"""Every request passes here first: it gets an id, is let in or refused, and is told of in metrics and the log.

What is not a route ends here, and so never becomes a label of a metric or a name of a span. Each error that leaves is
typed, whoever made it, but for those of the page, whose own script reads them.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from dataclasses import dataclass
from functools import partial

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.errors import (
    BAD_REQUEST,
    NO_ROUTE,
    NOT_READY,
    TIMED_OUT,
    UNEXPECTED,
    WRONG_MEDIA,
    WRONG_METHOD,
    RequestFault,
    error_answer,
    headers_of,
    status_of,
)
from server.gateway.admission import Held
from server.gateway.auth import Access, Key
from server.gateway.demo_access import EVENTS, PAGE, PageRules, cookie_of
from server.gateway.rate_limit import Rates
from server.telemetry.metrics import ASKED, ERRORS, REQUEST_SECONDS, REQUESTS, Visit, begin

log = logging.getLogger("bentoml.access")

HEALTH = ("/livez", "/readyz", "/healthz")
FREE = frozenset((*HEALTH, "/", "/docs.json"))  # they say nothing of the pictures
GET = frozenset(("/metrics", "/schema.json", *FREE))
WRITES = frozenset(("/items/add", "/items/remove"))
REQUEST_ID = re.compile(r"[\w.:/+=-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the entrance goes by: who may ask and how much, the API's paths, the page's own rules where there is a page,
    after how many seconds a request to it is given up, where bodies are held, and how many bytes one may have."""

    access: Access
    rates: Rates
    posts: frozenset[str]
    page: PageRules | None
    seconds: int
    held: Held
    most: int

    def route(self, path: str) -> str | None:
        """The route of a path, if it is one."""
        if path in self.posts or path in GET or path in WRITES:
            return path
        return PAGE if self.page and (path == PAGE or path.startswith(PAGE + "/")) else None


class Entrance:
    """An ASGI middleware around all routes."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":  # the page uses none
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _Passage(self._app, self._rules, scope, send).go(receive)


class _Passage:
    """One request on its way in and its answer on its way out."""

    def __init__(self, app: ASGIApp, rules: Rules, scope: Scope, send: Send) -> None:
        self._app = app
        self._rules = rules
        self._scope = scope
        self._send = send
        self._headers = Headers(scope=scope)
        given = self._headers.get("x-request-id", "")
        self._visit = Visit(given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex)
        self._begun = time.perf_counter()
        self._status = 0
        self._ended = False
        self._foreign = 0  # the status of an answer that is replaced by a typed one
        self._text = b""
        self._fault: RequestFault | None = None  # of the body
        self._allow = ""  # the methods that a route takes, where it was asked for another

    async def go(self, receive: Receive) -> None:
        route = self._rules.route(self._scope["path"])
        self._visit.route = route or "none"
        begin(self._visit)
        try:
            if route is None:
                raise RequestFault(NO_ROUTE, "there is no such route")
            if "bentoml" in self._headers.get("content-type", ""):  # ways that BentoML's services talk with each other
                raise RequestFault(WRONG_MEDIA, "no route takes BentoML's own media types")
            # The API's routes heed their time themselves, and answers of the page may be streams, which last.
            uploads = route == PAGE and self._scope["method"] == "POST"
            async with asyncio.timeout(self._rules.seconds if uploads else None):
                await self._pass(receive, route)
        except Exception as error:
            if isinstance(error, TimeoutError):
                error = RequestFault(TIMED_OUT, f"there was no answer within {self._rules.seconds} s")
            if route == PAGE and not isinstance(error, RequestFault):  # its text may quote what was sent
                log.warning("an event of the page ended in %s", type(error).__name__)
                error = RequestFault(BAD_REQUEST, "this is not what the page sends")
            elif not isinstance(error, RequestFault):
                log.exception("a request ended in an error")
            if not self._status:
                await self._refuse(error)
            elif not self._ended:
                raise
        finally:
            self._rules.held.free()
            self._tell()

    async def _pass(self, receive: Receive, route: str) -> None:
        page = self._rules.page if route == PAGE else None
        if page and (response := await page.answer(self._scope, self._headers, receive)):
            await self._answer(response)
            return
        self._let_in(route)
        most = page.most(self._scope["path"]) if page else self._rules.most
        await self._app(self._scope, self._bounded(receive, most), self._pass_on)

    def _bounded(self, receive: Receive, most: int) -> Receive:
        """The body within its limits; what is wrong with it is kept, since its reader may tell it in words of its own."""
        body = self._rules.held.bounded(receive, self._headers, most)

        async def read() -> Message:
            try:
                return await body()
            except RequestFault as fault:
                self._fault = fault
                raise

        return read

    def _let_in(self, route: str) -> None:
        method = self._scope["method"]
        if method == "OPTIONS" and route != PAGE:  # what a browser asks before it may send a key: CORS answers, or 405
            return
        if route in FREE:
            return
        client = self._scope.get("client")
        # The cookie is for the page alone: elsewhere a key is sent, which no other site's page can do.
        cookie = cookie_of(self._headers) if route == PAGE else None
        scope = "write" if route in WRITES else "read"
        key = self._rules.access.admit(client[0] if client else None, self._headers, scope, cookie)
        if key is None:
            return
        self._visit.key = key.name
        self._rules.rates.charge(key, int(method == "POST"), refuse=True)
        # One is charged before the body is read; what else it has is charged once it is known.
        self._visit.charge = partial(self._charge_rest, key)

    def _charge_rest(self, key: Key, count: int) -> None:
        self._rules.rates.charge(key, max(0, count - 1), refuse=False)

    async def _answer(self, response: Response) -> None:
        response.headers["Cache-Control"] = "no-store"
        await response(self._scope, _nothing_more, self._pass_on)

    async def _refuse(self, error: Exception) -> None:
        answer = error_answer(error)
        headers = headers_of(error)
        if (status := status_of(answer)) == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="BentoLens"'
        if status == 405:
            headers["Allow"] = self._allow
        self._visit.code = answer.error.code
        ERRORS.labels(answer.error.code).inc()
        response = Response(answer.model_dump_json(), status, headers, "application/json")
        await response(self._scope, _nothing_more, self._pass_on)

    async def _pass_on(self, message: Message) -> None:
        """Send an answer on, with the request's id; an error that is not typed is held back, and replaced."""
        if message["type"] == "http.response.start":
            self._rules.held.free()  # whoever takes long to read the answer keeps nobody out
            headers = MutableHeaders(scope=message)
            if self._visit.code is None and self._is_foreign(message["status"]):
                self._foreign = message["status"]
                self._allow = headers.get("allow", "")
                return
            headers["X-Request-ID"] = self._visit.request_id
            headers["X-Content-Type-Options"] = "nosniff"
            self._status = message["status"]
        elif message["type"] == "http.response.body" and self._foreign:
            self._text = (self._text + message.get("body", b""))[:1000]
            if not message.get("more_body"):
                foreign, self._foreign = self._foreign, 0
                await self._refuse(self._typed(foreign))
            return
        self._ended = message["type"] == "http.response.body" and not message.get("more_body")
        await self._send(message)

    def _is_foreign(self, status: int) -> bool:
        """Whether an answer is an error that was not made here."""
        if self._visit.route == PAGE:
            if self._fault:
                return True
            # Its script reads Gradio's errors; a 500 is what Gradio answers to events that no script of it sends.
            return status == 500 and self._scope["path"].startswith(EVENTS)
        return status >= 400

    def _typed(self, status: int) -> RequestFault:
        if self._fault:
            return self._fault
        if self._visit.route == PAGE:  # its handlers tell their own errors, so that this is the caller's
            return RequestFault(BAD_REQUEST, "this is not what the page sends")
        if status == 405:
            return RequestFault(WRONG_METHOD, f"this route does not take {self._scope['method'][:20]}")
        if status == 404:
            return RequestFault(NO_ROUTE, "there is no such route")
        if 400 <= status < 500:
            return RequestFault(BAD_REQUEST, "this is no request that can be read")
        if status == 503:
            told = self._text.decode("utf-8", "replace").strip()
            return RequestFault(NOT_READY, told or "the service is not ready")
        return RequestFault(UNEXPECTED, "")

    def _tell(self) -> None:
        visit, milliseconds = self._visit, (time.perf_counter() - self._begun) * 1000
        REQUESTS.labels(visit.route, self._status).inc()
        REQUEST_SECONDS.labels(visit.route).observe(milliseconds / 1000)
        if visit.asked:
            ASKED.labels(visit.route).inc(visit.asked)
        if visit.route in HEALTH and self._status == 200:
            return
        facts = {
            "route": visit.route,
            "status": self._status,
            "milliseconds": round(milliseconds, 3),
            "asked": visit.asked or None,
            "key": visit.key,
            "code": visit.code,
        }
        line = "%s %s %d %.1f ms" + (f" {visit.code}" if visit.code else "") + " (request %s)"
        log.info(line, self._scope["method"], visit.route, self._status, milliseconds, visit.request_id, extra=facts)


async def _nothing_more() -> Message:
    return {"type": "http.disconnect"}
