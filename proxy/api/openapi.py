"""The published OpenAPI of the proxy, made from the same tables that the gate and the routes use.

It names nothing of a deployment: no model, no app, no destination. It lists every status that a
route may answer with; a 500 is on no list, since each is a bug of ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from proxy import __version__
from proxy.api.batch import WINDOW_S
from proxy.api.batch_lines import ENDPOINTS
from proxy.api.file_routes import MAX_LIFE_S, MIN_LIFE_S, PURPOSES
from proxy.api.gate import DOORS, Body, Door
from proxy.api.headers import DECISION_ID, OPEN_HEADERS, REQUEST_ID
from proxy.api.once import HEADER
from proxy.api.wire import MAX_MODEL_CHARS
from proxy.canonical import MAX_INTEGER
from proxy.routes.registry import ROUTES
from proxy.routes.route import ApiRoute
from proxy.types import AUTO_MODEL

Schema = dict[str, Any]

#: One event of a stream. Source: WHATWG HTML, section "Server-sent events".
_EVENT: Final[Schema] = {
    "type": "object",
    "required": ["data"],
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
}

_PATHS: Final = {
    "responses.one": "/v1/responses/{id}",
    "responses.delete": "/v1/responses/{id}",
    "responses.cancel": "/v1/responses/{id}/cancel",
    "responses.input_items": "/v1/responses/{id}/input_items",
    "files": "/v1/files",
    "files.create": "/v1/files",
    "files.one": "/v1/files/{id}",
    "files.delete": "/v1/files/{id}",
    "files.content": "/v1/files/{id}/content",
    "batches": "/v1/batches",
    "batches.create": "/v1/batches",
    "batches.one": "/v1/batches/{id}",
    "batches.cancel": "/v1/batches/{id}/cancel",
    "models": "/v1/models",
    "models.one": "/v1/models/{model}",
    "openapi": "/openapi.json",
    "healthz": "/healthz",
    "readyz": "/readyz",
    "metrics": "/metrics",
}
_LISTS: Final = {"responses.input_items": 100, "files": 10_000, "batches": 100}
_TYPES: Final = {"files.content": "application/octet-stream", "metrics": "text/plain"}

#: The codes of each status, by what can go wrong on a route; `docs/errors.md` explains them.
_EVERYWHERE: Final = {
    400: ("malformed_http", "invalid_host", "invalid_request", "unexpected_body"),
    404: ("unknown_url",),
    408: ("request_timeout",),
    431: ("headers_too_large",),
    503: ("overloaded",),
}
_WITH_KEY: Final = {401: ("invalid_api_key",)}
_WITH_QUERY: Final = {400: ("invalid_query", "invalid_value", "unsupported_parameter")}
_WITH_BODY: Final = {
    413: ("body_too_large",),
    415: ("unsupported_content_type", "unsupported_encoding"),
}
_WITH_JSON: Final = {
    400: (
        "duplicate_key",
        "invalid_encoding",
        "invalid_json",
        "invalid_type",
        "invalid_value",
        "missing_required_parameter",
        "number_out_of_range",
        "too_deep",
        "too_many_values",
        "unsupported_parameter",
    )
}
_WITH_MEDIA: Final = {
    400: (
        "invalid_form",
        "invalid_type",
        "invalid_value",
        "missing_required_parameter",
        "unsupported_parameter",
    )
}
_WITH_IDEMPOTENCY: Final = {
    400: ("invalid_idempotency_key",),
    409: ("idempotency_in_progress", "idempotency_unknown"),
    422: ("idempotency_key_reused",),
    429: ("store_full",),
}
_ANSWERED: Final = {
    400: ("blocked_by_policy", "context_length_exceeded", "unsupported_by_local"),
    404: ("model_not_found", "response_not_found"),
    502: ("answer_withheld", "cloud_unavailable"),
    503: (
        "audit_error",
        "inspection_unavailable",
        "ledger_unwritable",
        "local_unavailable",
        "objects_unavailable",
        "permit_refused",
        "pins_unavailable",
        "starting",
    ),
    504: ("cloud_unavailable", "request_timeout"),
}
_KEPT: Final = {503: ("objects_unavailable", "starting")}
_OF_ROUTE: Final[Mapping[str, Mapping[int, tuple[str, ...]]]] = {
    "responses": {404: ("response_not_found",)},
    "files": {404: ("file_not_found",)},
    "batches": {404: ("batch_not_found",)},
    "models.one": {404: ("model_not_found",)},
    "files.create": {
        400: (
            "invalid_form",
            "invalid_value",
            "missing_required_parameter",
            "store_full",
            "unsupported_parameter",
        )
    },
    "batches.create": {404: ("file_not_found",), 429: ("too_many_batches",)},
    "batches.cancel": {409: ("batch_is_over",)},
    "metrics": {403: ("metrics_not_allowed",)},
}


def openapi() -> Schema:
    """The document (OpenAPI 3.1)."""
    paths: dict[str, Any] = {}
    for door in DOORS:
        path = _PATHS.get(door.name) or f"/v1{ROUTES[door.name].path}"
        paths.setdefault(path, {})[door.method.lower()] = _operation(door)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ringfence",
            "version": __version__,
            "description": "An OpenAI-compatible privacy proxy. docs/api.md says what is answered, "
            "by whom, and what is refused.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {"Error": _error()},
            "headers": {
                name: {"description": says, "schema": {"type": "string"}}
                for name, says in OPEN_HEADERS.items()
            },
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def openapi_text() -> str:
    """The document as it is published."""
    return json.dumps(openapi(), indent=1, ensure_ascii=False) + "\n"


def _operation(door: Door) -> Schema:
    operation: Schema = {
        "operationId": door.name,
        "security": [{"key": []}] if door.needs_key else [],
        "parameters": _parameters(door),
        "responses": _responses(door),
    }
    if door.takes is not Body.NONE:
        operation["requestBody"] = {"required": True, "content": _content(door)}
    return operation


def _parameters(door: Door) -> list[Schema]:
    path = _PATHS.get(door.name, "")
    found = []
    if "{id}" in path:
        found.append(
            _parameter("id", "path", {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"})
        )
    if "{model}" in path:
        pattern = "^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"
        found.append(_parameter("model", "path", {"type": "string", "pattern": pattern}))
    if door.name in _LISTS:
        limit = {"type": "integer", "minimum": 1, "maximum": _LISTS[door.name]}
        found.append(_parameter("limit", "query", limit))
        found.append(_parameter("order", "query", {"enum": ["asc", "desc"]}))
        found.append(_parameter("after", "query", {"type": "string", "maxLength": 64}))
    if door.name == "files":
        found.append(_parameter("purpose", "query", {"type": "string", "maxLength": 64}))
    if door.name == "responses.one":
        found.append(_parameter("stream", "query", {"enum": ["false"]}))
    if _may_repeat(door):
        key = {"type": "string", "pattern": "^[!-~]{1,255}$"}
        found.append(_parameter(HEADER, "header", key))
    return found


def _parameter(name: str, where: str, schema: Schema) -> Schema:
    return {"name": name, "in": where, "required": where == "path", "schema": schema}


def _may_repeat(door: Door) -> bool:
    return door.name in ROUTES or door.name == "batches.create"


def _content(door: Door) -> Schema:
    if door.takes is Body.FORM:
        return {"multipart/form-data": {"schema": _file_form()}}
    if door.takes is Body.MEDIA:
        return {"multipart/form-data": {"schema": _body(ROUTES[door.name])}}
    schema = _batch() if door.name == "batches.create" else _body(ROUTES[door.name])
    return {"application/json": {"schema": schema}}


def _body(route: ApiRoute) -> Schema:
    """A body of a route: what it needs, the types and ranges it checks, and anything else."""
    model = {"type": "string", "minLength": 1, "maxLength": MAX_MODEL_CHARS, "default": AUTO_MODEL}
    optional: Schema = {}
    for name, kind in route.takes.parameters.items():
        schema = dict(route.takes.forms.get(name, kind.schema))
        if name in route.takes.ranges:
            schema["minimum"], schema["maximum"] = route.takes.ranges[name]
        elif schema.get("type") == "integer":
            schema["minimum"], schema["maximum"] = -MAX_INTEGER, MAX_INTEGER
        optional[name] = schema if route.form else {"anyOf": [schema, {"type": "null"}]}
    needs = dict(route.takes.needs)
    told: Schema = {
        "type": "object",
        "required": [*([] if route.any_model else ["model"]), *needs],
        "properties": {"model": model, **needs, **optional},
    }
    return {**told, "additionalProperties": {"type": "string"}} if route.form else told


def _life() -> Schema:
    seconds = {"type": "integer", "minimum": MIN_LIFE_S, "maximum": MAX_LIFE_S}
    return {
        "type": "object",
        "required": ["anchor", "seconds"],
        "properties": {"anchor": {"const": "created_at"}, "seconds": seconds},
    }


def _file_form() -> Schema:
    return {
        "type": "object",
        "required": ["file", "purpose"],
        "properties": {
            "file": {"type": "string", "format": "binary", "minLength": 1},
            "purpose": {"enum": list(PURPOSES)},
            "expires_after[anchor]": {"const": "created_at"},
            "expires_after[seconds]": _life()["properties"]["seconds"],
        },
        "additionalProperties": False,
    }


def _batch() -> Schema:
    text = {"type": "string", "maxLength": 512}
    return {
        "type": "object",
        "required": ["input_file_id", "endpoint", "completion_window"],
        "properties": {
            "input_file_id": {"type": "string"},
            "endpoint": {"enum": list(ENDPOINTS)},
            "completion_window": {"const": f"{WINDOW_S // 3600}h"},
            "metadata": {
                "type": ["object", "null"],
                "maxProperties": 16,
                "propertyNames": {"maxLength": 64},
                "additionalProperties": text,
            },
            "output_expires_after": {"anyOf": [_life(), {"type": "null"}]},
        },
        "additionalProperties": False,
    }


def codes_of(door: Door) -> dict[int, tuple[str, ...]]:
    """Every status of an error that a route may answer with, and its codes."""
    group = door.name.partition(".")[0]
    told: list[Mapping[int, tuple[str, ...]]] = [_EVERYWHERE]
    if door.needs_key:
        told.append(_WITH_KEY)
    if door.name in _LISTS or door.name == "responses.one":
        told.append(_WITH_QUERY)
    if door.takes is not Body.NONE:
        told.append(_WITH_BODY)
    if door.takes is Body.MEDIA:
        told.append(_WITH_MEDIA)
    if door.takes is Body.JSON:
        told.append(_WITH_JSON)
    if _may_repeat(door):
        told.append(_WITH_IDEMPOTENCY)
    if door.name in ROUTES:
        told.append(_ANSWERED)
    elif group in ("responses", "files", "batches"):
        told.append(_KEPT)
        if "{id}" in _PATHS[door.name]:
            told.append(_OF_ROUTE[group])
    told.append(_OF_ROUTE.get(door.name, {}) if "." in door.name or group == "metrics" else {})
    merged: dict[int, tuple[str, ...]] = {}
    for one in told:
        for status, codes in one.items():
            merged[status] = tuple(sorted({*merged.get(status, ()), *codes}))
    return dict(sorted(merged.items()))


def _responses(door: Door) -> Schema:
    errors: Schema = {
        str(status): {
            "description": "One of these errors.",
            "headers": _headers(REQUEST_ID),
            "content": {"application/json": {"schema": _error_of(codes)}},
        }
        for status, codes in codes_of(door).items()
    }
    if door.name == "readyz":  # what is missing, in place of an error
        either = [{"$ref": "#/components/schemas/Error"}, {"required": ["status", "missing"]}]
        errors["503"]["content"]["application/json"]["schema"] = {"anyOf": either}
    if door.name == "responses.cancel":
        return errors  # there is nothing to cancel
    body = {"type": "object"} if door.name not in _TYPES else {"type": "string"}
    content: Schema = {_TYPES.get(door.name, "application/json"): {"schema": body}}
    route = ROUTES.get(door.name)
    if route is not None and route.tell is not None:
        content["text/event-stream"] = {"schema": _EVENT}
    if route is not None and route.raw_types:
        binary = route.at_home.taken is not None
        schema = {"type": "string", **({"format": "binary"} if binary else {})}
        as_bytes = {kind: {"schema": schema} for kind in route.raw_types}
        content = as_bytes if binary else {**content, **as_bytes}
    names = (REQUEST_ID, DECISION_ID) if route is not None else (REQUEST_ID,)
    good = {"description": "The answer.", "headers": _headers(*names), "content": content}
    return {"200": good, **errors}


def _headers(*names: str) -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _error() -> Schema:
    text_or_null = {"type": ["string", "null"]}
    inner = {
        "type": "object",
        "required": ["message", "type", "param", "code"],
        "properties": {
            "message": {"type": "string"},
            "type": {"enum": ["invalid_request_error", "server_error"]},
            "param": text_or_null,
            "code": {"type": "string"},
        },
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "required": ["error"],
        "properties": {"error": inner},
        "additionalProperties": False,
    }


def _error_of(codes: tuple[str, ...]) -> Schema:
    code = {"properties": {"error": {"properties": {"code": {"enum": list(codes)}}}}}
    return {"allOf": [{"$ref": "#/components/schemas/Error"}, code]}
