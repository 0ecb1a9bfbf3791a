"""The JSON shapes of the answers to what changes items, or counts them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, Field, TypeAdapter

from index import Added, Facet, Job
from search import ItemNotFound
from server.api.errors import ErrorAnswer, error_answer
from server.api.facet_schemas import FacetBody, facet_body
from server.api.schemas import ListAnswer


class AddedBody(BaseModel):
    """An item that was added; ``replaced`` is the id of the one that was there under its key."""

    id: int
    key: str
    replaced: int | None = None


class AddedAnswer(ListAnswer):
    """What became of each picture, in order: its item, or an error in its place; ``added`` counts the items.

    With ``wait=false`` nothing yet: ``job`` is what /jobs/get tells it by.
    """

    items: list[AddedBody | ErrorAnswer]
    added: int
    job: str | None = Field(None, description="the job's id; only with wait=false", exclude_if=lambda job: job is None)

    @property
    def status(self) -> int:
        return 200 if self.job is None else 202

    def parts(self) -> Sequence[object]:
        return self.items


class JobAnswer(ListAnswer):
    """A job: ``items`` has what became of each picture, in order, or null while it is still to be added."""

    id: str
    state: Literal["waiting", "running", "done"]
    created_at: str
    finished_at: str | None
    total: int
    added: int
    failed: int
    items: list[AddedBody | ErrorAnswer | None]

    def parts(self) -> Sequence[object]:
        return ()  # its errors are no errors of this request


class ChangedBody(BaseModel):
    """An item that was removed or updated."""

    id: int


class ChangedAnswer(ListAnswer):
    """What became of each item, in order, or an error in its place; ``changed`` counts those that were there."""

    items: list[ChangedBody | ErrorAnswer]
    changed: int

    def parts(self) -> Sequence[object]:
        return self.items


class FacetsAnswer(ListAnswer):
    """The values of fields among ``count`` items."""

    facets: list[FacetBody]
    count: int

    def parts(self) -> Sequence[object]:
        return self.facets


def added_answer(keys: Sequence[str], added: Sequence[Added | Exception]) -> AddedAnswer:
    """Return what became of pictures in the shape of its answer."""
    items = [
        error_answer(one) if isinstance(one, Exception) else AddedBody(id=one.id, key=key, replaced=one.replaced)
        for key, one in zip(keys, added, strict=True)
    ]
    return AddedAnswer(items=items, added=sum(isinstance(one, AddedBody) for one in items))


_RESULT: TypeAdapter[AddedBody | ErrorAnswer] = TypeAdapter(AddedBody | ErrorAnswer)


def job_answer(job: Job) -> JobAnswer:
    """Return a job in the shape of its answer."""
    items = [None if result is None else _RESULT.validate_json(result) for result in job.results]
    return JobAnswer(
        id=job.id,
        state=job.state,
        created_at=job.created_at,
        finished_at=job.finished_at,
        total=len(items),
        added=sum(isinstance(one, AddedBody) for one in items),
        failed=sum(isinstance(one, ErrorAnswer) for one in items),
        items=items,
    )


def changed_answer(names: Sequence[int | str], found: Sequence[int | None]) -> ChangedAnswer:
    """Return which items were changed in the shape of their answer."""
    items = [
        error_answer(ItemNotFound(name)) if item_id is None else ChangedBody(id=item_id)
        for name, item_id in zip(names, found, strict=True)
    ]
    return ChangedAnswer(items=items, changed=sum(isinstance(one, ChangedBody) for one in items))


def facets_answer(facets: Sequence[Facet], count: int) -> FacetsAnswer:
    """Return facets in the shape of their answer."""
    return FacetsAnswer(facets=list(map(facet_body, facets)), count=count)
