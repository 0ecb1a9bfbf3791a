"""Changes to the catalogue over HTTP: each request one durable transaction, and safe to send again."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from starlette.requests import Request

from index import Answer, AnsweredAlready, JobQueue, LiveWriter, NewJobItem
from ingest import LiveIngest, NewPicture
from model import ExtractorCard, Limits
from search import Admission, BoxEmbedder, Embedder
from server.api.errors import INVALID_FIELD, JOB_NOT_FOUND, READ_ONLY, RequestError
from server.api.item_requests import RemoveFields, UpdateFields
from server.api.item_schemas import AddedAnswer, ChangedAnswer, JobAnswer, added_answer, changed_answer, job_answer
from server.api.schemas import ListAnswer
from server.runtime.merger import Merger
from server.telemetry import current_request

LONGEST_NAME = 255  # characters of an Idempotency-Key
Given = TypeVar("Given", bound=ListAnswer)


class Repeatable(NamedTuple):
    """A request that may be sent again: its Idempotency-Key, of one API key and route, and a digest of what it asks."""

    name: str
    digest: str


def repeatable(request: Request, asked: Sequence[Any]) -> Repeatable | None:
    """Return by what a request is known again, or None where it has no Idempotency-Key. Raises RequestError (422).

    ``asked`` is all that it asks for.
    """
    header = request.headers.get("idempotency-key")
    if header is None:
        return None
    if not 1 <= len(header) <= LONGEST_NAME:
        raise RequestError(INVALID_FIELD, f"Idempotency-Key: give 1 to {LONGEST_NAME} characters")
    digest = hashlib.sha256()
    for one in asked:
        data = one if isinstance(one, bytes) else repr(one).encode("utf-8", "backslashreplace")
        digest.update(hashlib.sha256(data).digest())
    context = current_request()
    return Repeatable(json.dumps([context.route, context.key, header]), digest.hexdigest())


class CatalogueEditor:
    """Adds, removes and updates items of the catalogue in ``folder``; None of it where it is not ``writable``.

    ``boxes`` embeds boxes in pictures, where items have some. ``jobs`` and ``ingest`` are what a JobRunner works with.
    """

    def __init__(
        self,
        folder: Path,
        card: ExtractorCard,
        embedder: Embedder,
        boxes: BoxEmbedder,
        *,
        writable: bool,
        limits: Limits,
        decode_threads: int,
        admission: Admission,
        merge_items: int = 0,
    ) -> None:
        self._writable = writable
        if not writable:
            return
        self._writer = LiveWriter(folder)
        self.jobs = JobQueue(folder)

        async def embed(pixels: Any) -> list[Any]:
            return [one.vector for one in await embedder.embed(pixels)]

        self._merger = Merger(folder, self._writer.to_merge, merge_items)
        self.ingest = LiveIngest(
            self._writer,
            card,
            embed,
            boxes.embed,
            limits=limits,
            threads=ThreadPoolExecutor(decode_threads, thread_name_prefix="add"),
            admit=admission.admit,
        )

    def check_writable(self) -> None:
        """Raise RequestError (403) unless the catalogue may be changed."""
        if not self._writable:
            raise RequestError(READ_ONLY, "this service does not change its catalogue")

    async def add(
        self, keys: Sequence[str], pictures: Sequence[NewPicture | Exception], request: Repeatable | None
    ) -> AddedAnswer:
        """Add pictures; those that cannot be read have an error in their place, and the others are in."""
        return await self._once(
            request,
            AddedAnswer,
            lambda added: added_answer(keys, added),
            lambda answer: self.ingest.add(pictures, answer),
        )

    async def add_later(self, pictures: Sequence[NewJobItem], request: Repeatable | None) -> AddedAnswer:
        """Keep pictures as a job, which is durable once this returns."""
        return await self._once(
            request,
            AddedAnswer,
            lambda job: AddedAnswer(items=[], added=0, job=job),
            lambda answer: asyncio.to_thread(self.jobs.create, pictures, answer),
        )

    async def job(self, name: str) -> JobAnswer:
        """Return how far a job is. Raises RequestError (404)."""
        found = await asyncio.to_thread(self.jobs.get, name)
        if found is None:
            raise RequestError(JOB_NOT_FOUND, f"there is no job {name[:80]!r}")
        return job_answer(found)

    async def remove(self, fields: RemoveFields, request: Repeatable | None) -> ChangedAnswer:
        """Remove items by id or key."""
        names: Sequence[int | str] = fields.ids if fields.ids is not None else fields.keys or []
        return await self._once(
            request,
            ChangedAnswer,
            lambda found: changed_answer(names, found),
            lambda answer: asyncio.to_thread(self._writer.remove, names, answer),
        )

    async def update(self, fields: UpdateFields, request: Repeatable | None) -> ChangedAnswer:
        """Change the metadata of items by id or key."""
        names: list[int | str] = [one.name for one in fields.items]
        changes = [one.metadata for one in fields.items]
        return await self._once(
            request,
            ChangedAnswer,
            lambda found: changed_answer(names, found),
            lambda answer: asyncio.to_thread(self._writer.update, names, changes, replace=fields.replace, also=answer),
        )

    def merge_soon(self) -> None:
        """Have changes merged, where there are enough of them."""
        self._merger.consider()

    def _changed(self, answer: Given) -> Given:
        self.merge_soon()
        return answer

    async def _once(
        self,
        request: Repeatable | None,
        shape: type[Given],
        body: Callable[[Any], Given],
        work: Callable[[Answer | None], Awaitable[Any]],
    ) -> Given:
        """Do a request's work, unless it was done before: then return the answer that was kept."""
        if request is None:
            return self._changed(body(await work(None)))
        if stored := await asyncio.to_thread(self._writer.stored_answer, *request):
            return shape.model_validate_json(stored)
        try:
            done = await work(Answer(*request, lambda done: body(done).model_dump_json()))
            return self._changed(body(done))
        except AnsweredAlready:  # by another request meanwhile
            stored = await asyncio.to_thread(self._writer.stored_answer, *request)
            assert stored is not None
            return shape.model_validate_json(stored)
