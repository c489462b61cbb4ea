"""Strict JSON in, our `Request` out; the only place that reads a client's bytes.

The route checks the types of what the proxy must understand; every field it does not know is kept:
those are inspected, not dropped. It must never echo input: an error names a path made of known
words and indices, or an offset.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from proxy.api.multipart import Part, read_form
from proxy.api.shape import check_shape
from proxy.canonical import parse_object
from proxy.errors import RequestError
from proxy.routes.fields import BOOLEAN, STRING, invalid, optional, required
from proxy.routes.form import Form, file_of, with_member
from proxy.routes.route import ApiRoute
from proxy.types import AUTO_MODEL, JSON, Caller, JSONObject, Request

MAX_MODEL_CHARS: Final = 256


def read_json(raw: bytes, *, max_depth: int) -> JSONObject:
    """Read a body as one JSON object, strictly (RFC 8259, and I-JSON's RFC 7493 limits).

    Raises:
        RequestError: ``invalid_encoding``, ``invalid_json``, ``duplicate_key``, ``too_deep``,
            ``too_many_values`` or ``number_out_of_range``.
    """
    check_shape(raw, max_depth=max_depth)
    return parse_object(raw, max_depth=max_depth)


def read_form_body(raw: bytes, content_type: bytes, form: Form) -> JSONObject:
    """Read a body as a form, strictly, and make JSON of it; see `proxy.routes.form`.

    Raises:
        RequestError: ``invalid_form``.
    """
    parts = read_form(
        raw, content_type, max_parts=form.max_parts, max_field_bytes=form.max_field_bytes
    )
    body: dict[str, JSON] = {}
    for part in parts:
        if part.filename is None:
            with_member(body, part.name, _text(part))
        else:
            file = file_of(form.family, part.filename, part.media_type, part.content)
            with_member(body, part.name, file)
    return body


def _text(part: Part) -> str:
    fault = RequestError("The form cannot be read: a value is not in UTF-8.", code="invalid_form")
    try:
        return part.content.decode("utf-8")
    except UnicodeDecodeError:
        pass
    raise fault


def parse_request(
    route: ApiRoute, body: JSONObject, caller: Caller, *, request_id: str, received_at: datetime
) -> Request:
    """Make a `Request` of a body for ``route``.

    Raises:
        RequestError: with ``param`` as OpenAI names it (``messages[0].role``).
    """
    model = required(_with_model(route, body), "model", STRING)
    if not model or len(str(model)) > MAX_MODEL_CHARS:
        raise invalid("model", f"must hold 1 to {MAX_MODEL_CHARS} characters")
    route.check(body)
    # In a form all values are strings, and no form is answered with a stream.
    stream = route.form is None and optional(body, "stream", BOOLEAN) is True
    if stream and route.tell is None:
        raise invalid("stream", "must not be true: this route does not stream")
    return Request(
        request_id=request_id,
        caller=caller,
        route=route.name,
        model=str(model),
        body=body,
        stream=stream,
        received_at=received_at,
    )


def _with_model(route: ApiRoute, body: JSONObject) -> JSONObject:
    """``body``, its model filled in where the route takes any."""
    return {**body, "model": body.get("model") or AUTO_MODEL} if route.any_model else body
