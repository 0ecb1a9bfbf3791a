"""What the HTTP door takes: requests read within their limits, and checked before any work is done.

BentoML's own parsing of a multipart request would fetch a URL found in a file field, has no limit on a body's size and
answers 500 to what it cannot read (docs/decisions/0003). So the forms here tell BentoML what a route takes, for
/docs.json and its clients, and leave the reading to ``read_multipart`` and ``read_json``.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import bentoml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from contract import BAD_REQUEST, BODY_TOO_LARGE, INVALID_FIELD, WRONG_MEDIA, RequestFault
from index import parse_filter, refuse_repeats
from settings import Settings

Checked = TypeVar("Checked", bound=BaseModel)
Count = Annotated[int, Field(ge=1)]


class Form(bentoml.IODescriptor):
    """A route's input as BentoML documents it; the route itself reads the request."""

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> Self:
        """Read nothing: an error here could not be told in our own words."""
        return cls.model_construct(**dict.fromkeys(cls.model_fields))


class PicturesForm(Form):
    """One or more picture files."""

    images: list[Path] = Field(description="one or more picture files")


class SearchForm(PicturesForm):
    """Pictures to find the likes of."""

    k: int | None = Field(None, description="hits for each picture", ge=1)
    where: str | None = Field(None, description="a filter on the items' metadata, as JSON")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class NoFields(_Strict):
    """The text fields of a multipart request that has none."""


class SearchFields(_Strict):
    """The text fields of POST /search."""

    k: Count | None = None
    where: Any = Field(None, description='a filter on the items\' metadata, such as {"width": {"$gte": 640}}')


class QueryOne(_Strict):
    """One query: a picture in base64, or an item of the catalogue by its id."""

    image: str | None = Field(None, description="a picture file in base64")
    id: int | None = Field(None, description="an item of the catalogue, which is not its own hit", ge=0, lt=2**63)

    @model_validator(mode="after")
    def _names_one_thing(self) -> Self:
        if (self.image is None) == (self.id is None):
            raise ValueError("give either image or id")
        return self

    def picture(self) -> bytes:
        """The picture's bytes. Raises RequestFault when the text is not base64."""
        text = self.image or ""
        if text.startswith("data:"):
            text = text.partition(",")[2]
        try:
            return base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            raise RequestFault(BAD_REQUEST, "the field image is not base64") from None


class QueryFields(SearchFields):
    """The body of POST /query."""

    queries: list[QueryOne] = Field(min_length=1)


class ItemsFields(_Strict):
    """The body of POST /items/get: ids or keys, and whether thumbnails are wanted."""

    ids: list[Annotated[int, Field(ge=0, lt=2**63)]] | None = None
    keys: list[str] | None = None
    thumbnail: bool = True

    @field_validator("keys")
    @classmethod
    def _is_text(cls, keys: list[str] | None) -> list[str] | None:
        for key in keys or ():
            try:
                key.encode()
            except UnicodeEncodeError:
                raise ValueError("half a surrogate pair is no text") from None
        return keys

    @model_validator(mode="after")
    def _names_one_thing(self) -> Self:
        if (self.ids is None) == (self.keys is None):
            raise ValueError("give either ids or keys")
        return self


class QueryForm(Form, QueryFields):
    """The body of POST /query."""


class ItemsForm(Form, ItemsFields):
    """The body of POST /items/get."""


async def read_multipart(request: Request, fields: type[Checked], settings: Settings) -> tuple[list[bytes], Checked]:
    """The files of the field ``images``, in order, and the other fields, checked. Raises RequestFault."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise RequestFault(WRONG_MEDIA, "this route takes multipart/form-data with one or more files named images")
    tail = bytearray()
    try:
        form = await MultiPartParser(
            request.headers,
            _bounded(request, settings, tail),
            max_files=settings.max_images,
            max_fields=16,
            max_part_size=settings.max_request_bytes,
        ).parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise RequestFault(
                INVALID_FIELD, f"images: more than the {settings.max_images} allowed in one request"
            ) from None
        raise RequestFault(BAD_REQUEST, f"the multipart body cannot be read: {error.message}") from None
    except (KeyError, ValueError):  # no boundary, or header bytes that are no text
        raise RequestFault(BAD_REQUEST, "the multipart body cannot be read: its headers are broken") from None
    try:
        _check_end(request, tail)
        images, texts = [], {}
        for name, value in form.multi_items():
            if name == "images":
                if not isinstance(value, UploadFile):
                    raise RequestFault(INVALID_FIELD, "images: send a file, not text")
                images.append(await value.read())
            elif isinstance(value, UploadFile):
                raise RequestFault(INVALID_FIELD, f"{name}: there is no file field of this name; files go into images")
            else:
                if name in texts:
                    raise RequestFault(INVALID_FIELD, f"{name}: it is there twice")
                texts[name] = parse_filter(value) if name == "where" else _json_or_text(value)
    finally:
        await form.close()
    if not images:
        raise RequestFault(INVALID_FIELD, "images: send at least one file")
    return images, _check(fields, texts)


async def read_json(request: Request, fields: type[Checked], settings: Settings) -> Checked:
    """The JSON body, checked. Raises RequestFault."""
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise RequestFault(WRONG_MEDIA, f"this route takes application/json, not {media_type}")
    body = b"".join([chunk async for chunk in _bounded(request, settings)])
    try:
        value = json.loads(body, object_pairs_hook=refuse_repeats)
    except (ValueError, RecursionError) as error:
        raise RequestFault(BAD_REQUEST, f"the body is not JSON that can be read ({error})") from None
    return _check(fields, value)


def _check_end(request: Request, tail: bytearray) -> None:
    """Refuse a multipart body without its closing boundary: the parser would drop its last part and say nothing."""
    _, options = parse_options_header(request.headers["content-type"])
    if b"--" + options[b"boundary"] + b"--" not in tail:
        raise RequestFault(BAD_REQUEST, "the multipart body cannot be read: it breaks off before its closing boundary")


async def _bounded(request: Request, settings: Settings, tail: bytearray | None = None) -> AsyncGenerator[bytes, None]:
    """The body as it streams in, given up as soon as it is larger than allowed; its last bytes are left in ``tail``."""
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > settings.max_request_bytes:
                raise RequestFault(
                    BODY_TOO_LARGE, f"the request has more than the {settings.max_request_bytes:,} bytes allowed"
                )
            if tail is not None:
                tail[:] = (tail + chunk)[-1024:]
            yield chunk
    except ClientDisconnect:
        raise RequestFault(BAD_REQUEST, "the request broke off before its end") from None


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _check(fields: type[Checked], value: Any) -> Checked:
    try:
        return fields.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the body"
        message = first["msg"].removeprefix("Value error, ")
        raise RequestFault(INVALID_FIELD, f"{place}: {message[0].lower()}{message[1:]}") from None


def check_counts(settings: Settings, *, k: int | None, queries: int) -> int:
    """How many hits to give; more of them, or more queries, than the settings allow are refused with RequestFault."""
    if queries > settings.max_images:
        raise RequestFault(INVALID_FIELD, f"{queries} in one request are more than the {settings.max_images} allowed")
    if k is not None and k > settings.max_k:
        raise RequestFault(INVALID_FIELD, f"k: {k} is more than the {settings.max_k} allowed")
    return k or min(settings.k, settings.max_k)
