"""What /search and /query take, checked before any work is done: what to search by, and how the answer is shaped."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self
from unicodedata import normalize

from pydantic import AfterValidator, ConfigDict, Field, create_model, field_validator, model_validator

from model import LONGEST_TEXT, Region
from search import MOST_WEIGHT, Shaping, Sorting
from server.api.errors import INVALID_FIELD, RequestError
from server.api.requests import Form, Id, PictureOne, PicturesForm, Strict, Text, Whole, is_text
from settings import Settings

MOST_FACETS = 50
LONGEST_PATH = 8  # names on the way to a field: a filter reaches no deeper
BUILT_IN = ("score", "key", "added_at")  # what hits are sorted by besides their metadata
Number = Annotated[float, Field(allow_inf_nan=False)]
FieldName = Text | Annotated[list[Text], Field(min_length=1, max_length=LONGEST_PATH)]
Weight = Annotated[float, Field(gt=0, le=MOST_WEIGHT, allow_inf_nan=False)]
WEIGHT = f"how much it counts against the others, above 0 and at most {MOST_WEIGHT}"
# Its length before its letters: pydantic counts the items of what comes out of a function.
Words = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT), AfterValidator(is_text)]
MOST_EXAMPLES = 16  # in a list


PLACE, SIZE = (
    {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
    {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
)
BOX: dict[str, Any] = {"prefixItems": [PLACE, PLACE, SIZE, SIZE]}
NONE: dict[str, Any] = {"type": "null"}
PICTURES = ("image", "url")  # fields that name a picture, which a region may be in


def _names(or_else: str | None = None, **types: str) -> dict[str, Any]:
    """Return what JSON Schema says of fields of these types, of which one is given; a region goes with a picture alone.

    ``or_else``: a list that may be given without any of them.
    """
    none = dict.fromkeys((*types, "region"), NONE)
    given: list[dict[str, Any]] = []
    for name, kind in types.items():
        without = {one: NONE for one in none if one != name and not (one == "region" and name in PICTURES)}
        given.append({"required": [name], "properties": {**without, name: {"type": kind}}})
    if or_else:
        given.append({"required": [or_else], "properties": {**none, or_else: {"minItems": 1}}})
    return {"oneOf": given}


def path_of(name: str | list[str]) -> tuple[str, ...]:
    """Return the path of a field, in NFC as the catalogue has it."""
    return tuple(normalize("NFC", one) for one in ([name] if isinstance(name, str) else name))


class Weighted(Strict):
    """What an example has besides what it is."""

    weight: Weight = Field(1.0, description=WEIGHT)
    region: Annotated[list[Number], Field(min_length=4, max_length=4, json_schema_extra=BOX)] | None = Field(
        None,
        description="a box in the picture to search by: [x, y, width, height], shares of its width and height",
    )

    @field_validator("region")
    @classmethod
    def _is_a_box(cls, box: list[float] | None) -> list[float] | None:
        if box is not None:
            Region(*box)
        return box

    @property
    def box(self) -> Region | None:
        """The box, if there is one."""
        return None if self.region is None else Region(*self.region)


class ExampleOne(PictureOne, Weighted):
    """A picture in base64 or by its URL, an item of the catalogue by its id, or words."""

    model_config = ConfigDict(json_schema_extra=_names(image="string", url="string", id="integer", text="string"))
    NAMES: ClassVar[tuple[str, ...]] = ("image", "url", "id", "text")

    id: Id | None = Field(None, description="an item of the catalogue, which is not its own hit")
    text: Words | None = Field(
        None, description="words for what pictures show, where the model knows any: zebra, musical instrument"
    )

    @model_validator(mode="after")
    def _has_a_picture(self) -> Self:
        if self.region is not None and all(getattr(self, name) is None for name in PICTURES):
            raise ValueError("region: it needs a picture, by image or url")
        return self

    @property
    def has_own(self) -> bool:
        """Whether it names a thing itself."""
        return any(getattr(self, name) is not None for name in self.NAMES)


class Examples(Strict):
    """Further examples that hits are to be like, or unlike."""

    positive: list[ExampleOne] = Field([], max_length=MOST_EXAMPLES, description="what hits are to be like, too")
    negative: list[ExampleOne] = Field([], max_length=MOST_EXAMPLES, description="what hits are to be unlike")
    combine: Literal["mean", "best"] = Field(
        "mean", description="search by the examples' weighted mean, or by whichever positive one is nearest"
    )

    def count(self) -> int:
        """Return how many examples there are."""
        return len(self.positive) + len(self.negative)


class QueryOne(ExampleOne, Examples):
    """One query: a picture, an item or words, or positive and negative examples, or both."""

    model_config = ConfigDict(
        json_schema_extra=_names("positive", image="string", url="string", id="integer", text="string")
    )

    @model_validator(mode="after")
    def _names_one_thing(self) -> Self:
        if self.negative and not self.positive and not self.has_own:
            raise ValueError("negative is not enough: give image, url, id, text or positive too")
        self.check_one(needed=not self.positive)
        return self

    @property
    def is_combined(self) -> bool:
        """Whether there are more examples than one."""
        return bool(self.positive or self.negative)


class ShapingFields(Strict):
    """How an answer is shaped, in the order in which it is done."""

    k: Annotated[int, Field(ge=1), Whole] | None = Field(None, description="hits for each query, over all pages")
    where: Any = Field(None, description='a filter on the items\' metadata, such as {"width": {"$gte": 640}}')
    min_score: Number | None = Field(None, description="the least score that a hit has")
    fold: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="fold hits that are at least so similar to one before them into that; 0.98 is nearly identical",
    )
    group_by: FieldName | None = Field(
        None, description="give one hit for each value of this field, with how many items have it"
    )
    diversity: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="how much hits are to differ from each other, by maximal marginal relevance; 0 for not at all"
    )
    sort: Text | SortFields | None = Field(
        None,
        description="sort the k hits by a field, `score`, `key` or `added_at`; `-captured_at` for the last first",
    )
    offset: Annotated[int, Field(ge=0), Whole] = Field(0, description="hits to leave out, from the first on")
    limit: Annotated[int, Field(ge=1), Whole] | None = Field(
        None, description="hits of the page; with offset or limit k is all that are allowed unless it is given"
    )
    facets: Annotated[list[FieldName], Field(max_length=MOST_FACETS)] = Field(
        [], description="fields whose values are counted among the k hits"
    )
    classify: FieldName | None = Field(None, description="the field on whose value the k hits vote")
    parts: Literal["items", "query"] | None = Field(
        None,
        description="search for the query among the parts of items, which build --regions makes, or for the parts of the "
        "query's picture among the items",
    )

    match: bool = Field(False, description="say of each hit how probably it is a copy of the query's picture")
    min_match: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="the least probability of being a copy that a hit has; copies are found that embeddings alone would miss",
    )

    @model_validator(mode="after")
    def _matches_whole_pictures(self) -> Self:
        if self.parts is not None and (self.match or self.min_match is not None):
            raise ValueError("match: copies are of whole pictures; ask for match and for parts in two requests")
        return self

    def shaping(self, settings: Settings) -> Shaping:
        """Return what the fields mean. Raises RequestError where they ask for more than is allowed."""
        for name in ("k", "limit", "offset"):
            if (value := getattr(self, name)) is not None and value > settings.max_k:
                raise RequestError(INVALID_FIELD, f"{name}: {value} is more than the {settings.max_k} allowed")
        paged = self.offset > 0 or self.limit is not None
        return Shaping(
            k=self.k or (settings.max_k if paged else min(settings.k, settings.max_k)),
            offset=self.offset,
            limit=self.limit,
            min_score=self.min_score,
            fold=self.fold,
            group_by=None if self.group_by is None else path_of(self.group_by),
            diversity=self.diversity,
            sort=None if self.sort is None else _sorting(self.sort),
            facets=tuple(map(path_of, self.facets)),
            classify=None if self.classify is None else path_of(self.classify),
            parts=self.parts,
            match=self.match,
            min_match=self.min_match,
        )


class SortFields(Strict):
    """A field to sort by; by the names on the way to it where it is inside another, or has one of the built-in names."""

    field: FieldName
    order: Literal["asc", "desc"] = "asc"


def _sorting(given: str | SortFields) -> Sorting:
    if isinstance(given, SortFields):
        name, descending = given.field, given.order == "desc"
    else:
        name, descending = given.removeprefix("-"), given.startswith("-")
    return Sorting(name if isinstance(name, str) and name in BUILT_IN else path_of(name), descending)


class SearchFields(ShapingFields, Examples, Weighted):
    """The text fields of POST /search, which hold for each of its pictures."""


class QueryFields(ShapingFields):
    """The body of POST /query."""

    queries: list[QueryOne] = Field(min_length=1)


class QueryForm(Form, QueryFields):
    """The body of POST /query."""


ShapingFields.model_rebuild()
# What BentoML's clients may send: each is text in a multipart body.
SearchForm = create_model(
    "SearchForm",
    __base__=PicturesForm,
    __doc__="Pictures to find the likes of.",
    **{name: (str | None, Field(None, description=one.description)) for name, one in SearchFields.model_fields.items()},  # type: ignore[call-overload]
)
