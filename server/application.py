"""What the HTTP service is made of, from the settings: search engine, gateway, page and system routes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from starlette.applications import Starlette

from demo import LazyPage
from index import CatalogueInfo, CatalogueNotFound, VectorIndexError, load_kernel_later, slot_of
from model import Limits, ModelError, Room
from search import BoxEmbedder, DuplicateChecker, Explainer, SearchEngine, open_catalogue_with_extractor
from server.api.demo_adapter import DemoAdapter
from server.api.openapi import describe
from server.api.routes import DEMO
from server.api.system_routes import system_routes
from server.duplicates import DuplicateReader
from server.editor import CatalogueEditor
from server.gateway import (
    Authenticator,
    BodyBudget,
    DemoAccess,
    GatewayConfig,
    QueueAdmission,
    RateLimiter,
    UrlFetcher,
)
from server.runtime.bootstrap import SETTINGS, catalogue_folder
from server.runtime.extractor_client import ExtractorClient
from server.runtime.process import (
    finish_startup,
    is_worker,
    remove_dead_worker_metrics,
    set_malloc_threshold,
    shared_folder,
)
from server.telemetry import RecallMonitor, metrics
from settings import SettingsError, split_list, unknown_settings

log = logging.getLogger("bentoml.bentolens")

if not is_worker():
    for line in unknown_settings():
        log.warning(line)
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
PAGE = LazyPage(DEMO.path, UPLOADS)
# Each worker has its part, but any of them can take one request of the size allowed.
BODY_BUDGET = BodyBudget(
    max(SETTINGS.max_request_bytes, SETTINGS.max_held_bytes // SETTINGS.workers), metrics.REQUEST_BODY_BYTES
)
REOPEN_SECONDS = 5.0
FOLLOW_SECONDS = 0.5  # between looks at what the catalogue has become
RENEW_SECONDS = 20.0  # for which a request waits for a new model
KERNEL_SECONDS = 1.0  # after the start, when the first request has its answer and the page is not yet asked for


class Opened(NamedTuple):
    """What answers requests over the catalogue."""

    engine: SearchEngine
    editor: CatalogueEditor
    explainer: Explainer
    checker: DuplicateChecker
    duplicates: DuplicateReader


def open_all(client: ExtractorClient) -> Opened:
    """Open the catalogue and make its search engine, what changes it and what explains it, and the metrics of all."""
    catalogue, card = open_catalogue_with_extractor(catalogue_folder())
    embedder = client.of(card, slot_of(catalogue.info.extractor))
    limits = Limits(SETTINGS.max_bytes, SETTINGS.max_pixels, Room(SETTINGS.max_pixels))
    admission = QueueAdmission(SETTINGS.max_queue_seconds, "pictures", metrics.IN_FLIGHT)
    engine = SearchEngine(
        catalogue,
        card,
        embedder,
        ef=SETTINGS.ef,
        limits=limits,
        cache_size=SETTINGS.cache,
        decode_threads=SETTINGS.decode_threads,
        admission=admission,
        lookups=QueueAdmission(SETTINGS.max_queue_seconds, "queries"),
        on_embed=metrics.count_embeddings,
        on_result=RecallMonitor(catalogue.search_exactly, SETTINGS.recall_share).offer,
        maps=embedder,
        texts=embedder,
    )
    editor = CatalogueEditor(
        catalogue.folder,
        card,
        embedder,
        BoxEmbedder(embedder, card),
        writable=SETTINGS.writable,
        limits=limits,
        decode_threads=SETTINGS.decode_threads,
        admission=admission,
        merge_items=SETTINGS.merge_items,
    )
    explainer = Explainer(engine, catalogue, card, embedder, limits, admission)
    checker = DuplicateChecker(catalogue, engine.pictures, limits, card.preprocessing.enough)
    return Opened(engine, editor, explainer, checker, DuplicateReader(catalogue, shared_folder()))


class EngineOpener:
    """Opens the search engine, again after some seconds where it could not: a worker that dies could not say why."""

    def __init__(self, client: ExtractorClient) -> None:
        self._client = client
        self._opened: Opened | None = None
        self._error: Exception | None = None
        self._next_try = 0.0
        self._try()

    def get(self) -> Opened:
        """Return what answers requests. Raises VectorIndexError or ModelError: why there is none."""
        if self._opened is None and time.monotonic() >= self._next_try:
            self._try()
        if self._opened is None:
            assert self._error is not None
            raise self._error
        return self._opened

    async def follow(self) -> None:
        """Keep the metrics, and once the catalogue has another model open it, and then an engine for it; for ever."""
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                await self._follow()
            except (VectorIndexError, ModelError, OSError):
                continue  # which requests and /readyz tell
            except Exception:
                log.exception("the catalogue cannot be followed")

    async def renewed(self) -> None:
        """Return once the engine is of the extractor that the catalogue has, or after a while."""
        until = time.monotonic() + RENEW_SECONDS
        while time.monotonic() < until and self.get().engine.superseded:
            await asyncio.sleep(FOLLOW_SECONDS / 5)

    async def _follow(self) -> None:
        engine = self.get().engine
        _publish(await asyncio.to_thread(engine.info))
        if engine.superseded:
            if reason := await self._client.prepare():
                log.error("the catalogue's new model cannot be used: %s", reason)
                return
            await asyncio.to_thread(self._try)
            log.info("the catalogue has the vectors of %s now", engine.info().model)

    def _try(self) -> None:
        self._next_try = time.monotonic() + REOPEN_SECONDS
        try:
            self._opened = open_all(self._client)
            _publish(self._opened.engine.info())
            PAGE.connect(DemoAdapter(lambda: self.get().engine, SETTINGS).parts)
        except (VectorIndexError, ModelError, OSError) as error:
            if str(error) != str(self._error):
                log.error("the catalogue cannot be served: %s", error)
            self._error = error if not isinstance(error, OSError) else CatalogueNotFound(str(error))


def _publish(info: CatalogueInfo) -> None:
    metrics.GENERATION.set(info.generation)
    metrics.ITEMS.set(info.count)


def build_fetcher() -> UrlFetcher:
    """Make what fetches pictures by URL; their bytes count as those of the request's body."""
    return UrlFetcher(SETTINGS.url_hosts, SETTINGS.url_seconds, SETTINGS.max_bytes, hold=BODY_BUDGET.add)


def begin_serving() -> None:
    """End a worker's start: have the kernel loaded soon, and leave the memory to requests."""
    load_kernel_later(KERNEL_SECONDS)
    remove_dead_worker_metrics()
    set_malloc_threshold()
    finish_startup()


def build_system_routes(specification: Callable[[], dict[str, Any]]) -> Starlette:
    """Make the routes next to BentoML's; ``specification`` gives what BentoML has made of the service."""
    return system_routes(
        PAGE if SETTINGS.demo else None, lambda: describe(specification(), SETTINGS, AUTHENTICATOR.needs_key)
    )


def build_gateway_config() -> GatewayConfig:
    """Make what the gateway goes by."""
    kept_bytes = max(2 * SETTINGS.max_bytes, SETTINGS.max_held_bytes)
    return GatewayConfig(
        authenticator=AUTHENTICATOR,
        rate_limiter=RateLimiter(shared_folder() / "rates"),
        body_budget=BODY_BUDGET,
        max_body_bytes=SETTINGS.max_request_bytes,
        timeout=SETTINGS.timeout,
        demo=DemoAccess(AUTHENTICATOR, UPLOADS, SETTINGS.max_bytes, kept_bytes) if SETTINGS.demo else None,
        cors_origins=split_list(SETTINGS.cors_origins),
        root_path=SETTINGS.root_path,
    )
