"""What is asked of whoever comes to the page: a key where there are keys, and uploads for which there is room."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope

from contract import BODY_TOO_LARGE, BUSY, RequestFault
from demo import sign_in_page
from door.keys import SIGNED_IN_SECONDS, Access

PAGE = "/demo"
SIGN_IN = "/demo/sign-in"
COOKIE = "bentolens"
LONGEST_KEY = 4096  # bytes of the form that signs in
FORM_BYTES = 2**20  # around an upload
NO_ROOM_SECONDS = 60
# The form loads nothing, runs nothing, and is shown in no other site's frame.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"


class PageRules:
    """The page's own part of the entrance; ``upload`` is the most bytes of one."""

    def __init__(self, access: Access, upload: int) -> None:
        self._access = access
        self._upload = upload

    async def answer(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> Response | None:
        """What is answered in the page's place: the form that asks for a key, or what comes of sending it; else None.

        Raises RequestFault for an upload that is too large (413), or for which there is no room (429).
        """
        if scope["method"] == "POST" and scope["path"] != SIGN_IN:
            self._check_upload(headers)
        if not self._access.needs_key:
            return None
        if scope["path"] == SIGN_IN and scope["method"] == "POST":
            return self._sign_in(await _key_sent(receive), scope, headers)
        if scope["method"] != "GET" or scope["path"] not in (PAGE, PAGE + "/", SIGN_IN) or self._knows(headers):
            return None
        # The form names where it is sent relative to this, so that it also works behind a proxy that adds a prefix.
        return RedirectResponse("demo/") if scope["path"] == PAGE else _form()

    def _sign_in(self, presented: str, scope: Scope, headers: Mapping[str, str]) -> Response:
        kept = self._access.sign_in(presented)
        if kept is None:
            return _form("There is no such key, or it may not read.")
        response = RedirectResponse("./", 303)
        secure = scope["scheme"] == "https" or headers.get("x-forwarded-proto") == "https"
        # Lax: a link leads to the page, and no other site's page can make this browser ask anything in its name.
        response.set_cookie(COOKIE, kept, SIGNED_IN_SECONDS, path=PAGE, secure=secure, httponly=True, samesite="lax")
        return response

    def _knows(self, headers: Mapping[str, str]) -> bool:
        try:
            self._access.admit(None, headers, "read", cookie_of(headers))
        except RequestFault:
            return False
        return True

    def _check_upload(self, headers: Mapping[str, str]) -> None:
        """Gradio writes uploads to the disk, and keeps them for an hour."""
        said = headers.get("content-length", "0")
        if not said.isdigit() or len(said) > 18 or int(said) > self._upload + FORM_BYTES:
            raise RequestFault(BODY_TOO_LARGE, f"the upload has more than the {self._upload:,} bytes allowed")
        if shutil.disk_usage(tempfile.gettempdir()).free < 2 * self._upload:
            raise RequestFault(BUSY, "there is no room for uploads", retry_after=NO_ROOM_SECONDS)


def cookie_of(headers: Mapping[str, str]) -> str | None:
    """What a browser that has signed in sends."""
    try:
        kept = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return kept.value if kept else None


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
