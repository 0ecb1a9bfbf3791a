"""Jobs of POST /items/add?wait=false: one worker at a time adds a job's pictures, batch by batch, until all are done."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from index import CatalogueBusy, DiskFull, JobItem, JobQueue, JobTaken, VectorIndexError, finish_items
from ingest import NewPicture
from model import ImageTooLarge, ModelError
from search import EmbedderUnavailable
from server.api.errors import UNEXPECTED, RequestError, error_answer
from server.api.item_schemas import added_answer
from server.editor import CatalogueEditor

log = logging.getLogger("bentoml.bentolens")

BATCH = 16  # pictures of one transaction
POLL_SECONDS = 2.0  # until a job is seen that another worker was given
RENEW_SECONDS = 5.0
PAUSE_SECONDS = 2.0  # after what may pass: the disk is full, the network starts anew
CAREFUL, HOPELESS = 3, 5  # times that a job was taken with nothing done: one picture at a time; the picture is at fault


class JobRunner:
    """Works on the jobs of ``editor()``, which raises while there is none; ``fetch`` gives the bytes at a URL."""

    def __init__(self, editor: Callable[[], CatalogueEditor], fetch: Callable[[str], Awaitable[bytes]]) -> None:
        self._editor = editor
        self._fetch = fetch
        self._owner = uuid.uuid4().hex
        self._new = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Work from now on, in the loop that is running."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def wake(self) -> None:
        """Look at once whether there is something to do."""
        self._new.set()

    async def _run(self) -> None:
        while True:
            try:
                if await self._work():
                    continue
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._new.wait(), POLL_SECONDS)
                self._new.clear()
            except JobTaken as error:
                log.warning("%s", error)
            except (VectorIndexError, ModelError):  # the catalogue cannot be used, which /readyz reports
                await asyncio.sleep(PAUSE_SECONDS)
            except Exception:
                log.exception("a job was broken off, and is taken again")
                await asyncio.sleep(PAUSE_SECONDS)

    async def _work(self) -> bool:
        """Work on one job to its end. Return whether there was one."""
        editor = self._editor()
        queue = editor.jobs
        claimed = await asyncio.to_thread(queue.claim, self._owner)
        if claimed is None:
            return False
        job, attempts = claimed
        async with self._held(queue, job):
            if attempts >= HOPELESS:
                await asyncio.to_thread(self._give_up_first, queue, job)
            size = 1 if attempts >= CAREFUL else BATCH
            while items := await asyncio.to_thread(queue.pending, job, size):
                await self._add(editor, job, items)
        return True

    def _give_up_first(self, queue: JobQueue, job: str) -> None:
        fault = error_answer(RequestError(UNEXPECTED, "the service ended each time it worked on this picture"))
        for item in queue.pending(job, 1):
            queue.finish(job, self._owner, {item.place: fault.model_dump_json()})

    async def _add(self, editor: CatalogueEditor, job: str, items: list[JobItem]) -> None:
        """Add some pictures of a job, and write what became of each; wait a little where that cannot be done now."""
        keys = [one.key for one in items]
        try:
            pictures = await asyncio.gather(*map(self._to_picture, items))
            await editor.ingest.add(
                pictures,
                lambda connection, added: finish_items(
                    connection,
                    job,
                    self._owner,
                    {
                        one.place: body.model_dump_json()
                        for one, body in zip(items, added_answer(keys, added).items, strict=True)
                    },
                ),
            )
            editor.merge_soon()
        except RequestError as error:  # queries come first
            await asyncio.sleep(error.retry_after or PAUSE_SECONDS)
        except (EmbedderUnavailable, CatalogueBusy, DiskFull) as error:
            log.warning("a job waits: %s", error)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _to_picture(self, item: JobItem) -> NewPicture | Exception:
        try:
            data = item.data if item.data is not None else await self._fetch(item.url or "")
        except (RequestError, ImageTooLarge) as error:
            return error
        return NewPicture(data, item.key, item.metadata)

    @asynccontextmanager
    async def _held(self, queue: JobQueue, job: str) -> AsyncIterator[None]:
        """Renew the lease of a job meanwhile, and let it go at the end."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(RENEW_SECONDS)
                with suppress(VectorIndexError):
                    await asyncio.to_thread(queue.renew, job, self._owner)

        renewing = asyncio.get_running_loop().create_task(renew())
        blamed = True
        try:
            yield
            blamed = False
        except (VectorIndexError, ModelError, asyncio.CancelledError):  # of the catalogue, or a shutdown
            blamed = False
            raise
        finally:
            renewing.cancel()
            with suppress(VectorIndexError):
                queue.release(job, self._owner, blamed=blamed)
