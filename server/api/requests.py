"""What the routes take, checked before any work is done.

BentoML's own parsing of a multipart request would fetch a URL found in a file field, has no limit on a body's size and
answers 500 to what it cannot read (docs/decisions/0003). So the forms here tell BentoML what a route takes, for
/docs.json and its clients, and leave the reading to ``parsing``.
"""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

import bentoml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from starlette.requests import Request

from server.api.errors import BAD_REQUEST, INVALID_FIELD, RequestError
from settings import Settings

Checked = TypeVar("Checked", bound=BaseModel)


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = BeforeValidator(_whole)  # JSON has one kind of number: 3.0 is 3
Id = Annotated[int, Field(ge=0, lt=2**63), Whole]


class Form(bentoml.IODescriptor):
    """A route's input as BentoML documents it; the route itself reads the request."""

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> Self:
        """Read nothing: an error here would have BentoML's shape."""
        return cls.model_construct(**dict.fromkeys(cls.model_fields))


class PicturesForm(Form):
    """One or more picture files."""

    images: list[Path] = Field(description="one or more picture files")


class Strict(BaseModel):
    """A body, or a part of one, that has no fields but its own."""

    model_config = ConfigDict(extra="forbid", strict=True)


TO_USUAL = bytes.maketrans(b"-_", b"+/")
PIECE = 2**18  # characters of base64 that are decoded at once
BLANKS = "each was a + that something decoded as a form's blank; send + as it is, or in a form as %2B"


class NoFields(Strict):
    """The text fields of a multipart request that has none."""


def one_of(*names: str) -> ConfigDict:
    """Return the configuration of a model of which just one of some fields has to be given, as JSON Schema says it."""
    given: list[Any] = [{"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in names]
    return ConfigDict(json_schema_extra={"oneOf": given})


def is_text(text: str) -> str:
    """Return text that is Unicode. Raises ValueError for half a surrogate pair, which JSON can write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("half a surrogate pair is no text") from None
    return text


Text = Annotated[str, AfterValidator(is_text)]


class PictureOne(Strict):
    """A picture in base64, or by its URL."""

    model_config = one_of("image", "url")
    NAMES: ClassVar[tuple[str, ...]] = ("image", "url")

    image: str | None = Field(
        None, description="a picture file in base64", json_schema_extra={"contentEncoding": "base64"}
    )
    url: str | None = Field(None, description="where a picture is, on a host that LENS_URL_HOSTS allows")

    @model_validator(mode="after")
    def _names_one_thing(self) -> Self:
        self.check_one()
        return self

    def check_one(self, *, needed: bool = True) -> None:
        """Raise ValueError where more than one thing is named, or none where one is needed."""
        *others, last = self.NAMES
        given = sum(getattr(self, name) is not None for name in self.NAMES)
        if given > 1 or (needed and not given):
            raise ValueError(f"give either {', '.join(others)} or {last}")

    def picture(self) -> bytes:
        """Return the picture's bytes. Raises RequestError when the text is not base64, by the usual or the URL's alphabet."""
        text = self.image or ""
        if text[:5].lower() == "data:":
            text = text.partition(",")[2]
        if " " in text:
            text = re.sub(r"[ \t]*[\r\n]+[ \t]*|^[ \t]+|[ \t]+$", "", text)  # in lines, as some tools write it
            if " " in text:
                raise RequestError(BAD_REQUEST, f"the field image has blanks in its base64: {BLANKS}")
        try:
            return decode_base64(text)
        except (binascii.Error, ValueError):
            raise RequestError(BAD_REQUEST, "the field image is not base64") from None


def decode_base64(text: str) -> bytes:
    """Decode base64, by the usual or the URL's alphabet, in lines or not, padded or not. Raises ValueError.

    It goes piece by piece: a thread that decodes 80 MB at once keeps all others waiting for a third of a second.
    """
    decoded, rest, text = bytearray(), b"", text.rstrip("\t\r\n")
    for at in range(0, len(text), PIECE):
        encoded = rest + text[at : at + PIECE].encode("ascii").translate(TO_USUAL, b"\t\r\n")
        if last := at + PIECE >= len(text):
            encoded += b"=" * (-len(encoded) % 4)
        end = len(encoded) - len(encoded) % 4
        if not last and b"=" in encoded:
            raise ValueError("padding before the end")
        decoded += base64.b64decode(encoded[:end], validate=True)
        rest = encoded[end:]
    return bytes(decoded)


class ItemsFields(Strict):
    """The body of POST /items/get: ids or keys, and whether thumbnails are wanted."""

    model_config = one_of("ids", "keys")

    ids: list[Id] | None = None
    keys: list[Text] | None = None
    thumbnail: bool = True

    @model_validator(mode="after")
    def _names_one_thing(self) -> Self:
        if (self.ids is None) == (self.keys is None):
            raise ValueError("give either ids or keys")
        return self


class ItemsForm(Form, ItemsFields):
    """The body of POST /items/get."""


def check(fields: type[Checked], value: Any) -> Checked:
    """Return the fields that a body has. Raises RequestError (422), which names the place."""
    try:
        return fields.model_validate(value)
    except ValidationError as error:
        errors = error.errors()
        # A union has an error for each of its members; that which got furthest is about what was meant.
        same = [one for one in errors if one["loc"][:1] == errors[0]["loc"][:1]]
        first = max(same, key=lambda one: len(_names_of(one["loc"]))) if _is_of_union(errors[0]["loc"]) else errors[0]
        place = ".".join(_names_of(first["loc"])) or "the body"
        known = {"model_type": "it should be a JSON object", "model_attributes_type": "it should be a JSON object"}
        message = known.get(first["type"], first["msg"].removeprefix("Value error, "))
        raise RequestError(INVALID_FIELD, f"{place}: {message[0].lower()}{message[1:]}") from None


def _is_of_union(place: tuple[int | str, ...]) -> bool:
    return len(_names_of(place)) < len(place)


def _names_of(place: tuple[int | str, ...]) -> list[str]:
    """Return the fields of a place: pydantic's own names of a union's members, and of our classes, tell a caller nothing."""
    return [str(part) for part in place if "[" not in str(part) and not str(part)[:1].isupper()]


def too_many(count: int, settings: Settings) -> RequestError:
    """Return the error for more things in one request than the settings allow."""
    return RequestError(INVALID_FIELD, f"{count} in one request are more than the {settings.max_images} allowed")


def check_count(count: int, settings: Settings) -> None:
    """Raise RequestError for more things in one request than the settings allow."""
    if count > settings.max_images:
        raise too_many(count, settings)
