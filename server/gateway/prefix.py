"""A path prefix that a proxy in front takes away, or leaves: found in settings or headers, and given to what links."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from settings import ROOT_PATH

HEADER = "x-forwarded-prefix"
LONGEST = 256


def split_prefix(scope: Scope, root_path: str | None) -> Scope:
    """Return the scope with the path as this service knows it, and the prefix as its root_path.

    The prefix is ``root_path``, or else what proxies say in X-Forwarded-Prefix, the outermost first. The path may come
    with it or without it.
    """
    prefix = root_path or _forwarded(scope)
    if not prefix:
        return scope
    path, raw_path = scope["path"], scope.get("raw_path") or b""
    if path == prefix or path.startswith(prefix + "/"):
        path, raw_path = path[len(prefix) :] or "/", raw_path[len(prefix) :] or b"/"
    return {**scope, "root_path": prefix, "path": path, "raw_path": raw_path}


class JoinPrefix:
    """Passes requests on with the prefix before their path, as ASGI has it, so that what links to itself uses it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if prefix := scope.get("root_path"):
            raw_path = prefix.encode("ascii") + scope["raw_path"]
            scope = {**scope, "path": prefix + scope["path"], "raw_path": raw_path}
        await self._app(scope, receive, send)


def _forwarded(scope: Scope) -> str:
    given = Headers(scope=scope).get(HEADER, "")
    if not given or len(given) > LONGEST:
        return ""
    parts = [part.strip().rstrip("/") for part in given.split(",")]
    return "".join(parts) if all(not part or ROOT_PATH.fullmatch(part) for part in parts) else ""
