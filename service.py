"""The BentoML services, and their routes: LENS_CATALOGUE=DIR bentoml serve service:ImageSearch"""

from __future__ import annotations

import asyncio
from typing import Any

# First, since it has the engine opened while all below is imported.
from server.runtime.extractor import HTTP_SERVICE, Extractor  # isort: skip

import bentoml
from starlette.exceptions import HTTPException

from demo import LazyPage
from index import VectorIndexError, load_kernel_later
from model import ImageTooLarge, Limits, ModelError, Room
from search import ItemQuery, QueryInput, SearchEngine, open_catalogue_with_extractor
from server.api.demo_adapter import DemoAdapter
from server.api.errors import RequestError
from server.api.openapi import describe
from server.api.parsing import read_json, read_multipart
from server.api.requests import ItemsFields, NoFields, QueryFields, QueryOne, SearchFields, check_counts
from server.api.responses import serve_route
from server.api.routes import EMBED, ITEMS_GET, QUERY, SEARCH
from server.api.schemas import EmbedAnswer, ItemsAnswer, SearchAnswer, embed_answer, items_answer, search_answer
from server.api.system_routes import system_routes
from server.gateway import (
    Authenticator,
    BodyBudget,
    DemoAccess,
    Gateway,
    GatewayConfig,
    QueueAdmission,
    RateLimiter,
    UrlFetcher,
)
from server.runtime.bootstrap import PACKED, SETTINGS, TRACING, TRAFFIC, catalogue_folder
from server.runtime.extractor_client import ExtractorClient
from server.runtime.process import (
    finish_startup,
    is_worker,
    remove_dead_worker_metrics,
    set_malloc_threshold,
    shared_folder,
)
from server.telemetry import RecallMonitor, current_request, metrics
from settings import SettingsError

if SETTINGS.catalogue is not None and not is_worker():
    try:  # one line here, in place of a worker that dies and is started again
        open_catalogue_with_extractor(SETTINGS.catalogue)[0].close()
    except (VectorIndexError, ModelError) as error:
        raise SystemExit(f"error: {error}") from None

try:
    AUTHENTICATOR = Authenticator(SETTINGS)
except SettingsError as error:
    raise SystemExit(f"error: {error}") from None

UPLOADS = shared_folder() / "uploads"
PAGE = LazyPage("/demo", UPLOADS)
# Each worker has its part, but any of them can take one request of the size allowed.
BODY_BUDGET = BodyBudget(
    max(SETTINGS.max_request_bytes, SETTINGS.max_held_bytes // SETTINGS.workers), metrics.REQUEST_BODY_BYTES
)
KERNEL_SECONDS = 1.0  # after the start, when the first request has its answer and the page is not yet asked for

SYSTEM_ROUTES = system_routes(
    PAGE if SETTINGS.demo else None,
    lambda: describe(SERVICE.openapi_spec.asdict(), SETTINGS, AUTHENTICATOR.needs_key),
)


@bentoml.asgi_app(SYSTEM_ROUTES, path="/")
@bentoml.service(
    name=HTTP_SERVICE,
    workers=SETTINGS.workers,
    traffic=TRAFFIC,
    tracing=TRACING,
    # Ours take their place: BentoML's metrics have a series for each path that anyone makes up.
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class ImageSearch:
    """Finds the pictures of a catalogue that look like the ones sent."""

    packed = PACKED
    extractor = bentoml.depends(Extractor)

    def __init__(self) -> None:
        catalogue, card = open_catalogue_with_extractor(catalogue_folder())
        self._client = ExtractorClient(lambda: self.extractor)
        self._fetcher = UrlFetcher(SETTINGS.url_hosts, SETTINGS.url_seconds, SETTINGS.max_bytes, hold=BODY_BUDGET.add)
        self._engine = SearchEngine(
            catalogue,
            card,
            self._client,
            ef=SETTINGS.ef,
            limits=Limits(SETTINGS.max_bytes, SETTINGS.max_pixels, Room(SETTINGS.max_pixels)),
            cache_size=SETTINGS.cache,
            decode_threads=SETTINGS.decode_threads,
            admission=QueueAdmission(SETTINGS.max_queue_seconds, "pictures", metrics.IN_FLIGHT),
            lookups=QueueAdmission(SETTINGS.max_queue_seconds, "queries"),
            on_embed=metrics.count_embeddings,
            on_result=RecallMonitor(catalogue.search_exactly, SETTINGS.recall_share).offer,
        )
        PAGE.connect(DemoAdapter(self._engine, catalogue.info, SETTINGS).parts)
        metrics.GENERATION.set(catalogue.info.generation)
        metrics.ITEMS.set(catalogue.info.count)
        load_kernel_later(KERNEL_SECONDS)
        remove_dead_worker_metrics()
        set_malloc_threshold()
        finish_startup()

    async def __is_ready__(self) -> bool:
        """Answer /readyz: 503 with the reason while the Extractor cannot be used."""
        if fault := await self._client.fault():
            raise HTTPException(503, fault)
        return True

    @serve_route(SEARCH, SETTINGS.timeout)
    async def search(self, ctx: bentoml.Context) -> SearchAnswer:
        """Find the pictures that look like each of the pictures sent."""
        images, fields = await read_multipart(ctx.request, SearchFields, SETTINGS)
        k = check_counts(SETTINGS, k=fields.k, queries=len(images))
        current_request().count_items(len(images))
        return search_answer(await self._engine.search(images, k, fields.where))

    @serve_route(QUERY, SETTINGS.timeout)
    async def query(self, ctx: bentoml.Context) -> SearchAnswer:
        """Find the pictures that look like each of the queries."""
        fields = await read_json(ctx.request, QueryFields, SETTINGS)
        k = check_counts(SETTINGS, k=fields.k, queries=len(fields.queries))
        current_request().count_items(len(fields.queries))
        inputs = await asyncio.gather(*map(self._to_input, fields.queries))
        return search_answer(await self._engine.search(inputs, k, fields.where))

    @serve_route(EMBED, SETTINGS.timeout)
    async def embed(self, ctx: bentoml.Context) -> EmbedAnswer:
        """Give each picture's embedding."""
        images, _ = await read_multipart(ctx.request, NoFields, SETTINGS)
        check_counts(SETTINGS, k=None, queries=len(images))
        current_request().count_items(len(images))
        return embed_answer(await self._engine.embed(images))

    @serve_route(ITEMS_GET, SETTINGS.timeout)
    async def get_items(self, ctx: bentoml.Context) -> ItemsAnswer:
        """Give items by id or key, with their thumbnails."""
        fields = await read_json(ctx.request, ItemsFields, SETTINGS)
        names = len(fields.ids or fields.keys or ())
        check_counts(SETTINGS, k=None, queries=names)
        current_request().count_items(names)
        items = await self._engine.items(ids=fields.ids, keys=fields.keys)
        there = [one.id for one in items if not isinstance(one, Exception)]
        thumbnails = await self._engine.thumbnails(there) if fields.thumbnail else [None] * len(there)
        return items_answer(items, thumbnails)

    async def _to_input(self, query: QueryOne) -> QueryInput:
        try:
            if query.url is not None:
                return await self._fetcher.fetch(query.url)
            if query.id is not None:
                return ItemQuery(query.id)
            return await asyncio.to_thread(query.picture)
        except (RequestError, ImageTooLarge) as error:
            return error


SERVICE: Any = ImageSearch  # what the decorator has made of the class
GATEWAY = GatewayConfig(
    authenticator=AUTHENTICATOR,
    rate_limiter=RateLimiter(shared_folder() / "rates"),
    body_budget=BODY_BUDGET,
    max_body_bytes=SETTINGS.max_request_bytes,
    timeout=SETTINGS.timeout,
    demo=DemoAccess(AUTHENTICATOR, UPLOADS, SETTINGS.max_bytes, max(2 * SETTINGS.max_bytes, SETTINGS.max_held_bytes))
    if SETTINGS.demo
    else None,
)
SERVICE.add_asgi_middleware(Gateway, config=GATEWAY)
