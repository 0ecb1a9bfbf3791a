"""What a route is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from server.api.requests import Form, PicturesForm

Scope = Literal["read", "write"]
SCOPES: frozenset[str] = frozenset({"read", "write"})


@dataclass(frozen=True, slots=True)
class Route:
    """A route: who may call it, what it takes and what it gives.

    ``scope`` is what a key must have, None where no key is needed. ``form`` is the request as BentoML documents it,
    ``fields`` those of a JSON body or next to the files of a multipart one, ``alternative`` those of the JSON body that a
    multipart route takes as well. ``below``: it has all paths below it too.
    ``documented``: it is in /docs.json. ``parameters``: those of its query and its headers, as OpenAPI has them.
    """

    path: str
    method: Literal["GET", "POST"]
    scope: Scope | None
    summary: str
    takes: str = ""
    gives: str = ""
    form: type[Form] | None = None
    fields: type[BaseModel] | None = None
    alternative: type[BaseModel] | None = None
    answer: type[BaseModel] | None = None
    request_example: Any = None
    answer_example: Any = None
    below: bool = False
    documented: bool = True
    parameters: tuple[dict[str, Any], ...] = ()

    @property
    def multipart(self) -> bool:
        """Whether it takes picture files."""
        return self.form is not None and issubclass(self.form, PicturesForm)
