"""Every request passes here first: it gets an id, is let in or refused, and is told of in metrics and the log.

What is not a route ends here, and so never becomes a label of a metric or a name of a span. Each error that leaves is
typed, whoever made it, but for those of the page, whose own script reads them.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from functools import partial
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract import (
    NO_ROUTE,
    NOT_READY,
    UNEXPECTED,
    WRONG_METHOD,
    RequestFault,
    error_answer,
    status_of,
)
from demo import sign_in_page
from door.keys import COOKIE, SIGNED_IN_SECONDS, Access
from door.rates import Rates
from observing import ASKED, ERRORS, REQUEST_SECONDS, REQUESTS, Visit, begin

log = logging.getLogger("bentoml.access")

PAGE = "/demo"
SIGN_IN = "/demo/sign-in"
HEALTH = ("/livez", "/readyz", "/healthz")
FREE = frozenset((*HEALTH, "/", "/docs.json"))  # they say nothing of the pictures
GET = frozenset(("/metrics", "/schema.json", *FREE))
WRITES = frozenset(("/items/add", "/items/remove"))
REQUEST_ID = re.compile(r"[\w.:/+=-]{1,64}", re.ASCII)
LONGEST_KEY = 4096  # bytes of the form that signs in


class Entrance:
    """An ASGI middleware around all routes; ``posts`` are the paths of the API."""

    def __init__(self, app: ASGIApp, access: Access, rates: Rates, posts: frozenset[str], page: bool) -> None:
        self._app = app
        self._access = access
        self._rates = rates
        self._posts = posts
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":  # the page uses none
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _Passage(self._app, self._access, self._rates, scope, send).go(receive, self._route(scope["path"]))

    def _route(self, path: str) -> str | None:
        if path in self._posts or path in GET or path in WRITES:
            return path
        if self._page and (path == PAGE or path.startswith(PAGE + "/")):
            return PAGE
        return None


class _Passage:
    """One request on its way in and its answer on its way out."""

    def __init__(self, app: ASGIApp, access: Access, rates: Rates, scope: Scope, send: Send) -> None:
        self._app = app
        self._access = access
        self._rates = rates
        self._scope = scope
        self._send = send
        self._headers = Headers(scope=scope)
        given = self._headers.get("x-request-id", "")
        self._visit = Visit(given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex)
        self._begun = time.perf_counter()
        self._status = 0
        self._foreign = 0  # the status of an answer that is replaced by a typed one
        self._text = b""
        self._allow = ""  # the methods that a route takes, where it was asked for another

    async def go(self, receive: Receive, route: str | None) -> None:
        self._visit.route = route or "none"
        begin(self._visit)
        try:
            if route is None:
                raise RequestFault(NO_ROUTE, "there is no such route")
            if not await self._signs_in(receive, route):
                self._let_in(route)
                await self._app(self._scope, receive, self._pass_on)
        except RequestFault as fault:
            await self._refuse(fault)
        except Exception as error:
            log.exception("a request ended in an error")
            if self._status:
                raise
            await self._refuse(error)
        finally:
            self._tell()

    def _let_in(self, route: str) -> None:
        method = self._scope["method"]
        if method == "OPTIONS" and route != PAGE:  # what a browser asks before it may send a key: CORS answers, or 405
            return
        if route in FREE:
            return
        scope = "write" if route in WRITES else "read"
        client = self._scope.get("client")
        caller = self._access.admit(client[0] if client else None, self._headers, scope, self._cookie())
        if caller.key is None:
            return
        self._visit.key = caller.key.name
        asks = method == "POST" and (route != PAGE or "/run/" in self._scope["path"])
        self._rates.charge(caller.key, int(asks), refuse=True)
        # One is charged before the body is read; what else it has is charged once it is known.
        self._visit.charge = partial(self._charge_rest, caller.key)

    def _charge_rest(self, key: Any, count: int) -> None:
        self._rates.charge(key, max(0, count - 1), refuse=False)

    async def _signs_in(self, receive: Receive, route: str) -> bool:
        """Ask who opens the page for a key, or take the one they send; whether that was all there is to do."""
        if route != PAGE or not self._access.needs_key:
            return False
        if self._scope["path"] == SIGN_IN and self._scope["method"] == "POST":
            kept = self._access.sign_in(await _key_sent(receive))
            if kept is None:
                await self._answer(HTMLResponse(sign_in_page("There is no such key, or it may not read."), 401))
                return True
            response = RedirectResponse("./", 303)
            secure = self._scope["scheme"] == "https" or self._headers.get("x-forwarded-proto") == "https"
            # Lax: a link leads to the page, and no other site's page can make this browser ask anything in its name.
            response.set_cookie(
                COOKIE, kept, SIGNED_IN_SECONDS, path=PAGE, secure=secure, httponly=True, samesite="lax"
            )
            await self._answer(response)
            return True
        path = self._scope["path"]
        if self._scope["method"] != "GET" or path not in (PAGE, PAGE + "/", SIGN_IN) or self._is_known():
            return False
        # The form names where it is sent relative to this, so that it also works behind a proxy that adds a prefix.
        await self._answer(RedirectResponse("demo/") if path == PAGE else HTMLResponse(sign_in_page(), 401))
        return True

    def _is_known(self) -> bool:
        try:
            self._access.admit(None, self._headers, "read", self._cookie())
        except RequestFault:
            return False
        return True

    def _cookie(self) -> str | None:
        if self._visit.route != PAGE:  # elsewhere a key is sent, so that no other site's page can send it
            return None
        try:
            kept = SimpleCookie(self._headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return None
        return kept.value if kept else None

    async def _answer(self, response: Response) -> None:
        response.headers["Cache-Control"] = "no-store"
        await response(self._scope, _nothing_more, self._pass_on)

    async def _refuse(self, error: Exception) -> None:
        answer = error_answer(error)
        headers = {}
        if isinstance(error, RequestFault) and error.retry_after is not None:
            headers["Retry-After"] = str(error.retry_after)
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
            headers = MutableHeaders(scope=message)
            typed = headers.get("content-type", "").startswith("application/json") and message["status"] != 500
            if message["status"] >= 400 and self._visit.route != PAGE and not typed and self._visit.code is None:
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
                await self._refuse(_typed(foreign, self._text.decode("utf-8", "replace"), self._scope))
            return
        await self._send(message)

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


def _typed(status: int, text: str, scope: Scope) -> RequestFault:
    if status == 405:
        return RequestFault(WRONG_METHOD, f"this route does not take {scope['method'][:20]}")
    if status == 404:
        return RequestFault(NO_ROUTE, "there is no such route")
    if status == 503:
        return RequestFault(NOT_READY, text.strip() or "the service is not ready")
    return RequestFault(UNEXPECTED, "")


async def _key_sent(receive: Receive) -> str:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] == "http.disconnect" or not message.get("more_body") or len(body) > LONGEST_KEY:
            break
    return "".join(parse_qs(body.decode("utf-8", "replace")).get("key", [""])[:1]).strip()


async def _nothing_more() -> Message:
    return {"type": "http.disconnect"}
