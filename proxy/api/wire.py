"""Strict JSON in, our `Request` out; the only place that reads a client's bytes.

It checks the types of what the proxy must understand and keeps every field it does not know:
those are inspected, not dropped. It must never echo input: an error names a path made of known
words and indices, or an offset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from proxy.api.shape import check_shape
from proxy.canonical import parse_object
from proxy.errors import RequestError
from proxy.types import JSON, Caller, JSONObject, Request

ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
#: OpenAI's limit on ``n``; platform.openai.com/docs/api-reference/chat/create.
MAX_CHOICES: Final = 128
MAX_MODEL_CHARS: Final = 256


@dataclass(frozen=True, slots=True)
class Kind:
    """A type a value may have: its name in messages, and the test for it."""

    name: str
    holds: Callable[[JSON], bool]


def _is_int(value: JSON) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: JSON) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


STRING: Final = Kind("a string", lambda value: isinstance(value, str))
BOOLEAN: Final = Kind("a boolean", lambda value: isinstance(value, bool))
INTEGER: Final = Kind("an integer", _is_int)
NUMBER: Final = Kind("a number", _is_number)
OBJECT: Final = Kind("an object", lambda value: isinstance(value, dict))
ARRAY: Final = Kind("an array", lambda value: isinstance(value, list))
OBJECTS: Final = Kind(
    "an array of objects",
    lambda value: isinstance(value, list) and all(isinstance(item, dict) for item in value),
)
STRINGS: Final = Kind(
    "a string or an array of strings",
    lambda value: (
        isinstance(value, str)
        or (isinstance(value, list) and all(isinstance(item, str) for item in value))
    ),
)
CHOICE: Final = Kind("a string or an object", lambda value: isinstance(value, str | dict))
TEXT: Final = Kind("a string or an array", lambda value: isinstance(value, str | list))

#: Optional fields whose type matters to some part of the proxy; null counts as absent.
PARAMETERS: Final[Mapping[str, Kind]] = {
    "frequency_penalty": NUMBER,
    "logit_bias": OBJECT,
    "logprobs": BOOLEAN,
    "max_completion_tokens": INTEGER,
    "max_tokens": INTEGER,
    "metadata": OBJECT,
    "n": INTEGER,
    "presence_penalty": NUMBER,
    "response_format": OBJECT,
    "seed": INTEGER,
    "stop": STRINGS,
    "stream": BOOLEAN,
    "stream_options": OBJECT,
    "temperature": NUMBER,
    "tool_choice": CHOICE,
    "tools": OBJECTS,
    "top_logprobs": INTEGER,
    "top_p": NUMBER,
    "user": STRING,
}

#: Inclusive ranges, as OpenAI documents them.
RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "frequency_penalty": (-2, 2),
    "max_completion_tokens": (1, 2**31),
    "max_tokens": (1, 2**31),
    "n": (1, MAX_CHOICES),
    "presence_penalty": (-2, 2),
    "temperature": (0, 2),
    "top_logprobs": (0, 20),
    "top_p": (0, 1),
}


def read_json(raw: bytes, *, max_depth: int) -> JSONObject:
    """Read a body as one JSON object, strictly (RFC 8259, and I-JSON's RFC 7493 limits).

    Raises:
        RequestError: ``invalid_encoding``, ``invalid_json``, ``duplicate_key``, ``too_deep``,
            ``too_many_values`` or ``number_out_of_range``.
    """
    check_shape(raw, max_depth=max_depth)
    return parse_object(raw, max_depth=max_depth)


def parse_chat(
    body: JSONObject, caller: Caller, *, request_id: str, received_at: datetime
) -> Request:
    """Make a `Request` of a chat completion's body.

    Raises:
        RequestError: with ``param`` as OpenAI names it (``messages[0].role``).
    """
    model = _required(body, "model", STRING, "")
    if not model or len(str(model)) > MAX_MODEL_CHARS:
        raise _invalid("model", f"must hold 1 to {MAX_MODEL_CHARS} characters")
    messages = _required(body, "messages", ARRAY, "")
    if not isinstance(messages, list) or not messages:
        raise _invalid("messages", "must not be empty")
    for index, message in enumerate(messages):
        _check_message(message, f"messages[{index}]")
    _check_parameters(body)
    return Request(
        request_id=request_id,
        caller=caller,
        route="chat.completions",
        model=str(model),
        body=body,
        stream=body.get("stream") is True,
        received_at=received_at,
    )


def _check_message(message: JSON, path: str) -> None:
    if not isinstance(message, dict):
        raise _wrong_type(path, OBJECT)
    role = _required(message, "role", STRING, f"{path}.")
    if role not in ROLES:
        raise _invalid(f"{path}.role", f"must be one of {', '.join(sorted(ROLES))}")
    content = _optional(message, "content", TEXT, f"{path}.")
    if content is None and role not in ("assistant", "function"):
        raise _missing(f"{path}.content")
    if isinstance(content, list):
        for index, part in enumerate(content):
            _check_part(part, f"{path}.content[{index}]")
    _optional(message, "name", STRING, f"{path}.")
    if role == "tool":
        _required(message, "tool_call_id", STRING, f"{path}.")
    _optional(message, "tool_calls", OBJECTS, f"{path}.")


def _check_part(part: JSON, path: str) -> None:
    if not isinstance(part, dict):
        raise _wrong_type(path, OBJECT)
    if _required(part, "type", STRING, f"{path}.") == "text":
        _required(part, "text", STRING, f"{path}.")


def _check_parameters(body: JSONObject) -> None:
    for name, kind in PARAMETERS.items():
        value = _optional(body, name, kind, "")
        if name in RANGES and isinstance(value, int | float):
            low, high = RANGES[name]
            if not low <= value <= high:
                raise _invalid(name, f"must be between {low} and {high}")
    options = body.get("stream_options")
    if isinstance(options, dict):
        if body.get("stream") is not True:
            raise _invalid("stream_options", "is only allowed when `stream` is true")
        _optional(options, "include_usage", BOOLEAN, "stream_options.")
    if body.get("top_logprobs") is not None and body.get("logprobs") is not True:
        raise _invalid("top_logprobs", "needs `logprobs` to be true")


def _required(holder: Mapping[str, JSON], name: str, kind: Kind, where: str) -> JSON:
    value = _optional(holder, name, kind, where)
    if value is None:
        raise _missing(where + name)
    return value


def _optional(holder: Mapping[str, JSON], name: str, kind: Kind, where: str) -> JSON:
    value = holder.get(name)
    if value is not None and not kind.holds(value):
        raise _wrong_type(where + name, kind)
    return value


def _missing(param: str) -> RequestError:
    message = f"Missing required parameter: '{param}'."
    return RequestError(message, code="missing_required_parameter", param=param)


def _wrong_type(param: str, kind: Kind) -> RequestError:
    message = f"Invalid type for '{param}': expected {kind.name}."
    return RequestError(message, code="invalid_type", param=param)


def _invalid(param: str, demand: str) -> RequestError:
    return RequestError(f"'{param}' {demand}.", code="invalid_value", param=param)
