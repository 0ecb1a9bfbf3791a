"""What the routes that change items take, checked before any work is done."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from server.api.query_requests import path_of
from server.api.requests import Form, Id, PictureOne, PicturesForm, Strict, Text, Whole, one_of

Metadata = dict[Text, Any]


class AddFields(Strict):
    """The text fields of a multipart POST /items/add: lists in the order of the files."""

    keys: list[Text] | None = Field(None, description="the items' keys; else the files' names")
    metadata: list[Metadata | None] | None = Field(None, description="the items' metadata")


class AddOne(PictureOne):
    """A picture to add, in base64 or by its URL."""

    key: Text | None = Field(None, description="the item's key; else the URL, or the picture's SHA-256")
    metadata: Metadata | None = Field(None, description="the item's metadata")


class AddItems(Strict):
    """The JSON body of POST /items/add."""

    items: list[AddOne] = Field(min_length=1)


class JobFields(Strict):
    """The body of POST /jobs/get."""

    id: Text = Field(description="the job's id, as /items/add has given it")


class RemoveFields(Strict):
    """The body of POST /items/remove: ids or keys."""

    model_config = one_of("ids", "keys")

    ids: list[Id] | None = None
    keys: list[Text] | None = None

    @model_validator(mode="after")
    def _names_one_thing(self) -> Self:
        if (self.ids is None) == (self.keys is None):
            raise ValueError("give either ids or keys")
        return self


class UpdateOne(Strict):
    """An item, by id or key, and what its metadata becomes."""

    model_config = one_of("id", "key")

    id: Id | None = None
    key: Text | None = None
    metadata: Metadata = Field(description="fields to set; null removes one")

    @model_validator(mode="after")
    def _names_one_thing(self) -> Self:
        if (self.id is None) == (self.key is None):
            raise ValueError("give either id or key")
        return self

    @property
    def name(self) -> int | str:
        """The item's id or key."""
        return self.id if self.id is not None else self.key or ""


class UpdateFields(Strict):
    """The body of POST /items/update."""

    items: list[UpdateOne] = Field(min_length=1)
    replace: bool = Field(False, description="whether the metadata given is all that an item has afterwards")


class FacetsFields(Strict):
    """The body of POST /items/facets."""

    where: Any = Field(None, description="a filter; else all items are counted")
    fields: list[Text | list[Text]] | None = Field(
        None, description="fields to count, by name, or by the names on the way to one inside another; else all"
    )
    limit: Annotated[int, Field(ge=1, le=1000), Whole] = Field(
        20, description="values of each field, the most frequent first"
    )

    def paths(self) -> list[tuple[str, ...]] | None:
        """Return the paths of the fields, in NFC as the catalogue has them, or None for all."""
        if self.fields is None:
            return None
        return [path_of(one) for one in self.fields]


class AddForm(PicturesForm):
    """Pictures to add."""

    keys: str | None = Field(None, description="the items' keys, a JSON list in the order of the files")
    metadata: str | None = Field(None, description="the items' metadata, a JSON list in the order of the files")


class JobForm(Form, JobFields):
    """The body of POST /jobs/get."""


class RemoveForm(Form, RemoveFields):
    """The body of POST /items/remove."""


class UpdateForm(Form, UpdateFields):
    """The body of POST /items/update."""


class FacetsForm(Form, FacetsFields):
    """The body of POST /items/facets."""
