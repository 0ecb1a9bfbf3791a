"""The routes of items: those that give them, and those that change them."""

from __future__ import annotations

from server.api.item_requests import (
    AddFields,
    AddForm,
    AddItems,
    FacetsFields,
    FacetsForm,
    JobFields,
    JobForm,
    RemoveFields,
    RemoveForm,
    UpdateFields,
    UpdateForm,
)
from server.api.item_schemas import AddedAnswer, ChangedAnswer, FacetsAnswer, JobAnswer
from server.api.requests import ItemsFields, ItemsForm
from server.api.route import Route
from server.api.schemas import ItemsAnswer

ITEM = {
    "id": 1,
    "key": "beach/IMG_0042.jpg",
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "added_at": "2026-11-21T10:00:00Z",
    "metadata": {"width": 4032, "height": 3024},
    "thumbnail": None,
}

ITEMS_GET = Route(
    *("/items/get", "POST", "read", "Give items by id or key, with their thumbnails."),
    takes='JSON: `{"ids": […]}` or `{"keys": […]}`, `"thumbnail"`',
    gives='`{"items": [{"id", "key", "sha256", "added_at", "metadata", "thumbnail"}]}`',
    form=ItemsForm,
    fields=ItemsFields,
    answer=ItemsAnswer,
    request_example={"ids": [1], "thumbnail": False},
    answer_example={"items": [ITEM]},
)
REPEATABLE = {
    **{"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "minLength": 1, "maxLength": 255}},
    "description": "a name for this request: sent again under it within a day, it is not done again, and has the same answer",
}
WAIT = {
    **{"name": "wait", "in": "query", "schema": {"type": "boolean", "default": True}},
    "description": "false: the pictures are kept and added later; the answer (202) has a job's id for /jobs/get",
}
CHANGED = {"items": [{"id": 1}], "changed": 1}
ITEMS_FACETS = Route(
    *(
        "/items/facets",
        "POST",
        "read",
        "Count the values that fields have, among all items or those that a filter allows.",
    ),
    takes='JSON: `{"where", "fields": ["label", ["camera", "make"]], "limit"}`',
    gives='`{"facets": [{"field", "count", "distinct", "values": [{"value", "count"}], "numbers", "texts"}], "count"}`; '
    "`numbers` and `texts` are the least and the greatest",
    form=FacetsForm,
    fields=FacetsFields,
    answer=FacetsAnswer,
    request_example={"fields": ["label"], "where": {"width": {"$gte": 640}}, "limit": 10},
    answer_example={
        "facets": [
            {
                **{"field": ["label"], "count": 59, "distinct": 1, "values": [{"value": "beach", "count": 59}]},
                **{"numbers": None, "texts": ["beach", "beach"]},
            }
        ],
        "count": 59,
    },
)
ITEMS_ADD = Route(
    *("/items/add", "POST", "write"),
    "Add pictures, or replace those under the same keys. All that can be read are on the disk when this is answered, and "
    "found by every next query; the others have an error in their place.",
    takes="multipart: `images`, `keys` and `metadata` as JSON lists in the same order (else a file's name is its key); or "
    'JSON: `{"items": [{"image": base64} or {"url": …}, with "key", "metadata"]}`',
    gives='`{"items": [{"id", "key", "replaced": the id before or null}], "added"}`; with `?wait=false`, 202 and '
    '`{"job": an id for /jobs/get, "items": [], "added": 0}` once all is kept on the disk',
    form=AddForm,
    fields=AddFields,
    alternative=AddItems,
    answer=AddedAnswer,
    parameters=(WAIT, REPEATABLE),
    request_example={"items": [{"url": "https://example.com/a.jpg", "key": "a.jpg", "metadata": {"label": "beach"}}]},
    answer_example={"items": [{"id": 60, "key": "a.jpg", "replaced": None}], "added": 1},
)
ITEMS_REMOVE = Route(
    *("/items/remove", "POST", "write", "Remove items by id or key."),
    takes='JSON: `{"ids": […]}` or `{"keys": […]}`',
    gives='`{"items": [{"id"}], "changed"}`',
    form=RemoveForm,
    parameters=(REPEATABLE,),
    fields=RemoveFields,
    answer=ChangedAnswer,
    request_example={"keys": ["a.jpg"]},
    answer_example=CHANGED,
)
ITEMS_UPDATE = Route(
    *(
        "/items/update",
        "POST",
        "write",
        "Change the metadata of items: fields are set, and removed where they are null.",
    ),
    takes='JSON: `{"items": [{"id" or "key", "metadata": {…}}], "replace": false}`',
    gives='`{"items": [{"id"}], "changed"}`',
    form=UpdateForm,
    parameters=(REPEATABLE,),
    fields=UpdateFields,
    answer=ChangedAnswer,
    request_example={"items": [{"key": "a.jpg", "metadata": {"label": "beach", "stars": None}}]},
    answer_example=CHANGED,
)
JOBS_GET = Route(
    *("/jobs/get", "POST", "write", "Say how far a job of /items/add?wait=false is. It goes on after a restart."),
    takes='JSON: `{"id"}`',
    gives='`{"id", "state": waiting, running or done, "total", "added", "failed", "items": [an item, an error or null]}`',
    form=JobForm,
    fields=JobFields,
    answer=JobAnswer,
    request_example={"id": "5f0c6f0e8a9d4d3c9a35a3c8f7f6f1de"},
    answer_example={
        **{"id": "5f0c6f0e8a9d4d3c9a35a3c8f7f6f1de", "state": "running", "created_at": "2026-11-21T10:00:00+00:00"},
        **{"finished_at": None, "total": 2, "added": 1, "failed": 0},
        "items": [{"id": 60, "key": "a.jpg", "replaced": None}, None],
    },
)

CHANGES = (ITEMS_ADD, ITEMS_REMOVE, ITEMS_UPDATE, JOBS_GET)
