"""Access to the demo page: a key where there are keys, and room for uploads."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs

from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope

from demo import sign_in_page
from server.api.errors import BUSY, NO_ROUTE, RequestError
from server.api.routes import DEMO
from server.gateway.auth import SIGNED_IN_SECONDS, Authenticator

SIGN_IN = f"{DEMO.path}/sign-in"
COOKIE = "bentolens"
EVENTS = f"{DEMO.path}/gradio_api/"
# All that the page itself asks Gradio for; its other routes queue, stream, describe and fetch, and no page here uses them.
UPLOAD = "upload"
SENT = (UPLOAD, "run/")
ASKED = ("file=", "heartbeat/", "startup-events", "upload_progress", "info", "app_id")
LONGEST_KEY = 4096  # bytes of the form that signs in
EVENT_BYTES = 2**20  # of an event, which names the picture and does not have it; and of the form around an upload
NO_ROOM_SECONDS = 60
# The form loads nothing, runs nothing, and is shown in no other site's frame.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"


class DemoAccess:
    """What the gateway does for the page alone: the sign-in form, the routes of Gradio that it needs, room for uploads.

    ``max_upload_bytes`` is for one upload, ``max_kept_bytes`` for all that are kept in ``folder``.
    """

    def __init__(self, authenticator: Authenticator, folder: Path, max_upload_bytes: int, max_kept_bytes: int) -> None:
        self._authenticator = authenticator
        self._folder = folder
        self._max_upload_bytes = max_upload_bytes
        self._max_kept_bytes = max(max_kept_bytes, 2 * max_upload_bytes)

    def max_body_bytes(self, path: str) -> int:
        """Return the most bytes that the body of a request to a path may have."""
        return EVENT_BYTES + (self._max_upload_bytes if path.removeprefix(EVENTS).startswith(UPLOAD) else 0)

    async def answer(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> Response | None:
        """Answer in the page's place: the form that asks for a key, or what comes of sending it; else None.

        Raises RequestError for what is no route of the page (404), or for which there is no room (429).
        """
        below = scope["path"].removeprefix(EVENTS) if scope["path"].startswith(EVENTS) else None
        if below is not None and not below.startswith(SENT if scope["method"] == "POST" else ASKED):
            raise RequestError(NO_ROUTE, "there is no such route")
        if scope["method"] == "POST" and scope["path"] != SIGN_IN:
            await asyncio.to_thread(self._check_room)
        if not self._authenticator.needs_key:
            return None
        if scope["path"] == SIGN_IN and scope["method"] == "POST":
            if _comes_from_elsewhere(headers):
                return _form("Open this page itself, and sign in there.")
            return self._sign_in(await _key_sent(receive), scope, headers)
        if scope["method"] != "GET" or scope["path"] not in (DEMO.path, DEMO.path + "/", SIGN_IN):
            return None
        if self._knows(headers):
            return RedirectResponse("./") if scope["path"] == SIGN_IN else None
        # The form names where it is sent relative to this, so that it also works behind a proxy that adds a prefix.
        return RedirectResponse("demo/") if scope["path"] == DEMO.path else _form()

    def _sign_in(self, presented: str, scope: Scope, headers: Mapping[str, str]) -> Response:
        kept = self._authenticator.sign_in(presented)
        if kept is None:
            return _form("There is no such key, or it may not read.")
        response = RedirectResponse("./", 303)
        secure = scope["scheme"] == "https" or headers.get("x-forwarded-proto", "").lower().startswith("https")
        path = scope.get("root_path", "") + DEMO.path
        # Lax: a link leads to the page, and no other site's page can make this browser ask anything in its name.
        response.set_cookie(COOKIE, kept, SIGNED_IN_SECONDS, path=path, secure=secure, httponly=True, samesite="lax")
        return response

    def _knows(self, headers: Mapping[str, str]) -> bool:
        try:
            self._authenticator.authorize(None, headers, "read", cookie_of(headers))
        except RequestError:
            return False
        return True

    def _check_room(self) -> None:
        # Gradio writes uploads, and the thumbnails that it shows, to the disk, and keeps them for an hour.
        kept, free = _bytes_below(self._folder), shutil.disk_usage(tempfile.gettempdir()).free
        if kept + self._max_upload_bytes > self._max_kept_bytes or free < 2 * self._max_upload_bytes:
            raise RequestError(BUSY, "there is no room for uploads", retry_after=NO_ROOM_SECONDS)


def cookie_of(headers: Mapping[str, str]) -> str | None:
    """Return the cookie that a browser that has signed in sends."""
    # By hand, since http.cookies gives up at the first odd one of another application on the same host.
    pairs = (pair.strip().partition("=") for pair in headers.get("cookie", "").split(";"))
    return next((value.strip('"') for name, _, value in pairs if name == COOKIE), None)


def _comes_from_elsewhere(headers: Mapping[str, str]) -> bool:
    """Return whether another site's page has sent a form: it would sign its visitors in as somebody else."""
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] not in (
        headers.get("host"),
        headers.get("x-forwarded-host"),
    )


def _bytes_below(folder: Path) -> int:
    """Return the bytes of the files in a folder; what is removed meanwhile is not there."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size
    return total


def _form(fault: str | None = None) -> HTMLResponse:
    return HTMLResponse(sign_in_page(fault), 401, {"Content-Security-Policy": POLICY})


async def _key_sent(receive: Receive) -> str:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] == "http.disconnect" or not message.get("more_body") or len(body) > LONGEST_KEY:
            break
    return "".join(parse_qs(body.decode("utf-8", "replace")).get("key", [""])[:1]).strip()
