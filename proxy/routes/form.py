"""A form as JSON, so that every stage reads it as it reads any request, and as a form again.

A value is a string, a file an object of its name, its type and its bytes in a data: URL; a name
that ends in ``[]`` has a list of these. Nothing of a form is dropped but the headers of its parts.

Source: RFC 7578; WHATWG HTML, "Multipart form data", for names; RFC 2397 for data: URLs.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.errors import RequestError
from proxy.routes.fields import Kind, invalid, missing, wrong_type
from proxy.types import JSON, JSONObject

_UNNAMED: Final = "octet-stream"
_INTEGER: Final = re.compile(r"-?[0-9]{1,9}", re.ASCII)
_NUMBER: Final = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,18})?(?:[eE]-?[0-9]{1,2})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Form:
    """What a form of a route may be; ``family`` is what its files are, whatever they say."""

    family: str
    max_parts: int
    max_field_bytes: int


def _is_file(value: JSON) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("data"), str)


FILE: Final = Kind(
    "a file, with its name", _is_file, {"type": "string", "format": "binary", "minLength": 1}
)
FORM_INTEGER: Final = Kind(
    "an integer",
    lambda value: isinstance(value, str) and _INTEGER.fullmatch(value) is not None,
    {"type": "integer"},
)
FORM_NUMBER: Final = Kind(
    "a number",
    lambda value: isinstance(value, str) and _NUMBER.fullmatch(value) is not None,
    {"type": "number"},
)
FORM_FALSE: Final = Kind("a boolean", lambda value: value in ("true", "false"), {"type": "boolean"})


def file_of(family: str, filename: str, media_type: str | None, content: bytes) -> JSONObject:
    """A file of a form as JSON."""
    subtype = (media_type or "").rpartition("/")[2] or _UNNAMED
    letters = base64.b64encode(content).decode("ascii")
    told: dict[str, JSON] = {"filename": filename}
    if media_type is not None:
        told["content_type"] = media_type
    return {**told, "data": f"data:{family}/{subtype};base64,{letters}"}


def with_member(body: dict[str, JSON], name: str, value: JSON) -> None:
    """Put a field into ``body``.

    Raises:
        RequestError: ``invalid_form``: it is there already, and its name is none of a list.
    """
    if not name.endswith("[]"):
        if name in body:
            raise RequestError("The form names a field twice.", code="invalid_form")
        body[name] = value
        return
    before = body.get(name)
    body[name] = [*before, value] if isinstance(before, list) else [value]


def check_form(
    body: JSONObject,
    kinds: Mapping[str, Kind],
    ranges: Mapping[str, tuple[float, float]],
    refused: Sequence[str] = (),
) -> None:
    """Check the known fields of a form.

    Args:
        body: the form as JSON.
        kinds: the kind of each optional field.
        ranges: inclusive ranges of some of them.
        refused: fields that are refused by name, with ``[]`` or without.

    Raises:
        RequestError: ``invalid_type``, ``invalid_value`` or ``unsupported_parameter``.
    """
    for name, kind in kinds.items():
        value = body.get(name)
        if value is None:
            continue
        if not kind.holds(value):
            raise wrong_type(name, kind)
        if name in ranges and isinstance(value, str):
            low, high = ranges[name]
            if not low <= float(value) <= high:
                raise invalid(name, f"must be between {low} and {high}")
    if body.get("stream") == "true":
        raise invalid("stream", "must not be true: this route does not stream")
    for name in refused:
        if name in body or f"{name}[]" in body:
            message = f"'{name}' is not supported by this proxy."
            raise RequestError(message, code="unsupported_parameter", param=name)


def check_file(body: JSONObject, name: str, *, or_list: bool = False) -> None:
    """Check a file that must be there, or, with ``or_list``, one or more under ``name[]``.

    Raises:
        RequestError: ``missing_required_parameter``, ``invalid_type`` or ``invalid_value``.
    """
    many = body.get(f"{name}[]") if or_list else None
    one = body.get(name)
    if one is None and many is None:
        raise missing(name)
    files = [*(many if isinstance(many, list) else ()), *(() if one is None else (one,))]
    for file in files:
        if not _is_file(file):
            raise wrong_type(name, FILE)
        if _content(file) == b"":
            raise invalid(name, "must not be an empty file")


def written(body: JSONObject) -> tuple[bytes, str]:
    """``body`` as a form, with its Content-Type."""
    parts = [
        (name, value)
        for name, told in body.items()
        for value in (told if isinstance(told, list) else [told])
    ]
    pieces = [_piece(name, value) for name, value in parts]
    boundary = secrets.token_hex(16)
    while any(boundary.encode() in content for _, content in pieces):
        boundary = secrets.token_hex(16)
    return b"".join(_lines(pieces, boundary)), f"multipart/form-data; boundary={boundary}"


def _lines(pieces: Sequence[tuple[bytes, bytes]], boundary: str) -> Iterator[bytes]:
    for head, content in pieces:
        yield b"--%b\r\n%b\r\n\r\n" % (boundary.encode(), head)
        yield content
        yield b"\r\n"
    yield b"--%b--\r\n" % boundary.encode()


def _piece(name: str, value: JSON) -> tuple[bytes, bytes]:
    """The head and the content of a part."""
    head = f'Content-Disposition: form-data; name="{_quoted(name)}"'
    if not isinstance(value, Mapping):
        return head.encode(), str(value).encode()
    head += f'; filename="{_quoted(str(value["filename"]))}"'
    if "content_type" in value:
        head += f"\r\nContent-Type: {value['content_type']}"
    return head.encode(), _content(value)


def _quoted(name: str) -> str:
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _content(file: JSON) -> bytes:
    data = str(file["data"]) if isinstance(file, Mapping) else ""
    return base64.b64decode(data.partition(",")[2])
