"""Completes the description that BentoML makes of the routes: what each takes, within its limits; each status with its body.

BentoML leaves out what is optional, and tells of errors that are never sent.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from server.api.errors import ERROR_KINDS, ErrorAnswer, error_answer_of
from server.api.requests import ItemsFields, QueryFields
from settings import Settings

VERSION = "0.1.0"
DESCRIPTION = (
    "Reverse image search over one catalogue of pictures. Every error is "
    '{"error": {"code", "message", "hint"}}; codes are stable, messages are not. Where several things are asked for, one '
    "that could not be answered has its error in its place; where one is, its error is also the status."
)
HITS = [{"id": 1, "key": "beach/IMG_0042.jpg", "score": 0.913, "metadata": {"width": 4032, "height": 3024}}]
SEARCHED = {
    "results": [{"hits": HITS, "batch_size": 8}],
    "generation": 1,
    "model": "resnet50.tv_in1k",
    "timings_ms": {"decode": 6.1, "embed": 24.8, "search": 0.4},
}
ITEM = {
    "id": 1,
    "key": "beach/IMG_0042.jpg",
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "added_at": "2026-11-21T10:00:00Z",
    "metadata": {"width": 4032, "height": 3024},
    "thumbnail": None,
}
ANSWERS: dict[str, Any] = {
    "/search": SEARCHED,
    "/query": SEARCHED,
    "/embed": {
        "embeddings": [[0.6, 0.8]],
        "dim": 2,
        "model": "resnet50.tv_in1k",
        "batch_sizes": [8],
        "timings_ms": {"decode": 6.1, "embed": 24.8},
    },
    "/items/get": {"items": [ITEM]},
}
REQUESTS: dict[str, Any] = {
    "/query": {"queries": [{"id": 1}], "k": 3, "where": {"width": {"$gte": 640}}},
    "/items/get": {"ids": [1], "thumbnail": False},
}
REFERENCE = "#/components/schemas/{model}"
KEYS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API key"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "the same key"},
}
JSON_ROUTES: dict[str, type[BaseModel]] = {"/query": QueryFields, "/items/get": ItemsFields}
SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}]
GETS = {
    "/livez": "That the process runs.",
    "/healthz": "The same, by its older name.",
    "/readyz": "That it can search; 503 says why not.",
    "/metrics": "Prometheus metrics of all processes.",
}


TEXT = {"pattern": "^[^\\u0000]*$"}
SCALAR = {"type": ["string", "number", "boolean", "null"], **TEXT}
ORDERED = {"type": ["string", "number"], **TEXT}
SCALARS = {"type": "array", "items": SCALAR}
FIELD_NAME = "^(?!\\$)[^\\u0000]*$"


def _reference(name: str) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=name)}


FILTERS: dict[str, Any] = {
    "Filter": {
        "description": "Conditions that all must hold, 64 of them at most and 8 levels deep; Filters in the README has more.",
        "type": "object",
        "properties": {
            "$and": {"type": "array", "items": _reference("Filter"), "minItems": 1},
            "$or": {"type": "array", "items": _reference("Filter"), "minItems": 1},
            "$not": _reference("Filter"),
        },
        "patternProperties": {FIELD_NAME: _reference("Field")},
        "additionalProperties": False,
        "examples": [{"label": {"$in": ["beach", "harbour"]}, "width": {"$gte": 1920}}],
    },
    "Field": {
        "description": "What is asked of a field: a value that it equals, operators, or the fields inside it.",
        "anyOf": [
            SCALAR,
            {
                "type": "object",
                "minProperties": 1,
                "properties": {
                    **dict.fromkeys(("$eq", "$ne", "$contains"), SCALAR),
                    **dict.fromkeys(("$in", "$nin"), SCALARS),
                    **dict.fromkeys(("$gt", "$gte", "$lt", "$lte"), ORDERED),
                    **{"$exists": {"type": "boolean"}, "$not": _reference("Field")},
                },
                "additionalProperties": False,
            },
            {
                "type": "object",
                "minProperties": 1,
                "patternProperties": {FIELD_NAME: _reference("Field")},
                "additionalProperties": False,
            },
        ],
    },
}


def complete(made: dict[str, Any], settings: Settings, needs_key: bool) -> dict[str, Any]:
    """The whole description, OpenAPI 3.1, from what BentoML has made of the services' signatures."""
    made = json.loads(json.dumps(made))  # a copy, with texts for keys
    schemas = {
        name: schema
        for name, schema in made["components"]["schemas"].items()
        if name in ("Found", "HitBody", "ItemBody")  # the others are BentoML's own, or told better below
    } | FILTERS
    bodies = {path: _multipart(settings, searches=path == "/search") for path in ("/search", "/embed")}
    bodies |= {path: _json(model, settings, schemas) for path, model in JSON_ROUTES.items()}
    _json(ErrorAnswer, settings, schemas)
    if settings.url_hosts is None:
        del schemas["QueryOne"]["properties"]["url"]
        schemas["QueryOne"]["oneOf"] = [one for one in schemas["QueryOne"]["oneOf"] if one["required"] != ["url"]]
    paths = {path: {"get": _get(path, told)} for path, told in GETS.items()}
    if needs_key:
        paths["/metrics"]["get"]["security"] = SECURITY
    for path, body in bodies.items():
        paths[path] = {"post": _post(path, made["paths"][path]["post"], body, needs_key)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "BentoLens", "version": VERSION, "description": DESCRIPTION},
        "paths": paths,
        "components": {"schemas": schemas, **({"securitySchemes": KEYS} if needs_key else {})},
    }


def _json(model: type[BaseModel], settings: Settings, schemas: dict[str, Any]) -> dict[str, Any]:
    """A JSON body; its model, and those inside it, are added to ``schemas``."""
    schema = model.model_json_schema(ref_template=REFERENCE)
    schemas |= schema.pop("$defs", {})
    schemas[model.__name__] = schema
    for name, field in schema["properties"].items():
        if name == "where":
            schema["properties"][name] = {"anyOf": [_reference("Filter"), {"type": "null"}]}
        for kind in [field, *field.get("anyOf", ())]:
            if kind.get("type") == "array":
                kind["maxItems"] = settings.max_images
            if name == "k" and kind.get("type") == "integer":
                kind["maximum"] = settings.max_k
    return {"application/json": {"schema": _reference(model.__name__)}}


def _multipart(settings: Settings, *, searches: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "images": {
            "description": f"picture files, of {settings.max_bytes:,} bytes and {settings.max_pixels:,} pixels at most",
            **{"type": "array", "items": {"type": "string", "format": "binary"}},
            **{"minItems": 1, "maxItems": settings.max_images},
        }
    }
    encoding = {"images": {"contentType": "application/octet-stream, image/*"}}
    if searches:
        fields["k"] = {
            **{"description": "hits for each picture", "type": ["integer", "null"]},
            **{"minimum": 1, "maximum": settings.max_k},
            "default": settings.k,
        }
        fields["where"] = _reference("Filter")
        encoding |= {"k": {"contentType": "application/json"}, "where": {"contentType": "application/json"}}
    schema = {"type": "object", "required": ["images"], "properties": fields, "additionalProperties": False}
    return {"multipart/form-data": {"schema": schema, "encoding": encoding}}


def _get(path: str, told: str) -> dict[str, Any]:
    answers: dict[str, Any] = {"200": {"description": "OK", "content": {"text/plain": {"schema": {"type": "string"}}}}}
    if path == "/readyz":
        answers["503"] = _error(HTTPStatus.SERVICE_UNAVAILABLE)
    if path == "/metrics":
        answers |= {str(int(status)): _error(status) for status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)}
    return {"summary": told, "operationId": path.strip("/"), "tags": ["Operation"], "responses": answers}


def _post(path: str, made: dict[str, Any], body: dict[str, Any], needs_key: bool) -> dict[str, Any]:
    (media,) = made["responses"]["200"]["content"].values()
    media["example"] = ANSWERS[path]
    if path in REQUESTS:
        body["application/json"]["example"] = REQUESTS[path]
    made["requestBody"] = {"content": body, "required": True}
    found = {"200": made["responses"]["200"]} | {str(int(status)): _error(status) for status in sorted(ERROR_KINDS)}
    made |= {"responses": found, "summary": made.pop("description"), "tags": ["Search"]}
    # Where no key is needed, none is asked for; where one is, all routes but those of health need it.
    return made | ({"security": SECURITY} if needs_key else {})


def _error(status: HTTPStatus) -> dict[str, Any]:
    """A status, with an example of each error that has it."""
    examples = {
        kind.code: {"value": error_answer_of(kind, "what was wrong with it").model_dump()}
        for kind in ERROR_KINDS[status]
    }
    answer: dict[str, Any] = {
        "description": status.phrase,
        "content": {"application/json": {"schema": _reference("ErrorAnswer"), "examples": examples}},
    }
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        answer["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return answer
