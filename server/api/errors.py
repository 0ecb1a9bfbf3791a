"""What the doors say: the JSON shapes of every answer, and the one table from named errors to codes and statuses."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field

from index import DamagedIndex, Hit, IndexFault, Item, WrongFilter
from model import ImageFault, ImageTooLarge, ModelFault, UnreadableImage, UnsupportedImage

LONGEST_MESSAGE = 400  # characters


class ErrorBody(BaseModel):
    """What went wrong, for a program (``code``), for a person (``message``), and what to do next (``hint``)."""

    code: str
    message: str
    hint: str


class ErrorAnswer(BaseModel):
    """The body of every answer that is not a success, and of every picture that could not be answered."""

    error: ErrorBody


class HitBody(BaseModel):
    """An item found; ``score`` is cosine similarity in [-1, 1], higher is closer."""

    id: int
    key: str
    score: float
    metadata: dict[str, Any]


class Found(BaseModel):
    """One query's hits, nearest first; ``batch_size`` is how many pictures its embedding shared the network with."""

    hits: list[HitBody]
    batch_size: int | None = Field(description="null where nothing was embedded, as for a query by id")


class ListAnswer(BaseModel):
    """An answer that has one part for each thing asked, in order; a part may be an error."""

    @abstractmethod
    def parts(self) -> Sequence[object]:
        """One part for each thing that was asked."""

    def sole_error(self) -> ErrorAnswer | None:
        """The error when one thing was asked and could not be answered: then it is the whole answer's status too."""
        parts = self.parts()
        return parts[0] if len(parts) == 1 and isinstance(parts[0], ErrorAnswer) else None


class SearchAnswer(ListAnswer):
    """One result for each query, in order; a query that could not be answered has an error in its place."""

    results: list[Found | ErrorAnswer]
    generation: int
    model: str
    timings_ms: dict[str, float]

    def parts(self) -> Sequence[object]:
        return self.results


class EmbedAnswer(ListAnswer):
    """One unit vector for each picture, in order, or an error in its place."""

    embeddings: list[list[float] | ErrorAnswer]
    dim: int
    model: str
    batch_sizes: list[int | None]
    timings_ms: dict[str, float]

    def parts(self) -> Sequence[object]:
        return self.embeddings


class ItemBody(BaseModel):
    """An item of the catalogue; ``thumbnail`` is a base64 JPEG when it was asked for."""

    id: int
    key: str
    sha256: str
    added_at: str
    metadata: dict[str, Any]
    thumbnail: str | None = None


class ItemsAnswer(ListAnswer):
    """The items asked for, in order; one that is not there has an error in its place."""

    items: list[ItemBody | ErrorAnswer]

    def parts(self) -> Sequence[object]:
        return self.items


@dataclass(frozen=True, slots=True)
class Kind:
    """How a named error is told: its code, its HTTP status and what to do next."""

    code: str
    status: HTTPStatus
    hint: str
    retry_after: int | None = None  # seconds


class RequestFault(Exception):
    """A request that cannot be answered as it is; carries its own kind, and after how many seconds to try again."""

    def __init__(self, kind: Kind, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after or kind.retry_after


SEE_DOCS = "see /docs.json for what this route takes"
SEND_KEY = "send Authorization: Bearer KEY, with a key that the operator has given you"
LATER = "try again after the seconds that the header Retry-After names"

BAD_REQUEST = Kind("bad_request", HTTPStatus.BAD_REQUEST, SEE_DOCS)
WRONG_MEDIA = Kind("wrong_media_type", HTTPStatus.UNSUPPORTED_MEDIA_TYPE, SEE_DOCS)
INVALID_FIELD = Kind("invalid_field", HTTPStatus.UNPROCESSABLE_ENTITY, SEE_DOCS)
NO_KEY = Kind("key_required", HTTPStatus.UNAUTHORIZED, SEND_KEY)
WRONG_KEY = Kind("wrong_key", HTTPStatus.UNAUTHORIZED, SEND_KEY)
NOT_LOCAL = Kind(
    "key_required", HTTPStatus.UNAUTHORIZED, "the operator sets LENS_KEYS_FILE, or LENS_OPEN=1 to answer everyone"
)
SCOPE_MISSING = Kind("scope_missing", HTTPStatus.FORBIDDEN, "use a key that has the scope")
NO_ROUTE = Kind("no_such_route", HTTPStatus.NOT_FOUND, "see /docs.json for the routes")
WRONG_METHOD = Kind("wrong_method", HTTPStatus.METHOD_NOT_ALLOWED, "see /docs.json for the routes")
BUSY = Kind("busy", HTTPStatus.TOO_MANY_REQUESTS, LATER)
RATE_LIMITED = Kind("rate_limited", HTTPStatus.TOO_MANY_REQUESTS, LATER)
URL_REFUSED = Kind(
    "url_refused", HTTPStatus.UNPROCESSABLE_ENTITY, "send the picture itself, or a URL of a host that is allowed here"
)
URL_UNAVAILABLE = Kind("url_unavailable", HTTPStatus.BAD_REQUEST, "check the URL, or send the picture itself")
NOT_FOUND = Kind("item_not_found", HTTPStatus.NOT_FOUND, "use an id or key that a search or a build has named")
BODY_TOO_LARGE = Kind(
    "request_too_large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "send fewer or smaller pictures in one request"
)
NOT_READY = Kind("extractor_unavailable", HTTPStatus.SERVICE_UNAVAILABLE, "try again in a few seconds", 2)
TIMED_OUT = Kind("timed_out", HTTPStatus.SERVICE_UNAVAILABLE, "try again later, or with fewer pictures in one request")
UNEXPECTED = Kind("internal_error", HTTPStatus.INTERNAL_SERVER_ERROR, "report this with the server's log")

# The first row that an error is an instance of tells it.
KINDS: tuple[tuple[type[Exception], Kind], ...] = (
    (ImageTooLarge, Kind("image_too_large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "send a smaller copy")),
    (
        UnsupportedImage,
        Kind(
            "unsupported_image",
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "send JPEG, PNG, WebP, AVIF, HEIC, GIF, TIFF, BMP, JPEG 2000 or PPM",
        ),
    ),
    (UnreadableImage, Kind("unreadable_image", HTTPStatus.BAD_REQUEST, "check that the file opens and was sent whole")),
    (ImageFault, Kind("unreadable_image", HTTPStatus.BAD_REQUEST, "send another picture")),
    (WrongFilter, Kind("invalid_filter", HTTPStatus.UNPROCESSABLE_ENTITY, "mend the filter at the place named")),
    (
        DamagedIndex,
        Kind("catalogue_damaged", HTTPStatus.SERVICE_UNAVAILABLE, "the operator must restore the catalogue"),
    ),
    (
        IndexFault,
        Kind("catalogue_unavailable", HTTPStatus.SERVICE_UNAVAILABLE, "the operator must see to the catalogue"),
    ),
    (ModelFault, Kind("model_unavailable", HTTPStatus.SERVICE_UNAVAILABLE, "the operator must see to the model")),
)

REQUEST_KINDS = (
    *(BAD_REQUEST, WRONG_MEDIA, INVALID_FIELD, NOT_FOUND, BODY_TOO_LARGE, NOT_READY, TIMED_OUT, UNEXPECTED),
    *(NO_KEY, WRONG_KEY, SCOPE_MISSING, NO_ROUTE, WRONG_METHOD, BUSY, RATE_LIMITED, URL_REFUSED, URL_UNAVAILABLE),
)
ALL_KINDS = (*REQUEST_KINDS, *(kind for _, kind in KINDS))
STATUSES: dict[str, int] = {kind.code: kind.status for kind in ALL_KINDS}
ERROR_KINDS: dict[HTTPStatus, list[Kind]] = {
    status: [kind for kind in ALL_KINDS if kind.status == status] for status in {kind.status for kind in ALL_KINDS}
}


def kind_of(error: Exception) -> Kind:
    """The kind of a named error; UNEXPECTED for one that has no name here."""
    if isinstance(error, RequestFault):
        return error.kind
    return next((kind for named, kind in KINDS if isinstance(error, named)), UNEXPECTED)


def error_answer(error: Exception) -> ErrorAnswer:
    """The body that tells an error; one without a name is not described, since its text may hold paths."""
    kind = kind_of(error)
    message = "something went wrong that is not the request's fault" if kind is UNEXPECTED else str(error)
    # What a caller sent may be quoted in it: too long to repeat, or half a surrogate pair, which no answer can carry.
    message = message.encode("utf-8", "backslashreplace").decode()
    message = message if len(message) <= LONGEST_MESSAGE else message[:LONGEST_MESSAGE] + "…"
    return error_answer_of(kind, message)


def headers_of(error: Exception) -> dict[str, str]:
    """The headers that go with an error's body."""
    after = error.retry_after if isinstance(error, RequestFault) else None
    return {} if after is None else {"Retry-After": str(after)}


def error_answer_of(kind: Kind, message: str) -> ErrorAnswer:
    """The body that tells an error of a kind."""
    return ErrorAnswer(error=ErrorBody(code=kind.code, message=message, hint=kind.hint))


def status_of(answer: ErrorAnswer) -> int:
    """The HTTP status that goes with an error's body."""
    return STATUSES[answer.error.code]


def found(hits: list[Hit], batch_size: int | None) -> Found:
    """One query's hits in the shape of an answer."""
    bodies = [HitBody(id=h.item.id, key=h.item.key, score=h.score, metadata=h.item.metadata) for h in hits]
    return Found(hits=bodies, batch_size=batch_size)


def item_body(item: Item, thumbnail: str | None) -> ItemBody:
    """An item in the shape of an answer."""
    return ItemBody(
        id=item.id,
        key=item.key,
        sha256=item.sha256,
        added_at=item.added_at,
        metadata=item.metadata,
        thumbnail=thumbnail,
    )
