"""From checked requests to queries: pictures in base64 or by URL are had, and what fails becomes an error in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from model import ImageTooLarge
from search import CombinedQuery, Example, ItemQuery, PictureQuery, QueryInput, Term, TextQuery
from server.api.errors import RequestError
from server.api.query_requests import ExampleOne, QueryOne, SearchFields
from server.api.requests import PictureOne, check_count
from server.gateway import UrlFetcher
from settings import Settings


class QueryReader:
    """Makes queries of requests; ``fetcher`` fetches pictures by URL."""

    def __init__(self, fetcher: UrlFetcher, settings: Settings) -> None:
        self._fetcher = fetcher
        self._settings = settings

    async def data(self, given: PictureOne) -> bytes | Exception:
        """Return the bytes of a picture, or why there are none."""
        try:
            if given.url is not None:
                return await self._fetcher.fetch(given.url)
            return await asyncio.to_thread(given.picture)
        except (RequestError, ImageTooLarge) as error:
            return error

    async def queries(self, given: Sequence[QueryOne]) -> list[QueryInput]:
        """Return the queries of POST /query. Raises RequestError where they have more examples than are allowed."""
        check_count(len(given) + sum(one.count() for one in given), self._settings)
        return list(await asyncio.gather(*map(self._query, given)))

    async def searches(self, images: Sequence[bytes], fields: SearchFields) -> list[QueryInput]:
        """Return the queries of POST /search. Raises RequestError where they have more examples than are allowed."""
        check_count(len(images) * (1 + fields.count()), self._settings)
        pictures = [PictureQuery(image, fields.box) for image in images]
        if not fields.count():
            return list(pictures)
        positive, negative = await self._examples(fields.positive), await self._examples(fields.negative)
        firsts = [Example(picture, fields.weight) for picture in pictures]
        return [CombinedQuery((first, *positive), negative, fields.combine) for first in firsts]

    async def _query(self, given: QueryOne) -> QueryInput:
        if not given.is_combined:
            return await self.term(given)
        positive, negative = await self._examples(given.positive), await self._examples(given.negative)
        if given.has_own:
            positive = (Example(await self.term(given), given.weight), *positive)
        return CombinedQuery(positive, negative, given.combine)

    async def _examples(self, given: Sequence[ExampleOne]) -> tuple[Example, ...]:
        terms = await asyncio.gather(*map(self.term, given))
        return tuple(Example(term, one.weight) for term, one in zip(terms, given, strict=True))

    async def term(self, given: ExampleOne) -> Term:
        """Return what an example searches by, or what is wrong with it."""
        if given.id is not None:
            return ItemQuery(given.id)
        if given.text is not None:
            return TextQuery(given.text)
        found = await self.data(given)
        return found if isinstance(found, Exception) else PictureQuery(found, given.box)
