"""What POST /duplicates and /duplicates/check take and give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, get_args

from pydantic import BaseModel, Field

from copies import Compared, Group, Kind, Member, PathRules, Picture, Wanted
from search import CheckResult
from server.api.errors import INVALID_FIELD, ErrorAnswer, RequestError, error_answer
from server.api.requests import Form, PictureOne, PicturesForm, Strict, Text, Whole
from server.api.schemas import ListAnswer
from settings import Settings

Share = Annotated[float, Field(ge=0, le=1)]
MOST_PATTERNS = 64


class DuplicatesFields(Strict):
    """The body of POST /duplicates."""

    kinds: Annotated[list[Kind], Field(min_length=1, max_length=len(get_args(Kind)))] = Field(
        ["identical", "same_pixels", "altered_copy"], description="kinds of duplicates"
    )
    min_match: Share = Field(0.9, description="the least probability of an altered copy")
    within: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        10.0, description="seconds between pictures of the same moment"
    )
    alike: Annotated[float, Field(ge=0.8, le=1)] = Field(0.9, description="the least cosine of pictures that are alike")
    where: Any = Field(None, description="only among the items that a filter allows")
    prefer: Annotated[list[Text], Field(max_length=MOST_PATTERNS)] = Field(
        [], description="patterns of keys, such as `originals/*`: such pictures are kept before others"
    )
    avoid: Annotated[list[Text], Field(max_length=MOST_PATTERNS)] = Field(
        [], description="patterns of keys: such pictures are kept only where there is no other"
    )
    offset: Annotated[int, Field(ge=0, le=10**9), Whole] = Field(
        0, description="groups to leave out, the largest first"
    )
    limit: Annotated[int, Field(ge=1), Whole] = Field(20, description="groups of the page")

    def wanted(self, settings: Settings) -> Wanted:
        """Return which pictures count as duplicates. Raises RequestError where more groups are asked for than are allowed."""
        if self.limit > settings.max_k:
            raise RequestError(INVALID_FIELD, f"limit: {self.limit} is more than the {settings.max_k} allowed")
        paths = PathRules(tuple(self.prefer), tuple(self.avoid))
        return Wanted(tuple(self.kinds), self.min_match, self.within, self.alike, paths)


class DuplicatesForm(Form, DuplicatesFields):
    """The body of POST /duplicates."""


class PictureBody(BaseModel):
    """A picture of a group; ``bytes`` is the size of its file."""

    id: int
    key: str
    bytes: int
    format: str
    metadata: dict[str, Any]


class KeepBody(PictureBody):
    """The picture of a group that is best kept, and why."""

    reason: str


class DuplicateBody(PictureBody):
    """A duplicate of the picture that is kept: its kind, its match, and the cosine of their embeddings."""

    kind: Kind
    match: float
    score: float


class DuplicatesGroup(BaseModel):
    """A picture to keep and its duplicates, the surest first; ``kind`` is the least sure of theirs."""

    kind: Kind
    keep: KeepBody
    duplicates: list[DuplicateBody]


class DuplicatesAnswer(BaseModel):
    """A page of groups, of ``total``; where it is not ``complete``, ``compared`` of ``items`` were compared so far."""

    groups: list[DuplicatesGroup]
    total: int
    compared: int
    items: int
    complete: bool


class CheckFields(Strict):
    """The text fields of a multipart POST /duplicates/check."""

    min_match: Share = Field(0.9, description="the least probability of being a copy")


class CheckPictures(CheckFields):
    """The JSON body of POST /duplicates/check."""

    pictures: list[PictureOne] = Field(min_length=1)


class CheckForm(PicturesForm):
    """Pictures to look for."""

    min_match: str | None = Field(None, description="the least probability of being a copy")


class MatchBody(BaseModel):
    """An item that a picture is a copy of."""

    id: int
    key: str
    kind: Kind
    match: float


class CheckedBody(BaseModel):
    """Whether a picture is in the catalogue, and as which items, the best match first."""

    duplicate: bool
    matches: list[MatchBody]


class CheckAnswer(ListAnswer):
    """One result for each picture, in order, or an error in its place."""

    results: list[CheckedBody | ErrorAnswer]
    timings_ms: dict[str, float]

    def parts(self) -> Sequence[object]:
        return self.results


def group_body(group: Group) -> DuplicatesGroup:
    """Return a group in the shape of its answer."""
    return DuplicatesGroup(
        kind=group.kind,
        keep=KeepBody(**_facts(group.keep), reason=group.reason),
        duplicates=list(map(_duplicate, group.members)),
    )


def duplicates_answer(groups: Sequence[Group], total: int, compared: Compared) -> DuplicatesAnswer:
    """Return a page of groups in the shape of its answer."""
    done, items = compared
    bodies = list(map(group_body, groups))
    return DuplicatesAnswer(groups=bodies, total=total, compared=done, items=items, complete=done == items)


def check_answer(found: Sequence[CheckResult | Exception], timings: dict[str, float]) -> CheckAnswer:
    """Return what was found of pictures in the shape of its answer."""
    return CheckAnswer(
        results=[error_answer(one) if isinstance(one, Exception) else _checked(one) for one in found],
        timings_ms=timings,
    )


def _checked(one: CheckResult) -> CheckedBody:
    matches = [MatchBody(id=hit.item.id, key=hit.item.key, kind=hit.kind, match=hit.match) for hit in one.matches]
    return CheckedBody(duplicate=bool(matches), matches=matches)


def _facts(one: Picture) -> dict[str, Any]:
    return {"id": one.id, "key": one.key, "bytes": one.bytes, "format": one.format, "metadata": one.metadata}


def _duplicate(one: Member) -> DuplicateBody:
    relation = one.relation
    return DuplicateBody(**_facts(one.picture), kind=relation.kind, match=relation.match, score=relation.cosine)
