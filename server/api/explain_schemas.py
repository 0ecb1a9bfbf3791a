"""What POST /explain takes and gives."""

from __future__ import annotations

import base64
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from search import Explanation, Shares
from server.api.query_requests import ExampleOne
from server.api.requests import Form, Id, Strict, Whole

Box = Annotated[list[float], Field(min_length=4, max_length=4)]


class ExplainFields(Strict):
    """The body of POST /explain: a query, and one of its hits."""

    query: ExampleOne
    id: Id = Field(description="an item, usually a hit of the query")
    detail: Annotated[Literal[1, 2], Whole] = Field(
        1, description="2 looks at each picture at twice the edge: four times the positions, at four times the cost"
    )
    overlay: bool = Field(True, description="whether pictures are given too, in which what adds little is dark")


class ExplainForm(Form, ExplainFields):
    """The body of POST /explain."""


class SharesBody(BaseModel):
    """What each position of a picture adds to the score."""

    parts: list[list[float]] = Field(description="by row and column; where exact, they sum to the cosine")
    contrast: list[list[float]] = Field(description="the same, beyond what the whole catalogue has in common")
    view: Box = Field(description="the box that the network sees: [x, y, width, height], shares of the picture")
    strongest: Box = Field(description="the box of the position with the largest contrast, likewise")
    source: Literal["query", "original", "thumbnail"] = Field(description="which file was looked at")
    overlay: str | None = Field(description="a JPEG in base64 of what the network sees, the brighter the more it adds")


class ExplainAnswer(BaseModel):
    """Why an item is a hit of a query, by the positions in both pictures; ``query`` is null for a query by words."""

    score: float
    exact: bool = Field(
        description="whether the parts sum to the cosine of what was looked at: so for global average pooling; those of "
        "vision transformers are approximate"
    )
    query: SharesBody | None
    hit: SharesBody
    model: str


def explain_answer(found: Explanation, model: str, *, overlay: bool) -> ExplainAnswer:
    """Return an explanation in the shape of its answer."""
    return ExplainAnswer(
        score=found.score,
        exact=found.exact,
        query=None if found.query is None else _shares(found.query, overlay=overlay),
        hit=_shares(found.hit, overlay=overlay),
        model=model,
    )


def _shares(found: Shares, *, overlay: bool) -> SharesBody:
    return SharesBody(
        parts=found.parts.tolist(),
        contrast=found.contrast.tolist(),
        view=list(found.view),
        strongest=list(found.strongest),
        source=found.source,
        overlay=base64.b64encode(found.overlay).decode() if overlay else None,
    )
