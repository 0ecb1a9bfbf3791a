"""Read the bodies of requests, in memory; the gateway bounds how many bytes they have."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator
from typing import Any

from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from index import InvalidFilter, parse_filter, refuse_repeats
from server.api.errors import BAD_REQUEST, INVALID_FIELD, WRONG_MEDIA, RequestError
from server.api.requests import Checked, check, too_many
from settings import Settings

# Each takes some 60 bytes once it is read, and may be two of text: a body of the size allowed would fill the memory.
MOST_VALUES = 1_000_000
LISTS = ("keys", "metadata", "positive", "negative")  # fields that are JSON lists
NAMES = ("sort", "group_by", "classify")  # fields that are a name, or JSON: a list of names, or an object
MOST_FIELDS = 32  # next to files
LONGEST_FIELD = 100  # characters of a field that is a number


class _InMemory(MultiPartParser):
    """Starlette's parser, but for its copy of each large file on the disk."""

    spool_max_size = sys.maxsize


def _values(text: str | bytes) -> int:
    """Return how many values a JSON text has, at most: pictures in base64 have none of these."""
    if isinstance(text, str):
        return text.count(",") + text.count("[") + text.count("{")
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _filter(text: str) -> object:
    if _values(text) > MOST_VALUES:
        raise InvalidFilter(f"where: the filter has more than the {MOST_VALUES:,} values allowed")
    return parse_filter(text)


def is_multipart(request: Request) -> bool:
    """Return whether a request's body is one of files and fields."""
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


async def read_multipart(
    request: Request, fields: type[Checked], settings: Settings, names: list[str] | None = None
) -> tuple[list[bytes], Checked]:
    """Read the files of the field ``images``, in order, and the other fields, checked. Raises RequestError.

    The files' names are put into ``names``.
    """
    if not is_multipart(request):
        raise RequestError(WRONG_MEDIA, "this route takes multipart/form-data with one or more files named images")
    tail = bytearray()
    try:
        form = await _InMemory(
            request.headers,
            _stream(request, tail),
            max_files=settings.max_images,
            max_fields=MOST_FIELDS,
            max_part_size=settings.max_request_bytes,
        ).parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise RequestError(
                INVALID_FIELD, f"images: more than the {settings.max_images} allowed in one request"
            ) from None
        raise RequestError(BAD_REQUEST, f"the multipart body cannot be read: {error.message}") from None
    except (KeyError, ValueError):  # no boundary, or header bytes that are no text
        raise RequestError(BAD_REQUEST, "the multipart body cannot be read: its headers are broken") from None
    try:
        _check_end(request, tail)
        images, texts = [], {}
        for name, value in form.multi_items():
            if name == "images":
                if not isinstance(value, UploadFile):
                    raise RequestError(INVALID_FIELD, "images: send a file, not text")
                images.append(await value.read())
                if names is not None:
                    names.append(value.filename or "")
                await value.close()  # it holds a copy
            elif isinstance(value, UploadFile):
                raise RequestError(INVALID_FIELD, f"{name}: there is no file field of this name; files go into images")
            else:
                if name in texts:
                    raise RequestError(INVALID_FIELD, f"{name}: it is there twice")
                texts[name] = _parse_field(name, value)
    finally:
        await form.close()
    if not images:
        raise RequestError(INVALID_FIELD, "images: send at least one file")
    return images, check(fields, texts)


async def read_json(request: Request, fields: type[Checked], settings: Settings) -> Checked:
    """Read the JSON body, checked. Raises RequestError."""
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise RequestError(WRONG_MEDIA, f"this route takes application/json, not {media_type}")
    body, values = bytearray(), 0
    async for chunk in _stream(request):
        body += chunk
        values += _values(chunk)
    if values > MOST_VALUES:
        raise RequestError(INVALID_FIELD, f"the body has more than the {MOST_VALUES:,} values allowed")
    try:
        value = json.loads(body, object_pairs_hook=refuse_repeats)
    except (ValueError, RecursionError) as error:
        raise RequestError(BAD_REQUEST, f"the body is not JSON that can be read ({error})") from None
    _check_lengths(value, settings)
    return check(fields, value)


def _check_lengths(value: object, settings: Settings) -> None:
    """Refuse lists that are too long before each of their values is looked at, which takes a second for some 100,000."""
    for found in value.values() if isinstance(value, dict) else ():
        if isinstance(found, list):
            parts = [part for one in found if isinstance(one, dict) for part in one.values() if isinstance(part, list)]
            if (most := max(map(len, (found, *parts)))) > settings.max_images:
                raise too_many(most, settings)


def _check_end(request: Request, tail: bytearray) -> None:
    """Refuse a multipart body without its closing boundary: the parser would drop its last part silently."""
    _, options = parse_options_header(request.headers["content-type"])
    if b"--" + options[b"boundary"] + b"--" not in tail:
        raise RequestError(BAD_REQUEST, "the multipart body cannot be read: it breaks off before its closing boundary")


async def _stream(request: Request, tail: bytearray | None = None) -> AsyncGenerator[bytes, None]:
    """Yield the body as it streams in; its last bytes are left in ``tail``."""
    try:
        async for chunk in request.stream():
            if tail is not None:
                tail[:] = (tail + chunk)[-1024:]
            yield chunk
    except ClientDisconnect:
        raise RequestError(BAD_REQUEST, "the request broke off before its end") from None


def _parse_field(name: str, value: str) -> Any:
    if name == "where":
        return _filter(value)
    if name in NAMES:
        return name_or_json(name, value)
    if name == "facets":
        found = name_or_json(name, value)
        return [found] if isinstance(found, str) else found
    return _json_list(name, value) if name in LISTS else _json_or_text(value)


def name_or_json(name: str, value: str) -> Any:
    """Return a field's name, or the JSON that stands for one. Raises RequestError."""
    return _json_list(name, value) if value.startswith(("[", "{")) else value


def _json_list(name: str, value: str) -> Any:
    if _values(value) > MOST_VALUES:
        raise RequestError(INVALID_FIELD, f"{name}: more than the {MOST_VALUES:,} values allowed")
    try:
        return json.loads(value, object_pairs_hook=refuse_repeats)
    except (ValueError, RecursionError) as error:
        raise RequestError(INVALID_FIELD, f"{name}: this is not JSON ({error})") from None


def _json_or_text(value: str) -> Any:
    if len(value) > LONGEST_FIELD:  # what has a meaning here is shorter
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
