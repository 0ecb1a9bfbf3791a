"""The one table from named errors to codes, HTTP statuses and hints, and the body that every error has."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from pydantic import BaseModel

from index import CatalogueBusy, DamagedIndex, DiskFull, InvalidEntry, InvalidFilter, KeyReused, VectorIndexError
from model import (
    FORMAT_NAMES,
    ImageError,
    ImageTooLarge,
    MapUnavailable,
    ModelError,
    UnknownWords,
    UnreadableImage,
    UnsupportedImage,
    WordsUnavailable,
)
from search import EmbedderUnavailable, InvalidQuery, ItemNotFound, RegionsUnavailable

LONGEST_MESSAGE = 400  # characters


class ErrorBody(BaseModel):
    """What went wrong, for a program (``code``), for a person (``message``), and what to do next (``hint``)."""

    code: str
    message: str
    hint: str


class ErrorAnswer(BaseModel):
    """The body of every answer that is not a success, and of every picture that could not be answered."""

    error: ErrorBody


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """A kind of error: its code, its HTTP status, what to do next, and the named errors that are of it."""

    code: str
    status: HTTPStatus
    hint: str
    errors: tuple[type[Exception], ...] = ()
    retry_after: int | None = None  # seconds


class RequestError(Exception):
    """A request that cannot be answered as it is; carries its own kind, and after how many seconds to try again."""

    def __init__(self, kind: ErrorKind, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after or kind.retry_after


ALL_KINDS: list[ErrorKind] = []


def _kind(
    code: str, status: HTTPStatus, hint: str, *errors: type[Exception], retry_after: int | None = None
) -> ErrorKind:
    ALL_KINDS.append(ErrorKind(code, status, hint, errors, retry_after))
    return ALL_KINDS[-1]


SEE_DOCS = "see /docs.json for what this route takes"
SEND_KEY = "send Authorization: Bearer KEY, with a key that the operator has given you"
LATER = "try again after the seconds that the header Retry-After names"

# An error is of the first kind that names its class, or one above it.
BAD_REQUEST = _kind("bad_request", HTTPStatus.BAD_REQUEST, SEE_DOCS)
UNREADABLE = _kind(
    "unreadable_image", HTTPStatus.BAD_REQUEST, "check that the file opens and was sent whole", UnreadableImage
)
URL_UNAVAILABLE = _kind("url_unavailable", HTTPStatus.BAD_REQUEST, "check the URL, or send the picture itself")
NO_KEY = _kind("key_required", HTTPStatus.UNAUTHORIZED, SEND_KEY)
NOT_LOCAL = _kind(
    "key_required",
    HTTPStatus.UNAUTHORIZED,
    "the operator sets LENS_KEYS_FILE, or LENS_ALLOW_ANONYMOUS=1 to answer everyone",
)
WRONG_KEY = _kind("wrong_key", HTTPStatus.UNAUTHORIZED, SEND_KEY)
SCOPE_MISSING = _kind("scope_missing", HTTPStatus.FORBIDDEN, "use a key that has the scope")
READ_ONLY = _kind(
    "read_only", HTTPStatus.FORBIDDEN, "the operator sets LENS_WRITABLE=1 where the catalogue may be changed"
)
JOB_NOT_FOUND = _kind("job_not_found", HTTPStatus.NOT_FOUND, "a job can be asked for until a day after its end")
NOT_FOUND = _kind(
    "item_not_found", HTTPStatus.NOT_FOUND, "use an id or key that a search or a build has named", ItemNotFound
)
NO_ROUTE = _kind("no_such_route", HTTPStatus.NOT_FOUND, "see /docs.json for the routes")
WRONG_METHOD = _kind("wrong_method", HTTPStatus.METHOD_NOT_ALLOWED, "see /docs.json for the routes")
TOO_LARGE = _kind("image_too_large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "send a smaller copy", ImageTooLarge)
BODY_TOO_LARGE = _kind(
    "request_too_large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "send fewer or smaller pictures in one request"
)
UNSUPPORTED = _kind(
    "unsupported_image",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    f"send {FORMAT_NAMES.replace(' and ', ' or ')}",
    UnsupportedImage,
)
WRONG_MEDIA = _kind("wrong_media_type", HTTPStatus.UNSUPPORTED_MEDIA_TYPE, SEE_DOCS)
INVALID_FIELD = _kind("invalid_field", HTTPStatus.UNPROCESSABLE_ENTITY, SEE_DOCS)
INVALID_QUERY = _kind("invalid_query", HTTPStatus.UNPROCESSABLE_ENTITY, "ask otherwise", InvalidQuery)
NO_MAP = _kind(
    "map_unavailable",
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "ask with detail 1, if that was not so, or for whole pictures",
    MapUnavailable,
)
UNKNOWN_WORDS = _kind(
    "unknown_words",
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "use words that the model knows, or search by a picture",
    UnknownWords,
)
NO_WORDS = _kind(
    "words_unavailable", HTTPStatus.UNPROCESSABLE_ENTITY, "search by a picture or an item", WordsUnavailable
)
NO_REGIONS = _kind(
    "regions_unavailable",
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "search whole pictures, or build the catalogue with --regions",
    RegionsUnavailable,
)
INVALID_FILTER = _kind(
    "invalid_filter", HTTPStatus.UNPROCESSABLE_ENTITY, "mend the filter at the place named", InvalidFilter
)
INVALID_ITEM = _kind(
    "invalid_item",
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "mend the item named",
    InvalidEntry,
)
KEY_REUSED = _kind(
    "idempotency_key_reused", HTTPStatus.UNPROCESSABLE_ENTITY, "use a new Idempotency-Key for each request", KeyReused
)
URL_REFUSED = _kind(
    "url_refused", HTTPStatus.UNPROCESSABLE_ENTITY, "send the picture itself, or a URL of a host that is allowed here"
)
BUSY = _kind("busy", HTTPStatus.TOO_MANY_REQUESTS, LATER)
RATE_LIMITED = _kind("rate_limited", HTTPStatus.TOO_MANY_REQUESTS, LATER)
UNEXPECTED = _kind("internal_error", HTTPStatus.INTERNAL_SERVER_ERROR, "report this with the server's log")
NOT_READY = _kind(
    "extractor_unavailable",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "try again in a few seconds",
    EmbedderUnavailable,
    retry_after=2,
)
CATALOGUE_BUSY = _kind(
    "catalogue_busy", HTTPStatus.SERVICE_UNAVAILABLE, "try again in a few seconds", CatalogueBusy, retry_after=2
)
FULL = _kind("disk_full", HTTPStatus.INSUFFICIENT_STORAGE, "the operator must free some space", DiskFull)
STARTING = _kind("not_started", HTTPStatus.SERVICE_UNAVAILABLE, "try again in a few seconds; the log says why")
TIMED_OUT = _kind("timed_out", HTTPStatus.SERVICE_UNAVAILABLE, "try again later, or with fewer pictures in one request")
DAMAGED = _kind(
    "catalogue_damaged", HTTPStatus.SERVICE_UNAVAILABLE, "the operator must restore the catalogue", DamagedIndex
)
UNAVAILABLE = _kind(
    "catalogue_unavailable",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "the operator must see to the catalogue",
    VectorIndexError,
)
NO_MODEL = _kind("model_unavailable", HTTPStatus.SERVICE_UNAVAILABLE, "the operator must see to the model", ModelError)
OTHER_IMAGE = _kind("unreadable_image", HTTPStatus.BAD_REQUEST, "send another picture", ImageError)

STATUSES: dict[str, int] = {kind.code: kind.status for kind in ALL_KINDS}
KINDS_BY_STATUS: dict[HTTPStatus, list[ErrorKind]] = {
    status: [kind for kind in ALL_KINDS if kind.status == status] for status in {kind.status for kind in ALL_KINDS}
}


def kind_of(error: Exception) -> ErrorKind:
    """Return the kind of a named error; UNEXPECTED for one that has no name here."""
    if isinstance(error, RequestError):
        return error.kind
    return next((kind for kind in ALL_KINDS if isinstance(error, kind.errors)), UNEXPECTED)


def error_answer(error: Exception) -> ErrorAnswer:
    """Return an error's body; one without a name is not described, since its text may hold paths."""
    kind = kind_of(error)
    message = "something went wrong that is not the request's fault" if kind is UNEXPECTED else str(error)
    # What a caller sent may be quoted in it: too long to repeat, or half a surrogate pair, which no answer can carry.
    message = message.encode("utf-8", "backslashreplace").decode()
    message = message if len(message) <= LONGEST_MESSAGE else message[:LONGEST_MESSAGE] + "…"
    return error_answer_of(kind, message)


def error_headers(error: Exception) -> dict[str, str]:
    """Return the headers that go with an error's body."""
    kind = kind_of(error)
    after = error.retry_after if isinstance(error, RequestError) else kind.retry_after
    headers = {} if after is None else {"Retry-After": str(after)}
    if kind.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="BentoLens"'
    return headers


def error_answer_of(kind: ErrorKind, message: str) -> ErrorAnswer:
    """Return the body of an error of a kind."""
    return ErrorAnswer(error=ErrorBody(code=kind.code, message=message, hint=kind.hint))


def status_of(answer: ErrorAnswer) -> int:
    """Return the HTTP status that goes with an error's body."""
    return STATUSES[answer.error.code]
