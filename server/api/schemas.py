"""The JSON shapes of every answer, and how results become them."""

from __future__ import annotations

import base64
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, Field

from index import Item
from search import EmbedResult, Found, FoundHit, SearchResult
from server.api.errors import ErrorAnswer, error_answer
from server.api.facet_schemas import FacetBody, Value, facet_body


class HitBody(BaseModel):
    """An item found; a higher ``score`` is closer: the cosine similarity in [-1, 1] under the metric cosine."""

    id: int
    key: str
    score: float
    metadata: dict[str, Any]
    group: GroupBody | None = Field(
        None,
        description="with group_by: the value that it stands for; not there for an item without the field",
        exclude_if=lambda group: group is None,
    )
    folded: list[int] | None = Field(
        None,
        description="with fold: the ids of the items that were folded into it, nearest first",
        exclude_if=lambda folded: folded is None,
    )
    box: list[float] | None = Field(
        None,
        description="with parts: where in the item's picture, or in the query's, the part is that was found: "
        "[x, y, width, height], shares of it",
        exclude_if=lambda box: box is None,
    )

    match: float | None = Field(
        None,
        description="with match or min_match: the probability that it is a copy of the query's picture, altered or not",
        exclude_if=lambda match: match is None,
    )


class GroupBody(BaseModel):
    """A value of the field that hits are grouped by, and how many items have it, among those that the filter allows."""

    value: Value
    size: int


class VoteBody(BaseModel):
    """A value of a field, its share of the hits' votes, which weigh exp(score / 0.07), and how many hits have it."""

    value: Value
    confidence: float
    count: int


class FoundBody(BaseModel):
    """One query's hits, nearest first; ``batch_size`` is how many pictures its embedding shared the network with."""

    hits: list[HitBody]
    batch_size: int | None = Field(description="null where nothing was embedded, as for a query by id")
    total: int | None = Field(
        None,
        description="with offset or limit: how many hits all pages have",
        exclude_if=lambda total: total is None,
    )
    facets: list[FacetBody] | None = Field(
        None,
        description="with facets: the values among the hits of all pages",
        exclude_if=lambda facets: facets is None,
    )
    classify: list[VoteBody] | None = Field(
        None,
        description="with classify: what the hits of all pages say of the field, the likeliest value first",
        exclude_if=lambda votes: votes is None,
    )

    no_match: bool = Field(
        False,
        description="with match or min_match: true where no hit is a copy (0.5, or min_match); else it is not there",
        exclude_if=lambda is_true: not is_true,
    )


class ListAnswer(BaseModel):
    """An answer that has one part for each thing asked, in order; a part may be an error."""

    @abstractmethod
    def parts(self) -> Sequence[object]:
        """Return one part for each thing that was asked."""

    @property
    def status(self) -> int:
        """The HTTP status of an answer that is no error."""
        return 200

    def sole_error(self) -> ErrorAnswer | None:
        """Return the error when one thing was asked and could not be answered: it is the whole answer's status too."""
        parts = self.parts()
        return parts[0] if len(parts) == 1 and isinstance(parts[0], ErrorAnswer) else None


class SearchAnswer(ListAnswer):
    """One result for each query, in order; a query that could not be answered has an error in its place."""

    results: list[FoundBody | ErrorAnswer]
    generation: int
    model: str
    timings_ms: dict[str, float]
    hint: str | None = Field(
        None,
        description="why a filter found nothing, where it asks of fields that no item has; else it is not there",
        exclude_if=lambda hint: hint is None,
    )

    def parts(self) -> Sequence[object]:
        return self.results


class EmbedAnswer(ListAnswer):
    """One vector for each picture, in order, or an error in its place; of unit length under the metric cosine."""

    embeddings: list[list[float] | ErrorAnswer]
    dim: int
    model: str
    batch_sizes: list[int | None]
    timings_ms: dict[str, float]

    def parts(self) -> Sequence[object]:
        return self.embeddings


class ItemBody(BaseModel):
    """An item of the catalogue; ``thumbnail`` is a base64 JPEG when it was asked for."""

    id: int
    key: str
    sha256: str
    added_at: str
    metadata: dict[str, Any]
    thumbnail: str | None = None


class ItemsAnswer(ListAnswer):
    """The items asked for, in order; one that is not there has an error in its place."""

    items: list[ItemBody | ErrorAnswer]

    def parts(self) -> Sequence[object]:
        return self.items


def search_answer(result: SearchResult) -> SearchAnswer:
    """Return a search's result in the shape of its answer."""
    return SearchAnswer(
        results=[error_answer(one) if isinstance(one, Exception) else _found(one) for one in result.results],
        generation=result.generation,
        model=result.model,
        timings_ms=result.timings_ms,
        hint=result.hint,
    )


def embed_answer(result: EmbedResult) -> EmbedAnswer:
    """Return embeddings in the shape of their answer."""
    parts = result.embeddings
    return EmbedAnswer(
        embeddings=[error_answer(one) if isinstance(one, Exception) else one.vector.tolist() for one in parts],
        batch_sizes=[None if isinstance(one, Exception) else one.batch_size for one in parts],
        dim=result.dim,
        model=result.model,
        timings_ms=result.timings_ms,
    )


def items_answer(items: Sequence[Item | Exception], thumbnails: Sequence[bytes | None]) -> ItemsAnswer:
    """Return items in the shape of their answer, with the JPEG bytes of the thumbnails of those that are there."""
    jpegs = iter(thumbnails)
    return ItemsAnswer(
        items=[error_answer(one) if isinstance(one, Exception) else _item(one, next(jpegs)) for one in items]
    )


def _found(found: Found) -> FoundBody:
    return FoundBody(
        hits=list(map(_hit, found.hits)),
        batch_size=found.batch_size,
        total=found.total,
        facets=None if found.facets is None else list(map(facet_body, found.facets)),
        classify=None if found.classify is None else [VoteBody(**asdict(one)) for one in found.classify],
        no_match=found.no_match,
    )


def _hit(hit: FoundHit) -> HitBody:
    return HitBody(
        id=hit.item.id,
        key=hit.item.key,
        score=hit.score,
        metadata=hit.item.metadata,
        group=None if hit.group is None else GroupBody(**asdict(hit.group)),
        folded=None if hit.folded is None else list(hit.folded),
        box=None if hit.box is None else list(hit.box),
        match=hit.match,
    )


def _item(item: Item, thumbnail: bytes | None) -> ItemBody:
    return ItemBody(
        id=item.id,
        key=item.key,
        sha256=item.sha256,
        added_at=item.added_at,
        metadata=item.metadata,
        thumbnail=base64.b64encode(thumbnail).decode() if thumbnail else None,
    )
