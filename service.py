"""The HTTP door of BentoLens: LENS_CATALOGUE=DIR bentoml serve service:ImageSearch"""

from __future__ import annotations

import asyncio
from typing import Any

# First, since it has the engine opened while all below is imported.
from server.runtime.extractor import PACKED, SETTINGS, TRACING, TRAFFIC, Extractor, catalogue_folder, is_worker, settle  # isort: skip

import bentoml
from starlette.exceptions import HTTPException

from demo import LazyPage, PageAnswer, PageHit, PageParts, PageRefusal
from index import IndexFault, load_kernel_later
from model import ImageTooLarge, ModelFault
from search.engine import Answers, Asked, open_pair
from server.api.errors import EmbedAnswer, ErrorAnswer, ItemsAnswer, RequestFault, SearchAnswer
from server.api.openapi import complete
from server.api.parsing import read_json, read_multipart
from server.api.requests import (
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
)
from server.gateway import (
    Access,
    Admission,
    Entrance,
    Fetcher,
    Held,
    PageRules,
    Rates,
    RecallWatch,
    Rules,
    Typed,
    beside,
    bound_heads,
)
from server.runtime.extractor_client import EmbeddingClient, batch_without_waiting
from server.runtime.process import forget_dead_workers, give_memory_back, shared_folder
from server.telemetry.metrics import GENERATION, HELD_BYTES, IN_FLIGHT, ITEMS, this_visit
from settings import SettingsFault

if SETTINGS.catalogue is not None and not is_worker():
    try:  # told here, in one line, and not by a worker that dies and is started again
        open_pair(SETTINGS.catalogue)[0].close()
    except (IndexFault, ModelFault) as fault:
        raise SystemExit(f"error: {fault}") from None

try:
    ACCESS = Access(SETTINGS)
except SettingsFault as fault:
    raise SystemExit(f"error: {fault}") from None

UPLOADS = shared_folder() / "uploads"
PAGE = LazyPage("/demo", UPLOADS)
# Each worker has its part, but any of them can take one request of the size allowed.
HELD = Held(max(SETTINGS.max_request_bytes, SETTINGS.max_held_bytes // SETTINGS.workers), HELD_BYTES)
KERNEL_SECONDS = 1.0  # after the start, when the first request has its answer and the page is not yet asked for
batch_without_waiting()
bound_heads()


answered = Typed(SETTINGS.timeout)
BESIDE = beside(
    PAGE if SETTINGS.demo else None, lambda: complete(SERVICE.openapi_spec.asdict(), SETTINGS, ACCESS.needs_key)
)


@bentoml.asgi_app(BESIDE, path="/")
@bentoml.service(
    name="ImageSearch",
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
        catalogue, card = open_pair(catalogue_folder())
        self._client = EmbeddingClient(lambda: self.extractor)
        pictures = Admission(SETTINGS.max_wait, "pictures", IN_FLIGHT)
        watch = RecallWatch(catalogue.search_exactly, SETTINGS.recall_share)
        self._answers = Answers(catalogue, card, self._client, SETTINGS, pictures, watch.offer)
        self._lookups = Admission(SETTINGS.max_wait, "queries")
        self._fetcher = Fetcher(SETTINGS.url_hosts, SETTINGS.url_seconds, SETTINGS.max_bytes, hold=HELD.add)
        load_kernel_later(KERNEL_SECONDS)
        forget_dead_workers()
        give_memory_back()
        info = catalogue.info
        GENERATION.set(info.generation)
        ITEMS.set(info.count)
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
        settle()

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
        this_visit().asks_for(len(images))
        return await self._answers.search(list(images), k, fields.where)

    @bentoml.api(route="/query", input_spec=QueryForm, output_spec=SearchAnswer)
    @answered
    async def query(self, ctx: bentoml.Context) -> SearchAnswer:
        """Find the pictures that look like each of the queries: pictures in base64 or by URL, or items by id."""
        fields = await read_json(ctx.request, QueryFields, SETTINGS)
        k = check_counts(SETTINGS, k=fields.k, queries=len(fields.queries))
        this_visit().asks_for(len(fields.queries))
        # Pictures are let in further on, once it is known which of them have to be embedded.
        with self._lookups.inside(sum(query.id is not None for query in fields.queries)):
            asked = await asyncio.gather(*map(self._asked, fields.queries))
            return await self._answers.search(asked, k, fields.where)

    @bentoml.api(route="/embed", input_spec=PicturesForm, output_spec=EmbedAnswer)
    @answered
    async def embed(self, ctx: bentoml.Context) -> EmbedAnswer:
        """Give each picture's embedding, a unit vector."""
        images, _ = await read_multipart(ctx.request, NoFields, SETTINGS)
        check_counts(SETTINGS, k=None, queries=len(images))
        this_visit().asks_for(len(images))
        return await self._answers.embed(list(images))

    @bentoml.api(route="/items/get", input_spec=ItemsForm, output_spec=ItemsAnswer)
    @answered
    async def get_items(self, ctx: bentoml.Context) -> ItemsAnswer:
        """Give items by id or key, with their thumbnails."""
        fields = await read_json(ctx.request, ItemsFields, SETTINGS)
        names = len(fields.ids or fields.keys or ())
        check_counts(SETTINGS, k=None, queries=names)
        this_visit().asks_for(names)
        with self._lookups.inside(names):
            return await self._answers.items(ids=fields.ids, keys=fields.keys, thumbnails=fields.thumbnail)

    async def _asked(self, query: QueryOne) -> Asked:
        try:
            if query.url is not None:
                return await self._fetcher.fetch(query.url)
            if query.id is not None:
                return await self._answers.by_id(query.id)
            return await asyncio.to_thread(query.picture)
        except (RequestFault, ImageTooLarge) as fault:
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


SERVICE: Any = ImageSearch  # what the decorator has made of the class
RULES = Rules(
    access=ACCESS,
    rates=Rates(shared_folder() / "rates"),
    posts=frozenset(api.route for api in SERVICE.apis.values()),
    page=PageRules(ACCESS, UPLOADS, SETTINGS.max_bytes, max(2 * SETTINGS.max_bytes, SETTINGS.max_held_bytes))
    if SETTINGS.demo
    else None,
    seconds=SETTINGS.timeout,
    held=HELD,
    most=SETTINGS.max_request_bytes,
)
SERVICE.add_asgi_middleware(Entrance, rules=RULES)
