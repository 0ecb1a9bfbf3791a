"""The one table of routes: the gateway, the service, /docs.json and docs/api.md follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from server.api.duplicate_schemas import (
    CheckAnswer,
    CheckFields,
    CheckForm,
    CheckPictures,
    DuplicatesAnswer,
    DuplicatesFields,
    DuplicatesForm,
)
from server.api.explain_schemas import ExplainAnswer, ExplainFields, ExplainForm
from server.api.item_requests import (
    AddFields,
    AddForm,
    AddItems,
    FacetsFields,
    FacetsForm,
    JobFields,
    JobForm,
    RemoveFields,
    RemoveForm,
    UpdateFields,
    UpdateForm,
)
from server.api.item_schemas import AddedAnswer, ChangedAnswer, FacetsAnswer, JobAnswer
from server.api.query_requests import QueryFields, QueryForm, SearchFields, SearchForm
from server.api.requests import (
    Form,
    ItemsFields,
    ItemsForm,
    NoFields,
    PicturesForm,
)
from server.api.schemas import EmbedAnswer, ItemsAnswer, SearchAnswer

Scope = Literal["read", "write"]
SCOPES: frozenset[str] = frozenset({"read", "write"})


@dataclass(frozen=True, slots=True)
class Route:
    """A route: who may call it, what it takes and what it gives.

    ``scope`` is what a key must have, None where no key is needed. ``form`` is the request as BentoML documents it,
    ``fields`` those of a JSON body or next to the files of a multipart one, ``alternative`` those of the JSON body that a
    multipart route takes as well. ``below``: it has all paths below it too.
    ``documented``: it is in /docs.json. ``parameters``: those of its query and its headers, as OpenAPI has them.
    """

    path: str
    method: Literal["GET", "POST"]
    scope: Scope | None
    summary: str
    takes: str = ""
    gives: str = ""
    form: type[Form] | None = None
    fields: type[BaseModel] | None = None
    alternative: type[BaseModel] | None = None
    answer: type[BaseModel] | None = None
    request_example: Any = None
    answer_example: Any = None
    below: bool = False
    documented: bool = True
    parameters: tuple[dict[str, Any], ...] = ()

    @property
    def multipart(self) -> bool:
        """Whether it takes picture files."""
        return self.form is not None and issubclass(self.form, PicturesForm)


HITS = [{"id": 1, "key": "beach/IMG_0042.jpg", "score": 0.913, "metadata": {"width": 4032, "height": 3024}}]
SEARCHED = {
    "results": [{"hits": HITS, "batch_size": 8}],
    "generation": 1,
    "model": "resnet50.tv_in1k",
    "timings_ms": {"decode": 6.1, "embed": 24.8, "search": 0.4},
}
EMBEDDED = {
    "embeddings": [[0.6, 0.8]],
    "dim": 2,
    "model": "resnet50.tv_in1k",
    "batch_sizes": [8],
    "timings_ms": {"decode": 6.1, "embed": 24.8},
}
ITEM = {
    "id": 1,
    "key": "beach/IMG_0042.jpg",
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "added_at": "2026-11-21T10:00:00Z",
    "metadata": {"width": 4032, "height": 3024},
    "thumbnail": None,
}

SEARCH = Route(
    *("/search", "POST", "read", "Find the pictures that look like each of the pictures sent."),
    takes="multipart: `images` (one or more files), `k`, `where` (JSON), and what is below",
    gives="one result for each picture, in order",
    form=SearchForm,
    fields=SearchFields,
    answer=SearchAnswer,
    answer_example=SEARCHED,
)
QUERY = Route(
    *("/query", "POST", "read"),
    "Find the pictures that look like each of the queries: pictures in base64 or by URL, items, words, or several of them.",
    takes='JSON: `{"queries": [{"image": base64, "url", "id" or "text": …}, …], "k", "where"}`, and what is below',
    gives="the same; an item asked for by id is not its own hit; URLs need `LENS_URL_HOSTS`",
    form=QueryForm,
    fields=QueryFields,
    answer=SearchAnswer,
    request_example={"queries": [{"id": 1}], "k": 3, "where": {"width": {"$gte": 640}}},
    answer_example=SEARCHED,
)
EMBED = Route(
    *("/embed", "POST", "read", "Give each picture's embedding."),
    takes="multipart: `images`",
    gives='`{"embeddings": [[…]], "dim", "model", "batch_sizes", "timings_ms"}`',
    form=PicturesForm,
    fields=NoFields,
    answer=EmbedAnswer,
    answer_example=EMBEDDED,
)
SHARES = {
    **{"parts": [[0.21, 0.31], [0.18, 0.21]], "contrast": [[0.05, 0.19], [0.02, 0.04]]},
    **{"view": [0.0, 0.0, 1.0, 1.0], "strongest": [0.5, 0.0, 0.5, 0.5], "source": "thumbnail", "overlay": None},
}
EXPLAIN = Route(
    *("/explain", "POST", "read", "Say which parts of a query's picture and of a hit's make their score."),
    takes='JSON: `{"query": one as in /query, "id": an item, "detail": 1 or 2, "overlay"}`',
    gives='`{"score", "exact", "query": {"parts", "contrast", "view", "strongest", "source", "overlay"}, "hit": the same}`',
    form=ExplainForm,
    fields=ExplainFields,
    answer=ExplainAnswer,
    request_example={"query": {"id": 1}, "id": 2, "overlay": False},
    answer_example={
        **{"score": 0.913, "exact": True, "query": SHARES, "hit": SHARES, "model": "resnet50.tv_in1k"},
    },
)
PICTURE = {
    **{"id": 1, "key": "beach/IMG_0042.jpg", "bytes": 3_145_728, "format": "JPEG"},
    "metadata": {"width": 4032, "height": 3024},
}
DUPLICATES = Route(
    *(
        "/duplicates",
        "POST",
        "read",
        "Give groups of duplicates, the largest first, and which picture of each to keep.",
    ),
    takes='JSON: `{"kinds", "min_match", "within", "alike", "where", "prefer", "avoid", "offset", "limit"}`',
    gives='`{"groups": [{"kind", "keep": {…, "reason"}, "duplicates": [{…, "kind", "match", "score"}]}], "total", '
    '"compared", "items", "complete"}`; pictures are compared in the background, from the first call on',
    form=DuplicatesForm,
    fields=DuplicatesFields,
    answer=DuplicatesAnswer,
    request_example={"kinds": ["identical", "same_pixels", "altered_copy"], "limit": 20},
    answer_example={
        "groups": [
            {
                **{"kind": "altered_copy", "keep": {**PICTURE, "reason": "most pixels, 4032 × 3024"}},
                "duplicates": [
                    {
                        **PICTURE,
                        "id": 7,
                        "key": "small/IMG_0042.jpg",
                        "kind": "altered_copy",
                        "match": 0.998,
                        "score": 0.97,
                    }
                ],
            }
        ],
        **{"total": 1, "compared": 59, "items": 59, "complete": True},
    },
)
CHECK = Route(
    *("/duplicates/check", "POST", "read", "Say whether pictures are in the catalogue already, altered or not."),
    takes='multipart: `images`, `min_match`; or JSON: `{"pictures": [{"image": base64} or {"url": …}], "min_match"}`',
    gives='`{"results": [{"duplicate", "matches": [{"id", "key", "kind", "match"}]}], "timings_ms"}`, in order',
    form=CheckForm,
    fields=CheckFields,
    alternative=CheckPictures,
    answer=CheckAnswer,
    request_example={"pictures": [{"url": "https://example.com/a.jpg"}], "min_match": 0.9},
    answer_example={
        "results": [
            {
                "duplicate": True,
                "matches": [{"id": 1, "key": "beach/IMG_0042.jpg", "kind": "altered_copy", "match": 0.998}],
            }
        ],
        "timings_ms": {"decode": 6.1, "embed": 24.8, "find": 0.9},
    },
)
ITEMS_GET = Route(
    *("/items/get", "POST", "read", "Give items by id or key, with their thumbnails."),
    takes='JSON: `{"ids": […]}` or `{"keys": […]}`, `"thumbnail"`',
    gives='`{"items": [{"id", "key", "sha256", "added_at", "metadata", "thumbnail"}]}`',
    form=ItemsForm,
    fields=ItemsFields,
    answer=ItemsAnswer,
    request_example={"ids": [1], "thumbnail": False},
    answer_example={"items": [ITEM]},
)
REPEATABLE = {
    **{"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "minLength": 1, "maxLength": 255}},
    "description": "a name for this request: sent again under it within a day, it is not done again, and has the same answer",
}
WAIT = {
    **{"name": "wait", "in": "query", "schema": {"type": "boolean", "default": True}},
    "description": "false: the pictures are kept and added later; the answer (202) has a job's id for /jobs/get",
}
CHANGED = {"items": [{"id": 1}], "changed": 1}
ITEMS_FACETS = Route(
    *(
        "/items/facets",
        "POST",
        "read",
        "Count the values that fields have, among all items or those that a filter allows.",
    ),
    takes='JSON: `{"where", "fields": ["label", ["camera", "make"]], "limit"}`',
    gives='`{"facets": [{"field", "count", "distinct", "values": [{"value", "count"}], "numbers", "texts"}], "count"}`; '
    "`numbers` and `texts` are the least and the greatest",
    form=FacetsForm,
    fields=FacetsFields,
    answer=FacetsAnswer,
    request_example={"fields": ["label"], "where": {"width": {"$gte": 640}}, "limit": 10},
    answer_example={
        "facets": [
            {
                **{"field": ["label"], "count": 59, "distinct": 1, "values": [{"value": "beach", "count": 59}]},
                **{"numbers": None, "texts": ["beach", "beach"]},
            }
        ],
        "count": 59,
    },
)
ITEMS_ADD = Route(
    *("/items/add", "POST", "write"),
    "Add pictures, or replace those under the same keys. All that can be read are on the disk when this is answered, and "
    "found by every next query; the others have an error in their place.",
    takes="multipart: `images`, `keys` and `metadata` as JSON lists in the same order (else a file's name is its key); or "
    'JSON: `{"items": [{"image": base64} or {"url": …}, with "key", "metadata"]}`',
    gives='`{"items": [{"id", "key", "replaced": the id before or null}], "added"}`; with `?wait=false`, 202 and '
    '`{"job": an id for /jobs/get, "items": [], "added": 0}` once all is kept on the disk',
    form=AddForm,
    fields=AddFields,
    alternative=AddItems,
    answer=AddedAnswer,
    parameters=(WAIT, REPEATABLE),
    request_example={"items": [{"url": "https://example.com/a.jpg", "key": "a.jpg", "metadata": {"label": "beach"}}]},
    answer_example={"items": [{"id": 60, "key": "a.jpg", "replaced": None}], "added": 1},
)
ITEMS_REMOVE = Route(
    *("/items/remove", "POST", "write", "Remove items by id or key."),
    takes='JSON: `{"ids": […]}` or `{"keys": […]}`',
    gives='`{"items": [{"id"}], "changed"}`',
    form=RemoveForm,
    parameters=(REPEATABLE,),
    fields=RemoveFields,
    answer=ChangedAnswer,
    request_example={"keys": ["a.jpg"]},
    answer_example=CHANGED,
)
ITEMS_UPDATE = Route(
    *(
        "/items/update",
        "POST",
        "write",
        "Change the metadata of items: fields are set, and removed where they are null.",
    ),
    takes='JSON: `{"items": [{"id" or "key", "metadata": {…}}], "replace": false}`',
    gives='`{"items": [{"id"}], "changed"}`',
    form=UpdateForm,
    parameters=(REPEATABLE,),
    fields=UpdateFields,
    answer=ChangedAnswer,
    request_example={"items": [{"key": "a.jpg", "metadata": {"label": "beach", "stars": None}}]},
    answer_example=CHANGED,
)
JOBS_GET = Route(
    *("/jobs/get", "POST", "write", "Say how far a job of /items/add?wait=false is. It goes on after a restart."),
    takes='JSON: `{"id"}`',
    gives='`{"id", "state": waiting, running or done, "total", "added", "failed", "items": [an item, an error or null]}`',
    form=JobForm,
    fields=JobFields,
    answer=JobAnswer,
    request_example={"id": "5f0c6f0e8a9d4d3c9a35a3c8f7f6f1de"},
    answer_example={
        **{"id": "5f0c6f0e8a9d4d3c9a35a3c8f7f6f1de", "state": "running", "created_at": "2026-11-21T10:00:00+00:00"},
        **{"finished_at": None, "total": 2, "added": 1, "failed": 0},
        "items": [{"id": 60, "key": "a.jpg", "replaced": None}, None],
    },
)
LIVEZ = Route("/livez", "GET", None, "Liveness: the process runs.")
HEALTHZ = Route("/healthz", "GET", None, "Liveness, by its older name.")
READYZ = Route("/readyz", "GET", None, "Readiness: it can search; a 503 says why not.")
METRICS = Route("/metrics", "GET", "read", "Prometheus metrics of all processes.")
DOCS = Route("/docs.json", "GET", None, "The API's description, OpenAPI 3.1.", documented=False)
SCHEMA = Route("/schema.json", "GET", "read", "BentoML's own description, which its clients read.", documented=False)
ROOT = Route("/", "GET", None, "Redirects to the page.", documented=False)
DEMO = Route("/demo", "GET", "read", "The demo page.", below=True, documented=False)

CHANGES = (ITEMS_ADD, ITEMS_REMOVE, ITEMS_UPDATE, JOBS_GET)
ROUTES = (
    SEARCH,
    QUERY,
    EMBED,
    EXPLAIN,
    DUPLICATES,
    CHECK,
    ITEMS_GET,
    ITEMS_FACETS,
    *CHANGES,
    LIVEZ,
    HEALTHZ,
    READYZ,
    METRICS,
    DOCS,
    SCHEMA,
    ROOT,
    DEMO,
)
HEALTH = (LIVEZ, HEALTHZ, READYZ)


def find_route(path: str, routes: tuple[Route, ...] = ROUTES) -> Route | None:
    """Return the route of a request's path, if there is one."""
    return next((one for one in routes if path == one.path or (one.below and path.startswith(one.path + "/"))), None)
