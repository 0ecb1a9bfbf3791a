"""Describe the routes, OpenAPI 3.1: what each takes, within its limits, and each status with its body.

BentoML's own description leaves out what is optional, and has errors that are never sent.
"""

from __future__ import annotations

import copy
import json
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from index import OPERATORS
from model import FORMATS
from server.api.errors import KINDS_BY_STATUS, ErrorAnswer, error_answer_of
from server.api.item_routes import CHANGES, WAIT
from server.api.parsing import NAMES
from server.api.route import Route
from server.api.routes import READYZ, ROUTES
from settings import Settings

VERSION = "0.1.0"
DESCRIPTION = (
    "Reverse image search over one catalogue of pictures. Every error is "
    '{"error": {"code", "message", "hint"}}; codes are stable, messages are not. Where several things are asked for, one '
    "that could not be answered has its error in its place; where one is, its error is also the status."
)
BODIES = {  # parts of answers
    "FoundBody",
    "HitBody",
    "GroupBody",
    "VoteBody",
    "ItemBody",
    "AddedBody",
    "ChangedBody",
    "FacetBody",
    "FacetValue",
    "SharesBody",
    "DuplicatesGroup",
    "KeepBody",
    "DuplicateBody",
    "CheckedBody",
    "MatchBody",
}
BOUNDED = ("k", "offset", "limit")  # what LENS_MAX_K bounds
REFERENCE = "#/components/schemas/{model}"
KEYS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API key"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "the same key"},
}
SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}]

TEXT = {"pattern": "^[^\\u0000]*$"}
SCALAR = {"type": ["string", "number", "boolean", "null"], **TEXT}
FIELD_NAME = "^(?!\\$)[^\\u0000]*$"


def _reference(name: str) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=name)}


# What each kind of operand is, in JSON Schema.
OPERANDS: dict[str, Any] = {
    "scalar": SCALAR,
    "text": {"type": "string", **TEXT},
    "ordered": {"type": ["string", "number"], **TEXT},
    "scalars": {"type": "array", "items": SCALAR},
    "boolean": {"type": "boolean"},
    "period": {"type": "string", "pattern": "^(2[0-9]{3}(-(0[1-9]|1[0-2])(-(0[1-9]|1[0-9]|2[0-8]))?)?)$"},
    "near": {
        "type": "object",
        "required": ["latitude", "longitude", "km"],
        "properties": {
            "latitude": {"type": "number", "minimum": -90, "maximum": 90},
            "longitude": {"type": "number", "minimum": -180, "maximum": 180},
            "km": {"type": "number", "minimum": 0},
        },
        "additionalProperties": False,
    },
    "filters": {"type": "array", "items": _reference("Filter"), "minItems": 1},
}
FIELD_OPERATORS = {one.name: OPERANDS.get(one.operand, _reference("Field")) for one in OPERATORS if one.of_field}
FILTER_OPERATORS = {one.name: OPERANDS.get(one.operand, _reference("Filter")) for one in OPERATORS if one.of_filters}
FILTERS: dict[str, Any] = {
    "Filter": {
        "description": "Conditions that all must hold, 64 of them at most and 8 levels deep; docs/filters.md has more.",
        "type": "object",
        "properties": FILTER_OPERATORS,
        "patternProperties": {FIELD_NAME: _reference("Field")},
        "additionalProperties": False,
        "examples": [{"label": {"$in": ["beach", "harbour"]}, "width": {"$gte": 1920}}],
    },
    "Field": {
        "description": "What is asked of a field: a value that it equals, operators, or the fields inside it.",
        "anyOf": [
            SCALAR,
            {"type": "object", "minProperties": 1, "properties": FIELD_OPERATORS, "additionalProperties": False},
            {
                "type": "object",
                "minProperties": 1,
                "patternProperties": {FIELD_NAME: _reference("Field")},
                "additionalProperties": False,
            },
        ],
    },
}


def describe(made: dict[str, Any], settings: Settings, needs_key: bool) -> dict[str, Any]:
    """Return the whole description, OpenAPI 3.1, from the table of routes and what BentoML has made of the services."""
    made = json.loads(json.dumps(made))  # a copy, with texts for keys
    schemas = {
        name: schema
        for name, schema in made["components"]["schemas"].items()
        if name in BODIES  # the others are BentoML's own, or are described better below
    } | FILTERS
    paths: dict[str, Any] = {}
    for route in ROUTES:
        if route in CHANGES and not settings.writable:
            continue  # each would be refused
        if route.fields is not None:
            limits = settings.for_jobs() if WAIT in route.parameters else settings
            body = _multipart(route, limits, schemas) if route.multipart else _json(route.fields, limits, schemas)
            if route.alternative:
                body |= _json(route.alternative, limits, schemas)
            paths[route.path] = {"post": _post(route, made["paths"][route.path]["post"], body, needs_key)}
        elif route.documented:
            paths[route.path] = {"get": _get(route, needs_key)}
    _json(ErrorAnswer, settings, schemas)
    if settings.url_hosts is None:
        for name in {"QueryOne", "ExampleOne", "AddOne", "PictureOne"} & schemas.keys():
            del schemas[name]["properties"]["url"]
            schemas[name]["oneOf"] = [one for one in schemas[name]["oneOf"] if one["required"] != ["url"]]
            for one in schemas[name]["oneOf"]:
                one["properties"].pop("url", None)
    return {
        "openapi": "3.1.0",
        "info": {"title": "BentoLens", "version": VERSION, "description": DESCRIPTION},
        "paths": paths,
        "components": {"schemas": schemas, **({"securitySchemes": KEYS} if needs_key else {})},
    }


def _json(model: type[BaseModel], settings: Settings, schemas: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON body; its model, and those inside it, are added to ``schemas``."""
    schemas[model.__name__] = _bounded(model, settings, schemas)
    return {"application/json": {"schema": _reference(model.__name__)}}


def _bounded(model: type[BaseModel], settings: Settings, schemas: dict[str, Any]) -> dict[str, Any]:
    """Return a model's schema with the limits of the settings; the models inside it are added to ``schemas``."""
    schema = copy.deepcopy(model.model_json_schema(ref_template=REFERENCE))  # what a model adds is not to be changed
    inner = schema.pop("$defs", {})
    schemas |= inner
    for one in (schema, *inner.values()):
        for name, field in one.get("properties", {}).items():
            if name == "where":
                one["properties"][name] = {"anyOf": [_reference("Filter"), {"type": "null"}]}
            for kind in [field, *field.get("anyOf", ())]:
                if kind.get("type") == "array":
                    kind.setdefault("maxItems", settings.max_images)
                if name in BOUNDED and kind.get("type") == "integer":
                    kind.setdefault("maximum", settings.max_k)
    return schema


def _multipart(route: Route, settings: Settings, schemas: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "images": {
            "description": f"picture files, of {settings.max_bytes:,} bytes and {settings.max_pixels:,} pixels at most",
            **{"type": "array", "items": {"type": "string", "format": "binary"}},
            **{"minItems": 1, "maxItems": settings.max_images},
        }
    }
    media_types = [media_type for one in FORMATS for media_type in one.media_types]
    encoding = {"images": {"contentType": ", ".join(("application/octet-stream", *media_types))}}
    stated: dict[str, Any] = _bounded(route.fields, settings, schemas) if route.fields else {}
    for name, field in stated.get("properties", {}).items():
        encoding[name] = {"contentType": "application/json"}
        fields[name] = (
            _reference("Filter") if name == "where" else _name(field) if name in (*NAMES, "facets") else field
        )
    schema = {"type": "object", "required": ["images"], "properties": fields, "additionalProperties": False}
    return {"multipart/form-data": {"schema": schema, "encoding": encoding}}


def _name(field: dict[str, Any]) -> dict[str, Any]:
    """Return a field's name as a multipart field has it: JSON, as in a JSON body, is taken too."""
    return {"description": f"{field['description']}; a name, or JSON", "type": "string"}


def _get(route: Route, needs_key: bool) -> dict[str, Any]:
    answers: dict[str, Any] = {"200": {"description": "OK", "content": {"text/plain": {"schema": {"type": "string"}}}}}
    if route is READYZ:
        answers["503"] = _error(HTTPStatus.SERVICE_UNAVAILABLE)
    if route.scope:
        answers |= {str(int(status)): _error(status) for status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)}
    described = {"summary": route.summary, "operationId": route.path.strip("/"), "tags": ["Operation"]}
    return described | {"responses": answers} | _security(route, needs_key)


def _post(route: Route, made: dict[str, Any], body: dict[str, Any], needs_key: bool) -> dict[str, Any]:
    (media,) = made["responses"]["200"]["content"].values()
    media["example"] = route.answer_example
    if route.request_example:
        body["application/json"]["example"] = route.request_example
    made["requestBody"] = {"content": body, "required": True}
    answers = {"200": made["responses"]["200"]} | {
        str(int(status)): _error(status) for status in sorted(KINDS_BY_STATUS)
    }
    del made["description"]
    if WAIT in route.parameters:
        answers["202"] = {**answers["200"], "description": "Accepted"}
    made |= {"responses": answers, "summary": route.summary, "tags": ["Search"]} | _security(route, needs_key)
    return made | ({"parameters": list(route.parameters)} if route.parameters else {})


def _security(route: Route, needs_key: bool) -> dict[str, Any]:
    return {"security": SECURITY} if needs_key and route.scope else {}


def _error(status: HTTPStatus) -> dict[str, Any]:
    """Return a status, with an example of each error that has it."""
    examples = {
        kind.code: {"value": error_answer_of(kind, "what was wrong with it").model_dump()}
        for kind in KINDS_BY_STATUS[status]
    }
    answer: dict[str, Any] = {
        "description": status.phrase,
        "content": {"application/json": {"schema": _reference("ErrorAnswer"), "examples": examples}},
    }
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        answer["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return answer
