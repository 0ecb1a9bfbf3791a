"""Read what POST /items/add is given: files of a multipart body, or the items of a JSON one."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from index import InvalidEntry, NewJobItem, check_entry
from model import ImageTooLarge
from server.api.errors import INVALID_FIELD, RequestError, error_answer
from server.api.item_requests import AddFields, AddItems, AddOne
from server.api.parsing import is_multipart, read_json, read_multipart
from settings import Settings


@dataclass(frozen=True, slots=True)
class Addition:
    """A picture to add: its bytes, or what names it, its key, and its metadata."""

    key: str
    data: bytes | None = None
    query: AddOne = field(default_factory=lambda: AddOne.model_construct())
    metadata: dict[str, Any] = field(default_factory=dict)


def is_for_later(request: Request) -> bool:
    """Return whether pictures are to be added by a job. Raises RequestError (422)."""
    wait = request.query_params.get("wait", "true").lower()
    if wait not in ("true", "false", "1", "0"):
        raise RequestError(INVALID_FIELD, "wait: give true or false")
    return wait in ("false", "0")


async def read_additions(request: Request, settings: Settings) -> list[Addition]:
    """Read the pictures to add, in order. Raises RequestError."""
    if is_multipart(request):
        return await _read_files(request, settings)
    fields = await read_json(request, AddItems, settings)
    return [Addition(_key(one), query=one, metadata=one.metadata or {}) for one in fields.items]


async def _read_files(request: Request, settings: Settings) -> list[Addition]:
    names: list[str] = []
    images, fields = await read_multipart(request, AddFields, settings, names)
    for name, given in (("keys", fields.keys), ("metadata", fields.metadata)):
        if given is not None and len(given) != len(images):
            raise RequestError(INVALID_FIELD, f"{name}: {len(given)} were given for {len(images)} pictures")
    if fields.keys is None and (twice := [name for name, times in Counter(names).items() if times > 1]):
        raise RequestError(INVALID_FIELD, f"images: several files are called {twice[0]!r}; name each item with keys")
    metadata = fields.metadata or [None] * len(images)
    keys = fields.keys or names
    return [Addition(key, data, metadata=more or {}) for key, data, more in zip(keys, images, metadata, strict=True)]


def for_later(given: Addition) -> NewJobItem:
    """Return a picture as a job keeps it; one that cannot be an item has its error at once."""
    try:
        check_entry(given.key, given.metadata)
        data = given.data if given.data is not None or given.query.url is not None else given.query.picture()
    except (InvalidEntry, RequestError, ImageTooLarge) as error:
        key = given.key.encode("utf-8", "backslashreplace").decode()
        return NewJobItem(key, {}, result=error_answer(error).model_dump_json())
    return NewJobItem(given.key, given.metadata, data, given.query.url)


def _key(one: AddOne) -> str:
    return one.key or one.url or hashlib.sha256((one.image or "").encode()).hexdigest()
