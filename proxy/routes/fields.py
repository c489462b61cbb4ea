"""The types of the fields that the proxy must understand, checked and named in the error.

A field that nobody asks for here is kept: it is inspected, not dropped. No error echoes input: it
names a path made of known words and indices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from proxy.errors import RequestError
from proxy.types import JSON


@dataclass(frozen=True, slots=True)
class Kind:
    """A type a value may have: its name in messages, the test for it, and its JSON Schema."""

    name: str
    holds: Callable[[JSON], bool]
    schema: Mapping[str, JSON]


def _is_int(value: JSON) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: JSON) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _of_type(name: str) -> dict[str, JSON]:
    return {"type": name}


def _list_of(items: Mapping[str, JSON]) -> dict[str, JSON]:
    return {"type": "array", "items": items}


def _any_of(*schemas: Mapping[str, JSON]) -> dict[str, JSON]:
    return {"anyOf": list(schemas)}


def shape(**needs: JSON) -> dict[str, JSON]:
    """The JSON Schema of an object with these members, and any others."""
    return {"type": "object", "required": list(needs), "properties": needs}


STRING: Final = Kind("a string", lambda value: isinstance(value, str), _of_type("string"))
BOOLEAN: Final = Kind("a boolean", lambda value: isinstance(value, bool), _of_type("boolean"))
INTEGER: Final = Kind("an integer", _is_int, _of_type("integer"))
NUMBER: Final = Kind("a number", _is_number, _of_type("number"))
OBJECT: Final = Kind("an object", lambda value: isinstance(value, dict), _of_type("object"))
ARRAY: Final = Kind("an array", lambda value: isinstance(value, list), _of_type("array"))
OBJECTS: Final = Kind(
    "an array of objects",
    lambda value: isinstance(value, list) and all(isinstance(item, dict) for item in value),
    _list_of(OBJECT.schema),
)
STRINGS: Final = Kind(
    "a string or an array of strings",
    lambda value: (
        isinstance(value, str)
        or (isinstance(value, list) and all(isinstance(item, str) for item in value))
    ),
    _any_of(STRING.schema, _list_of(STRING.schema)),
)
CHOICE: Final = Kind(
    "a string or an object",
    lambda value: isinstance(value, str | dict),
    _any_of(STRING.schema, OBJECT.schema),
)
_FILLED: Final[Mapping[str, JSON]] = {"type": "string", "minLength": 1}


def _filled(items: Mapping[str, JSON]) -> dict[str, JSON]:
    return {"type": "array", "minItems": 1, "items": items}


_IDS: Final = _filled(INTEGER.schema)
TEXTS: Final = Kind(
    "a text, or an array of texts or of token ids",
    lambda _: True,
    _any_of(_FILLED, _filled(_FILLED), _IDS, _filled(_IDS)),
)
TEXT: Final = Kind(
    "a string or an array",
    lambda value: isinstance(value, str | list),
    _any_of(STRING.schema, ARRAY.schema),
)

#: A text or an array that is not empty.
SOMETHING: Final = _any_of(_FILLED, {"type": "array", "minItems": 1})

#: What every route that writes text takes, and the inclusive ranges OpenAI documents for it.
WRITING: Final[Mapping[str, Kind]] = {
    "stream": BOOLEAN,
    "stream_options": OBJECT,
    "temperature": NUMBER,
    "top_p": NUMBER,
    "user": STRING,
}
WRITING_RANGES: Final[Mapping[str, tuple[float, float]]] = {"temperature": (0, 2), "top_p": (0, 1)}
#: What both forms of a conversation take beyond that.
CONVERSATION: Final[Mapping[str, Kind]] = {
    **WRITING,
    "metadata": OBJECT,
    "tool_choice": CHOICE,
    "tools": OBJECTS,
    "top_logprobs": INTEGER,
}
CONVERSATION_RANGES: Final = {**WRITING_RANGES, "top_logprobs": (0, 20)}
#: What both older forms take: penalties, several answers, a seed, a stop.
DECODING: Final[Mapping[str, Kind]] = {
    "frequency_penalty": NUMBER,
    "logit_bias": OBJECT,
    "max_tokens": INTEGER,
    "n": INTEGER,
    "presence_penalty": NUMBER,
    "seed": INTEGER,
    "stop": STRINGS,
}
#: OpenAI's limit on ``n``; platform.openai.com/docs/api-reference/chat/create.
MAX_CHOICES: Final = 128
DECODING_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "frequency_penalty": (-2, 2),
    "n": (1, MAX_CHOICES),
    "presence_penalty": (-2, 2),
}


def check_parameters(
    body: Mapping[str, JSON],
    kinds: Mapping[str, Kind],
    ranges: Mapping[str, tuple[float, float]],
) -> None:
    """Check optional parameters; null counts as absent.

    Args:
        body: the request.
        kinds: the type of each parameter.
        ranges: inclusive ranges of some of them.

    Raises:
        RequestError: ``invalid_type`` or ``invalid_value``, with ``param``.
    """
    for name, kind in kinds.items():
        value = optional(body, name, kind)
        if name in ranges and isinstance(value, int | float):
            low, high = ranges[name]
            if not low <= value <= high:
                raise invalid(name, f"must be between {low} and {high}")


#: OpenAI's limit on the texts of one request; platform.openai.com/docs/api-reference/embeddings.
MAX_TEXTS: Final = 2048


def check_texts(body: Mapping[str, JSON], name: str) -> None:
    """Check a field of one text or several, given as strings or as token ids.

    Raises:
        RequestError: it is missing, empty, or of another type.
    """
    value = required(body, name, TEXT)
    if not value:
        raise invalid(name, "must not be empty")
    if isinstance(value, list):
        of_one_kind = (
            all(isinstance(item, str) and item for item in value)
            or all(_is_int(item) for item in value)
            or all(isinstance(item, list) and item and all(map(_is_int, item)) for item in value)
        )
        if not of_one_kind:
            raise wrong_type(name, TEXTS)
        if len(value) > MAX_TEXTS and not _is_int(value[0]):
            raise invalid(name, f"must not hold more than {MAX_TEXTS} texts")


def required(holder: Mapping[str, JSON], name: str, kind: Kind, where: str = "") -> JSON:
    """A field that must be there; ``where`` is the path of ``holder``, with its dot."""
    value = optional(holder, name, kind, where)
    if value is None:
        raise missing(where + name)
    return value


def optional(holder: Mapping[str, JSON], name: str, kind: Kind, where: str = "") -> JSON:
    """A field of the right type, or None."""
    value = holder.get(name)
    if value is not None and not kind.holds(value):
        raise wrong_type(where + name, kind)
    return value


def missing(param: str) -> RequestError:
    """The refusal of a request without ``param``."""
    message = f"Missing required parameter: '{param}'."
    return RequestError(message, code="missing_required_parameter", param=param)


def wrong_type(param: str, kind: Kind) -> RequestError:
    """The refusal of a ``param`` that is no ``kind``."""
    message = f"Invalid type for '{param}': expected {kind.name}."
    return RequestError(message, code="invalid_type", param=param)


def invalid(param: str, demand: str) -> RequestError:
    """The refusal of a ``param`` that does not meet ``demand``."""
    return RequestError(f"'{param}' {demand}.", code="invalid_value", param=param)


def unsupported(name: str) -> RequestError:
    """The proxy does not offer what parameter ``name`` asks for."""
    return RequestError(
        f"This proxy does not support this use of '{name}'.",
        code="unsupported_parameter",
        param=name,
    )
