"""The one table of routes: the gateway, the service, /docs.json and docs/api.md follow from it."""

from __future__ import annotations

from server.api.duplicate_routes import CHECK, DUPLICATES
from server.api.explain_schemas import ExplainAnswer, ExplainFields, ExplainForm
from server.api.item_routes import CHANGES, ITEMS_FACETS, ITEMS_GET
from server.api.query_requests import QueryFields, QueryForm, SearchFields, SearchForm
from server.api.requests import (
    NoFields,
    PicturesForm,
)
from server.api.route import Route
from server.api.schemas import EmbedAnswer, SearchAnswer

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
LIVEZ = Route("/livez", "GET", None, "Liveness: the process runs.")
HEALTHZ = Route("/healthz", "GET", None, "Liveness, by its older name.")
READYZ = Route("/readyz", "GET", None, "Readiness: it can search; a 503 says why not.")
METRICS = Route("/metrics", "GET", "read", "Prometheus metrics of all processes.")
DOCS = Route("/docs.json", "GET", None, "The API's description, OpenAPI 3.1.", documented=False)
SCHEMA = Route("/schema.json", "GET", "read", "BentoML's own description, which its clients read.", documented=False)
ROOT = Route("/", "GET", None, "Redirects to the page.", documented=False)
DEMO = Route("/demo", "GET", "read", "The demo page.", below=True, documented=False)

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
