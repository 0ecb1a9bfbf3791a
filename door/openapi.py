"""Completes the description that BentoML makes of the routes: each status with its body, examples, keys, the service."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from contract import ERROR_KINDS, ErrorAnswer, error_answer_of

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
    **{
        "id": 1,
        "key": "beach/IMG_0042.jpg",
        "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    },
    **{"added_at": "2026-11-21T10:00:00Z", "metadata": {"width": 4032, "height": 3024}, "thumbnail": None},
}
ANSWERS: dict[str, Any] = {
    "/search": SEARCHED,
    "/query": SEARCHED,
    "/embed": {
        **{"embeddings": [[0.6, 0.8]], "dim": 2, "model": "resnet50.tv_in1k", "batch_sizes": [8]},
        "timings_ms": {"decode": 6.1, "embed": 24.8},
    },
    "/items/get": {"items": [ITEM]},
}
REQUESTS: dict[str, Any] = {
    "/query": {"queries": [{"id": 1}], "k": 3, "where": {"width": {"$gte": 640}}},
    "/items/get": {"ids": [1], "thumbnail": False},
}
ERROR_REFERENCE = {"$ref": "#/components/schemas/ErrorAnswer"}
KEYS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API key"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "the same key"},
}
GETS = {
    "/livez": "That the process runs.",
    "/healthz": "The same, by its older name.",
    "/readyz": "That it can search; 503 says why not.",
    "/metrics": "Prometheus metrics of all processes.",
}


def complete(made: dict[str, Any], needs_key: bool) -> dict[str, Any]:
    """The whole description, OpenAPI 3.1, from what BentoML has made of the services' signatures."""
    made = json.loads(json.dumps(made))  # a copy, with texts for keys
    schemas = made["components"]["schemas"]
    for name in ("InvalidArgument", "NotFound", "InternalServerError"):  # BentoML's errors, which are not what is sent
        schemas.pop(name, None)
    error = ErrorAnswer.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= error.pop("$defs") | {"ErrorAnswer": error}
    paths = {path: {"get": _get(path, told)} for path, told in GETS.items()}
    for path, operations in made["paths"].items():
        if "post" in operations:
            paths[path] = {"post": _post(path, operations["post"], needs_key)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "BentoLens", "version": VERSION, "description": DESCRIPTION},
        "paths": paths,
        "components": {"schemas": schemas, **({"securitySchemes": KEYS} if needs_key else {})},
    }


def _get(path: str, told: str) -> dict[str, Any]:
    answers: dict[str, Any] = {"200": {"description": "OK", "content": {"text/plain": {"schema": {"type": "string"}}}}}
    if path == "/readyz":
        answers["503"] = _error(HTTPStatus.SERVICE_UNAVAILABLE)
    if path == "/metrics":
        answers |= {str(int(status)): _error(status) for status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)}
    return {"summary": told, "operationId": path.strip("/"), "tags": ["Operation"], "responses": answers}


def _post(path: str, made: dict[str, Any], needs_key: bool) -> dict[str, Any]:
    (media,) = made["responses"]["200"]["content"].values()
    media["example"] = ANSWERS[path]
    (body,) = made["requestBody"]["content"].values()
    if path in REQUESTS:
        body["example"] = REQUESTS[path]
    made["requestBody"]["required"] = True
    found = {"200": made["responses"]["200"]} | {str(int(status)): _error(status) for status in sorted(ERROR_KINDS)}
    made |= {"responses": found, "summary": made.pop("description"), "tags": ["Search"]}
    # Where no key is needed, none is asked for; where one is, all routes but those of health need it.
    return made | ({"security": [{"bearer": []}, {"header": []}]} if needs_key else {})


def _error(status: HTTPStatus) -> dict[str, Any]:
    """A status, with an example of each error that has it."""
    examples = {
        kind.code: {"value": error_answer_of(kind, "what was wrong with it").model_dump()}
        for kind in ERROR_KINDS[status]
    }
    answer: dict[str, Any] = {
        "description": status.phrase,
        "content": {"application/json": {"schema": ERROR_REFERENCE, "examples": examples}},
    }
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        answer["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return answer
