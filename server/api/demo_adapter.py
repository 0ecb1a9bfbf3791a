"""The demo page's calls, answered by the search engine."""

from __future__ import annotations

from collections.abc import Callable

from demo import PageAnswer, PageHit, PageParts, PageRefusal
from search import ItemQuery, PictureQuery, QueryInput, SearchEngine, SearchError, Shaping
from server.api.errors import RequestError, error_answer
from settings import Settings

LARGEST_K = 100  # hits that the page shows at most


class DemoAdapter:
    """What the demo page is handed, over the engine that there is."""

    def __init__(self, engine: Callable[[], SearchEngine], settings: Settings) -> None:
        self._engine = engine
        self.parts = PageParts(
            search=self._search,
            more_like=self._more_like,
            thumbnail=self._thumbnail,
            about=self._about,
            k=settings.k,
            max_k=min(settings.max_k, LARGEST_K),
            max_bytes=settings.max_bytes,
        )

    def _about(self) -> str:
        info = self._engine().info()
        return f"{info.count:,} pictures ({info.model}, {info.dim} dimensions)"

    async def _search(self, picture: bytes, k: int) -> PageAnswer:
        return await self._answer(PictureQuery(picture), k)

    async def _more_like(self, item_id: int, k: int) -> PageAnswer:
        return await self._answer(ItemQuery(item_id), k)

    async def _thumbnail(self, item_id: int) -> bytes | None:
        return (await self._engine().thumbnails([item_id]))[0]

    async def _answer(self, query: QueryInput, k: int) -> PageAnswer:
        try:
            result = await self._engine().search([query], Shaping(k))
        except (RequestError, SearchError) as error:
            raise PageRefusal(str(error)) from None
        (found,) = result.results
        if isinstance(found, Exception):
            body = error_answer(found).error
            raise PageRefusal(f"{body.message}; {body.hint}")
        jpegs = await self._engine().thumbnails([hit.item.id for hit in found.hits])
        hits = [
            PageHit(hit.item.id, hit.item.key, hit.score, jpeg or b"")
            for hit, jpeg in zip(found.hits, jpegs, strict=True)
        ]
        return PageAnswer(hits, result.timings_ms)
