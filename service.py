"""The HTTP door of BentoLens: LENS_CATALOGUE=DIR bentoml serve service:ImageSearch"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

# First, since it has the engine opened while all below is imported.
from extracting import PACKED, SETTINGS, TRAFFIC, Extractor, catalogue_folder, is_worker  # isort: skip

import bentoml
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from answering import Answers, Asked, open_pair
from contract import (
    TIMED_OUT,
    EmbedAnswer,
    ErrorAnswer,
    ItemsAnswer,
    ListAnswer,
    RequestFault,
    SearchAnswer,
    error_answer,
    status_of,
)
from demo import LazyPage, PageAnswer, PageHit, PageParts, PageRefusal
from draining import given_up, may_be_given_up
from embedding_client import EmbeddingClient, batch_without_waiting
from forms import (
    ItemsFields,
    ItemsForm,
    NoFields,
    PicturesForm,
    QueryFields,
    QueryForm,
    QueryOne,
    SearchFields,
    SearchForm,
    check_counts,
    read_json,
    read_multipart,
)
from index import IndexFault, load_kernel_later
from model import ModelFault

log = logging.getLogger("bentoml.bentolens")

if SETTINGS.catalogue is not None and not is_worker():
    try:  # told here, in one line, and not by a worker that dies and is started again
        open_pair(SETTINGS.catalogue)[0].close()
    except (IndexFault, ModelFault) as fault:
        raise SystemExit(f"error: {fault}") from None

PAGE = LazyPage("/demo")
KERNEL_SECONDS = 1.0  # after the start, when the first request has its answer and the page is not yet asked for
batch_without_waiting()


def answered(route: Callable[..., Awaitable[BaseModel]]) -> Callable[..., Awaitable[Response]]:
    """Turn a route's answer into JSON, and each named error into a typed one with its status."""

    @functools.wraps(route)
    async def respond(self: Any, ctx: bentoml.Context, **unread: Any) -> Response:
        sole: ErrorAnswer | None = None
        try:
            async with asyncio.timeout(SETTINGS.timeout) as limit:
                with may_be_given_up(limit):
                    answer = await route(self, ctx)
            if isinstance(answer, ListAnswer) and (sole := answer.sole_error()):
                body = json.dumps(sole.model_dump() | answer.model_dump(mode="json"))
            else:
                body = answer.model_dump_json()
        except Exception as error:
            if isinstance(error, TimeoutError):
                told = "before the service stopped" if given_up() else f"within {SETTINGS.timeout} s"
                error = RequestFault(TIMED_OUT, f"there was no answer {told}")
            sole = error_answer(error)
            body = sole.model_dump_json()
            if (status := status_of(sole)) >= 500:
                log.error("%s: %s", sole.error.code, error, exc_info=status == 500)
        # BentoML gives the response the status of its context, whatever its own is.
        ctx.response.status_code = status_of(sole) if sole else 200
        return Response(body, media_type="application/json")

    return respond


async def index(_: Request) -> Response:
    """What is at /, in place of BentoML's page, which would load a tag manager and badges from elsewhere."""
    if SETTINGS.demo:
        return RedirectResponse("demo/")
    return PlainTextResponse("BentoLens. The routes are described at /docs.json.\n")


# A Starlette app, since BentoML lets requests that it does not know pass by one, so that /docs.json stays reachable.
PAGES = Starlette(routes=[Route("/", index), *([Mount("/demo", PAGE)] if SETTINGS.demo else [])])


@bentoml.asgi_app(PAGES, path="/")
@bentoml.service(name="ImageSearch", workers=SETTINGS.workers, traffic=TRAFFIC)
class ImageSearch:
    """Finds the pictures of a catalogue that look like the ones sent."""

    packed = PACKED
    extractor = bentoml.depends(Extractor)

    def __init__(self) -> None:
        catalogue, card = open_pair(catalogue_folder())
        self._client = EmbeddingClient(lambda: self.extractor)
        self._answers = Answers(catalogue, card, self._client, SETTINGS)
        load_kernel_later(KERNEL_SECONDS)
        info = catalogue.info
        PAGE.connect(
            PageParts(
                search=self._page_search,
                more_like=self._page_more_like,
                thumbnail=self._answers.thumbnail,
                about=f"{info.count:,} pictures ({info.model}, {info.dim} dimensions)",
                k=SETTINGS.k,
                max_k=min(SETTINGS.max_k, 100),
                max_bytes=SETTINGS.max_bytes,
            )
        )

    async def __is_ready__(self) -> bool:
        """What /readyz asks: 503 with the reason while the Extractor cannot be used."""
        if fault := await self._client.fault():
            raise HTTPException(503, fault)
        return True

    @bentoml.api(route="/search", input_spec=SearchForm, output_spec=SearchAnswer)
    @answered
    async def search(self, ctx: bentoml.Context) -> SearchAnswer:
        """Find the pictures that look like each of the pictures sent."""
        images, fields = await read_multipart(ctx.request, SearchFields, SETTINGS)
        k = check_counts(SETTINGS, k=fields.k, queries=len(images))
        return await self._answers.search(list(images), k, fields.where)

    @bentoml.api(route="/query", input_spec=QueryForm, output_spec=SearchAnswer)
    @answered
    async def query(self, ctx: bentoml.Context) -> SearchAnswer:
        """Find the pictures that look like each of the queries: pictures in base64, or items by id."""
        fields = await read_json(ctx.request, QueryFields, SETTINGS)
        k = check_counts(SETTINGS, k=fields.k, queries=len(fields.queries))
        asked = [await self._asked(query) for query in fields.queries]
        return await self._answers.search(asked, k, fields.where)

    @bentoml.api(route="/embed", input_spec=PicturesForm, output_spec=EmbedAnswer)
    @answered
    async def embed(self, ctx: bentoml.Context) -> EmbedAnswer:
        """Give each picture's embedding, a unit vector."""
        images, _ = await read_multipart(ctx.request, NoFields, SETTINGS)
        check_counts(SETTINGS, k=None, queries=len(images))
        return await self._answers.embed(list(images))

    @bentoml.api(route="/items/get", input_spec=ItemsForm, output_spec=ItemsAnswer)
    @answered
    async def get_items(self, ctx: bentoml.Context) -> ItemsAnswer:
        """Give items by id or key, with their thumbnails."""
        fields = await read_json(ctx.request, ItemsFields, SETTINGS)
        check_counts(SETTINGS, k=None, queries=len(fields.ids or fields.keys or ()))
        return await self._answers.items(ids=fields.ids, keys=fields.keys, thumbnails=fields.thumbnail)

    async def _asked(self, query: QueryOne) -> Asked:
        try:
            return query.picture() if query.id is None else await self._answers.by_id(query.id)
        except RequestFault as fault:
            return fault

    async def _page_search(self, data: bytes, k: int) -> PageAnswer:
        return await self._page_answer([data], k)

    async def _page_more_like(self, item_id: int, k: int) -> PageAnswer:
        return await self._page_answer([await self._answers.by_id(item_id)], k)

    async def _page_answer(self, asked: list[Asked], k: int) -> PageAnswer:
        try:
            answer = await self._answers.search(asked, k)
        except RequestFault as fault:
            raise PageRefusal(str(fault)) from None
        result = answer.results[0]
        if isinstance(result, ErrorAnswer):
            raise PageRefusal(f"{result.error.message}; {result.error.hint}")
        hits = [
            PageHit(hit.id, hit.key, hit.score, await self._answers.thumbnail(hit.id) or b"") for hit in result.hits
        ]
        return PageAnswer(hits, answer.timings_ms)
