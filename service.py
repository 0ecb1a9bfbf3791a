"""The BentoML services, and their routes: LENS_CATALOGUE=DIR bentoml serve service:ImageSearch"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

# First, since it has the engine opened while all below is imported.
from server.runtime.extractor import APART, HTTP_SERVICE, Extractor, open_network  # isort: skip

import bentoml
from starlette.exceptions import HTTPException

from index import CatalogueMismatch, DamagedIndex, VectorIndexError
from ingest import NewPicture
from model import ModelError
from search import SearchEngine
from server.api.duplicate_routes import CHECK, DUPLICATES
from server.api.duplicate_schemas import (
    CheckAnswer,
    CheckFields,
    CheckPictures,
    DuplicatesAnswer,
    DuplicatesFields,
    check_answer,
)
from server.api.explain_schemas import ExplainAnswer, ExplainFields, explain_answer
from server.api.item_parsing import Addition, for_later, is_for_later, read_additions
from server.api.item_requests import FacetsFields, JobFields, RemoveFields, UpdateFields
from server.api.item_routes import ITEMS_ADD, ITEMS_FACETS, ITEMS_GET, ITEMS_REMOVE, ITEMS_UPDATE, JOBS_GET
from server.api.item_schemas import AddedAnswer, ChangedAnswer, FacetsAnswer, JobAnswer, facets_answer
from server.api.parsing import is_multipart, read_json, read_multipart
from server.api.query_requests import QueryFields, SearchFields
from server.api.requests import ItemsFields, NoFields, check_count
from server.api.responses import serve_route
from server.api.routes import EMBED, EXPLAIN, QUERY, SEARCH
from server.api.schemas import EmbedAnswer, ItemsAnswer, SearchAnswer, embed_answer, items_answer, search_answer
from server.application import (
    EngineOpener,
    begin_serving,
    build_fetcher,
    build_gateway_config,
    build_system_routes,
)
from server.editor import CatalogueEditor, repeatable
from server.gateway import Gateway
from server.jobs import JobRunner
from server.queries import QueryReader
from server.runtime.bootstrap import PACKED, SETTINGS, TRACING, TRAFFIC
from server.runtime.extractor_client import ExtractorClient
from server.runtime.local_extractor import LocalExtractor
from server.telemetry import current_request


@bentoml.asgi_app(build_system_routes(lambda: SERVICE.openapi_spec.asdict()), path="/")
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
    extractor: Any = bentoml.depends(Extractor) if APART else None

    def __init__(self) -> None:
        local = None if APART else LocalExtractor(open_network(), SETTINGS.max_batch)
        # BentoML connects a service to its dependency only once it has been made.
        self._client = ExtractorClient(lambda: local or self.extractor.to_async)
        self._opener = EngineOpener(self._client)
        fetcher = build_fetcher()
        self._reader = QueryReader(fetcher, SETTINGS)
        self._jobs = JobRunner(lambda: self._editor, fetcher.fetch)
        begin_serving()

    @bentoml.on_startup
    async def begin_work(self) -> None:
        """Follow what the catalogue becomes, and go on with jobs, from before a restart too."""
        self._following = asyncio.get_running_loop().create_task(self._opener.follow())
        if SETTINGS.writable:
            self._jobs.start()

    @property
    def _engine(self) -> SearchEngine:
        return self._opener.get().engine

    @property
    def _editor(self) -> CatalogueEditor:
        editor = self._opener.get().editor
        editor.check_writable()
        return editor

    async def __is_ready__(self) -> bool:
        """Answer /readyz: 503 with the reason while the catalogue or the Extractor cannot be used."""
        try:
            if fault := await self._engine.fault():
                raise DamagedIndex(fault)
        except (VectorIndexError, ModelError) as error:
            current_request().error = error
            raise HTTPException(503) from None
        if fault := await self._client.fault():
            raise HTTPException(503, fault)
        return True

    @serve_route(SEARCH, SETTINGS.timeout)
    async def search(self, ctx: bentoml.Context) -> SearchAnswer:
        """Find the pictures that look like each of the pictures sent."""
        images, fields = await read_multipart(ctx.request, SearchFields, SETTINGS)
        shaping = fields.shaping(SETTINGS)
        inputs = await self._reader.searches(images, fields)
        current_request().count_items(len(images))
        return search_answer(await self._engine.search(inputs, shaping, fields.where))

    @serve_route(QUERY, SETTINGS.timeout)
    async def query(self, ctx: bentoml.Context) -> SearchAnswer:
        """Find the pictures that look like each of the queries."""
        fields = await read_json(ctx.request, QueryFields, SETTINGS)
        shaping = fields.shaping(SETTINGS)
        current_request().count_items(len(fields.queries))
        inputs = await self._reader.queries(fields.queries)
        return search_answer(await self._engine.search(inputs, shaping, fields.where))

    @serve_route(EMBED, SETTINGS.timeout)
    async def embed(self, ctx: bentoml.Context) -> EmbedAnswer:
        """Give each picture's embedding."""
        images, _ = await read_multipart(ctx.request, NoFields, SETTINGS)
        check_count(len(images), SETTINGS)
        current_request().count_items(len(images))
        return embed_answer(await self._engine.embed(images))

    @serve_route(EXPLAIN, SETTINGS.timeout)
    async def explain(self, ctx: bentoml.Context) -> ExplainAnswer:
        """Say which parts of a query's picture and of a hit's make their score."""
        fields = await read_json(ctx.request, ExplainFields, SETTINGS)
        current_request().count_items(2)
        query = await self._reader.term(fields.query)
        found = await self._opener.get().explainer.explain(query, fields.id, fields.detail)
        return explain_answer(found, self._engine.info().model, overlay=fields.overlay)

    @serve_route(DUPLICATES, SETTINGS.timeout)
    async def duplicates(self, ctx: bentoml.Context) -> DuplicatesAnswer:
        """Give groups of duplicates, and which picture of each to keep."""
        fields = await read_json(ctx.request, DuplicatesFields, SETTINGS)
        current_request().count_items(1)
        return await self._opener.get().duplicates.read(fields, SETTINGS)

    @serve_route(CHECK, SETTINGS.timeout)
    async def check_duplicates(self, ctx: bentoml.Context) -> CheckAnswer:
        """Say whether pictures are in the catalogue already."""
        pictures, least = await self._to_check(ctx)
        check_count(len(pictures), SETTINGS)
        current_request().count_items(len(pictures))
        return check_answer(*await self._opener.get().checker.check(pictures, least))

    @serve_route(ITEMS_GET, SETTINGS.timeout)
    async def get_items(self, ctx: bentoml.Context) -> ItemsAnswer:
        """Give items by id or key, with their thumbnails."""
        fields = await read_json(ctx.request, ItemsFields, SETTINGS)
        names = len(fields.ids or fields.keys or ())
        check_count(names, SETTINGS)
        current_request().count_items(names)
        items = await self._engine.items(ids=fields.ids, keys=fields.keys)
        there = [one.id for one in items if not isinstance(one, Exception)]
        thumbnails = await self._engine.thumbnails(there) if fields.thumbnail else [None] * len(there)
        return items_answer(items, thumbnails)

    @serve_route(ITEMS_FACETS, SETTINGS.timeout)
    async def get_facets(self, ctx: bentoml.Context) -> FacetsAnswer:
        """Count the values that fields have."""
        fields = await read_json(ctx.request, FacetsFields, SETTINGS)
        current_request().count_items(1)
        return facets_answer(*await self._engine.facets(fields.paths(), fields.where, fields.limit))

    @serve_route(ITEMS_ADD, SETTINGS.timeout)
    async def add_items(self, ctx: bentoml.Context) -> AddedAnswer:
        """Add pictures, or replace those under the same keys."""
        editor = self._editor
        later = is_for_later(ctx.request)
        settings = SETTINGS.for_jobs() if later else SETTINGS
        given = await read_additions(ctx.request, settings)
        check_count(len(given), settings)
        current_request().count_items(len(given))
        if later:
            kept = await asyncio.to_thread(lambda: list(map(for_later, given)))
            answer = await editor.add_later(kept, repeatable(ctx.request, [*_asked(given), "later"]))
            self._jobs.wake()
            return answer
        pictures = await asyncio.gather(*map(self._to_picture, given))
        keys, request = [one.key for one in given], repeatable(ctx.request, _asked(given))
        try:
            return await editor.add(keys, pictures, request)
        except CatalogueMismatch:  # the catalogue has got another model meanwhile
            await self._opener.renewed()
            return await self._editor.add(keys, pictures, request)

    @serve_route(JOBS_GET, SETTINGS.timeout)
    async def get_job(self, ctx: bentoml.Context) -> JobAnswer:
        """Say how far a job is."""
        editor = self._editor
        fields = await read_json(ctx.request, JobFields, SETTINGS)
        current_request().count_items(1)
        return await editor.job(fields.id)

    @serve_route(ITEMS_REMOVE, SETTINGS.timeout)
    async def remove_items(self, ctx: bentoml.Context) -> ChangedAnswer:
        """Remove items by id or key."""
        editor = self._editor
        fields = await read_json(ctx.request, RemoveFields, SETTINGS)
        check_count(len(fields.ids or fields.keys or ()), SETTINGS)
        current_request().count_items(len(fields.ids or fields.keys or ()))
        return await editor.remove(fields, repeatable(ctx.request, [fields]))

    @serve_route(ITEMS_UPDATE, SETTINGS.timeout)
    async def update_items(self, ctx: bentoml.Context) -> ChangedAnswer:
        """Change the metadata of items."""
        editor = self._editor
        fields = await read_json(ctx.request, UpdateFields, SETTINGS)
        check_count(len(fields.items), SETTINGS)
        current_request().count_items(len(fields.items))
        return await editor.update(fields, repeatable(ctx.request, [fields]))

    async def _to_check(self, ctx: bentoml.Context) -> tuple[Sequence[bytes | Exception], float]:
        if is_multipart(ctx.request):
            images, files = await read_multipart(ctx.request, CheckFields, SETTINGS)
            return images, files.min_match
        fields = await read_json(ctx.request, CheckPictures, SETTINGS)
        return await asyncio.gather(*map(self._reader.data, fields.pictures)), fields.min_match

    async def _to_picture(self, given: Addition) -> NewPicture | Exception:
        found = given.data if given.data is not None else await self._reader.data(given.query)
        return found if isinstance(found, Exception) else NewPicture(found, given.key, given.metadata)


def _asked(given: Sequence[Addition]) -> list[Any]:
    return [part for one in given for part in (one.key, one.metadata, one.data or one.query)]


SERVICE: Any = ImageSearch  # what the decorator has made of the class
SERVICE.add_asgi_middleware(Gateway, config=build_gateway_config())
