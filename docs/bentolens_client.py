"""A client for BentoLens in one file: copy it. It needs httpx, and nothing else.

from bentolens_client import BentoLens

with BentoLens("http://localhost:3000", key="…") as lens:
    for result in lens.search(["photo.jpg", "other.jpg"], k=3):
        if isinstance(result, Refused):
            print(result.code, result.message)
        else:
            print([(hit.key, hit.score) for hit in result])
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypedDict, TypeVar, Unpack

import httpx

Picture = bytes | str | Path  # its bytes, or where its file is
Metadata = Mapping[str, dict[str, Any]]  # by key
Answer = TypeVar("Answer")
AGAIN = (429, 503)  # statuses after which the same request may be answered
PLACES = {"results", "embeddings", "items", "exact", "groups"}  # one of these is in each answer


@dataclass(frozen=True, slots=True)
class Hit:
    """An item of the catalogue; a higher ``score`` is closer: cosine similarity, or as the catalogue's metric has it."""

    id: int
    key: str
    score: float
    metadata: dict[str, Any]
    group: dict[str, Any] | None = None
    folded: list[int] | None = None
    box: list[float] | None = None
    match: float | None = None


class Hits(list[Hit]):
    """One query's hits; ``total``, ``facets``, ``classify`` and ``no_match`` where they were asked for (docs/api.md)."""

    total: int | None = None
    facets: list[dict[str, Any]] | None = None
    classify: list[dict[str, Any]] | None = None
    no_match: bool | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """One of ``picture``, ``url``, ``id`` and ``text``; ``region``: a box in the picture, [x, y, width, height] in shares."""

    picture: Picture | None = None
    url: str | None = None
    id: int | None = None
    text: str | None = None
    weight: float = 1.0
    region: Sequence[float] | None = None


@dataclass(frozen=True, slots=True)
class Query(Example):
    """An example, or several, or both: what hits are to be like (``positive``), and unlike (``negative``)."""

    positive: Sequence[Example] = ()
    negative: Sequence[Example] = ()
    combine: Literal["mean", "best"] = "mean"


class Shape(TypedDict, total=False):
    """How an answer is shaped; docs/api.md says what each means. A field is its name, or the names on the way to it."""

    k: int | None
    where: dict[str, Any] | None
    min_score: float
    fold: float
    group_by: str | list[str]
    diversity: float
    sort: str | dict[str, Any]
    offset: int
    limit: int
    facets: list[str | list[str]]
    classify: str | list[str]
    parts: Literal["items", "query"]
    match: bool
    min_match: float


@dataclass(frozen=True, slots=True)
class Item:
    """An item as the catalogue has it; ``thumbnail`` is a JPEG."""

    id: int
    key: str
    sha256: str
    added_at: str
    metadata: dict[str, Any]
    thumbnail: bytes | None


@dataclass(frozen=True, slots=True)
class Added:
    """An item that was added; ``replaced`` is the id of the one that was there under its key."""

    id: int
    key: str
    replaced: int | None


@dataclass(frozen=True, slots=True)
class Job:
    """How far a job is; ``items`` has None for a picture that is still to be added."""

    id: str
    state: str
    total: int
    added: int
    failed: int
    items: list[Added | Refused | None]


@dataclass(frozen=True, slots=True)
class Refused:
    """Why one of several things could not be answered: ``code`` for a program, the others for a person."""

    code: str
    message: str
    hint: str


class BentoLensError(Exception):
    """A request that was refused; ``status`` is its HTTP status."""

    def __init__(self, status: int, refused: Refused) -> None:
        super().__init__(f"{refused.message}; {refused.hint}")
        self.status = status
        self.refused = refused


class BentoLens:
    """Searches one service. Waits as long as Retry-After says and tries again where that helps, ``tries`` times in all.

    Each call raises BentoLensError when all of it was refused, and httpx.TransportError when nothing answers.
    """

    def __init__(self, url: str, key: str | None = None, *, timeout: float = 90, tries: int = 5) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout)
        self._tries = tries

    def search(self, pictures: Sequence[Picture], **shape: Unpack[Shape]) -> list[Hits | Refused]:
        """The pictures of the catalogue that look like each of these, nearest first; a bad one has its error in its place."""
        data = {name: v if isinstance(v, str) else json.dumps(v) for name, v in shape.items() if v is not None}
        return _each(self._send("/search", files=_files(pictures), data=data)["results"], _hits)

    def query(self, queries: Sequence[Query | Picture | int], **shape: Unpack[Shape]) -> list[Hits | Refused]:
        """The same for items (an int is an id), words, examples, pictures, and URLs, where the service fetches them."""
        given = {name: value for name, value in shape.items() if value is not None}
        return _each(self._send("/query", json={"queries": list(map(_query, queries)), **given})["results"], _hits)

    def explain(self, query: Example, item: int, *, detail: int = 1) -> dict[str, Any]:
        """Which parts of a query's picture and of an item's make their score (docs/api.md)."""
        return self._send("/explain", json={"query": _example(query), "id": item, "detail": detail})

    def check(self, pictures: Sequence[Picture], *, min_match: float = 0.9) -> list[list[dict[str, Any]] | Refused]:
        """The items that each picture is a copy of (id, key, kind, match), the best first; none where it is new."""
        answer = self._send("/duplicates/check", files=_files(pictures), data={"min_match": str(min_match)})
        return _each(answer["results"], lambda one: list(one["matches"]))

    def duplicates(self, **asked: Any) -> dict[str, Any]:
        """A page of groups of duplicates (docs/api.md)."""
        return self._send("/duplicates", json=asked)

    def embed(self, pictures: Sequence[Picture]) -> list[list[float] | Refused]:
        """Each picture's embedding."""
        found = self._send("/embed", files=_files(pictures))["embeddings"]
        return [one if isinstance(one, list) else Refused(**one["error"]) for one in found]

    def items(
        self, *, ids: Sequence[int] | None = None, keys: Sequence[str] | None = None, thumbnails: bool = False
    ) -> list[Item | Refused]:
        """Items of the catalogue, by their ids or by their keys."""
        body = {"ids": ids, "keys": keys, "thumbnail": thumbnails}
        answer = self._send("/items/get", json={name: value for name, value in body.items() if value is not None})
        return _each(answer["items"], lambda one: Item(**one | {"thumbnail": _decoded(one["thumbnail"])}))

    def add(self, pictures: Mapping[str, Picture], metadata: Metadata | None = None) -> list[Added | Refused]:
        """Add pictures by their keys, or replace those that are there; found by every query after this returns."""
        answer = self._add("/items/add", pictures, metadata)
        return _each(answer["items"], lambda one: Added(**one))

    def add_later(self, pictures: Mapping[str, Picture], metadata: Metadata | None = None) -> str:
        """Have pictures added by a job, and return its id; it goes on whatever happens to the service."""
        return str(self._add("/items/add?wait=false", pictures, metadata)["job"])

    def job(self, job: str) -> Job:
        """How far a job is."""
        told = self._send("/jobs/get", json={"id": job})
        items = [one and _each([one], lambda one: Added(**one))[0] for one in told["items"]]
        return Job(told["id"], told["state"], told["total"], told["added"], told["failed"], items)

    def remove(self, keys: Sequence[str]) -> list[int | Refused]:
        """Remove items by their keys; their ids, or why there is none."""
        answer = self._send("/items/remove", json={"keys": list(keys)}, once=True)
        return _each(answer["items"], lambda one: int(one["id"]))

    def update(self, metadata: Mapping[str, dict[str, Any]], *, replace: bool = False) -> list[int | Refused]:
        """Change the metadata of items by their keys: fields are set, and removed where they are None."""
        items = [{"key": key, "metadata": fields} for key, fields in metadata.items()]
        answer = self._send("/items/update", json={"items": items, "replace": replace}, once=True)
        return _each(answer["items"], lambda one: int(one["id"]))

    def _add(self, route: str, pictures: Mapping[str, Picture], metadata: Metadata | None) -> dict[str, Any]:
        more = metadata or {}
        data = {"keys": json.dumps(list(pictures)), "metadata": json.dumps([more.get(key) for key in pictures])}
        return self._send(route, files=_files(list(pictures.values())), data=data, once=True)

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, route: str, *, once: bool = False, **sent: Any) -> dict[str, Any]:
        if once:  # sent again, when its answer was lost, it is not done again
            sent["headers"] = {"Idempotency-Key": uuid.uuid4().hex}
        for turn in range(1, self._tries + 1):
            answer = self._http.post(route, **sent)
            if answer.status_code not in AGAIN or turn == self._tries:
                break
            told_to = answer.headers.get("Retry-After", "")
            time.sleep(float(told_to) if told_to.isdigit() else 2**turn / 4)
        told = _json(answer)
        if told.keys() & PLACES:  # also where a single thing was refused: its error is in its place too
            return told
        raise BentoLensError(answer.status_code, Refused(**told["error"]))


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        told = answer.json()
        if told.keys() & PLACES or told["error"].keys() == {"code", "message", "hint"}:
            return dict(told)
    except (ValueError, AttributeError, KeyError):
        pass
    told = f"{answer.request.url.host} answered with status {answer.status_code}, and not as BentoLens does"
    hint = "check the URL, and what stands in front of it"
    return {"error": {"code": "not_bentolens", "message": told, "hint": hint}}


def _each(answers: Sequence[Any], make: Callable[[dict[str, Any]], Answer]) -> list[Answer | Refused]:
    return [Refused(**one["error"]) if "error" in one else make(one) for one in answers]


def _decoded(text: str | None) -> bytes | None:
    return base64.b64decode(text) if text else None


def _read(picture: Picture) -> bytes:
    return picture if isinstance(picture, bytes) else Path(picture).read_bytes()


def _files(pictures: Sequence[Picture]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("images", ("picture", _read(picture))) for picture in pictures]


def _query(one: Query | Picture | int) -> dict[str, Any]:
    if isinstance(one, int):
        return {"id": one}
    if isinstance(one, str) and one.startswith(("http://", "https://")):
        return {"url": one}
    return _example(one) if isinstance(one, Example) else _example(Example(one))


def _example(one: Example) -> dict[str, Any]:
    body: dict[str, Any] = {name: getattr(one, name) for name in ("url", "id", "text", "weight", "region")}
    if one.picture is not None:
        body["image"] = base64.b64encode(_read(one.picture)).decode()
    if isinstance(one, Query):
        lists = {"positive": one.positive, "negative": one.negative}
        body |= {name: [_example(each) for each in some] for name, some in lists.items()} | {"combine": one.combine}
    return {name: value for name, value in body.items() if value is not None}


def _hits(result: dict[str, Any]) -> Hits:
    hits = Hits(Hit(**hit) for hit in result["hits"])
    hits.total, hits.facets, hits.classify = (result.get(name) for name in ("total", "facets", "classify"))
    hits.no_match = result.get("no_match")
    return hits
