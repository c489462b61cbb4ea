"""The places of a request or answer that are free text, where another text does no harm.

Everything else is a name, an enum or a setting that must stay what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import EllipsisType
from typing import Final

Step = str | int
Where = tuple[Step, ...]
_Pattern = tuple[str | type[int] | EllipsisType, ...]

#: By route, and by route for what its answers say; ``int`` is any index, ``...`` any steps or none.
#: A route that is not named has no such place: the input of an embedding is none, since a vector
#: of placeholders finds nothing. Source: OpenAI API reference (chat completions, completions,
#: responses).
_FREE: Final[Mapping[str, tuple[_Pattern, ...]]] = {
    "chat.completions": (
        ("messages", int, "content"),
        ("messages", int, "content", int, "text"),
        ("messages", int, "content", int, "refusal"),
        ("messages", int, "refusal"),
        ("messages", int, "tool_calls", int, "function", "arguments"),
        ("messages", int, "tool_calls", int, "custom", "input"),
        ("messages", int, "function_call", "arguments"),
        ("prediction", "content"),
        ("prediction", "content", int, "text"),
        ("tools", int, "function", "description"),
        ("tools", int, "function", "parameters", ..., "description"),
        ("tools", int, "custom", "description"),
        ("functions", int, "description"),
        ("functions", int, "parameters", ..., "description"),
        ("response_format", "json_schema", "description"),
        ("response_format", "json_schema", "schema", ..., "description"),
    ),
    "completions": (("prompt",), ("prompt", int), ("suffix",)),
    "responses": (
        ("instructions",),
        ("input",),
        ("input", int, "content"),
        ("input", int, "content", int, "text"),
        ("input", int, "content", int, "refusal"),
        ("input", int, "arguments"),
        ("input", int, "output"),
        ("input", int, "output", int, "text"),
        ("input", int, "summary", int, "text"),
        ("tools", int, "description"),
        ("tools", int, "parameters", ..., "description"),
        ("text", "format", "description"),
        ("text", "format", "schema", ..., "description"),
    ),
    "chat.completions answer": (
        ("choices", int, "message", "content"),
        ("choices", int, "message", "refusal"),
        ("choices", int, "message", "tool_calls", int, "function", "arguments"),
        ("choices", int, "message", "tool_calls", int, "custom", "input"),
        ("choices", int, "message", "function_call", "arguments"),
    ),
    "completions answer": (("choices", int, "text"),),
    "responses answer": (
        ("output", int, "content", int, "text"),
        ("output", int, "content", int, "refusal"),
        ("output", int, "arguments"),
        ("output", int, "summary", int, "text"),
    ),
}


def is_free(route: str, where: Where) -> bool:
    """Whether the string at ``where`` of a request to ``route`` is free text."""
    return any(_matches(pattern, where) for pattern in _FREE.get(route, ()))


def _matches(pattern: _Pattern, where: Where) -> bool:
    if ... in pattern:
        gap = pattern.index(...)
        head, tail = pattern[:gap], pattern[gap + 1 :]
        if len(where) < len(head) + len(tail):
            return False
        return _matches(head, where[: len(head)]) and _matches(tail, where[-len(tail) :])
    return len(pattern) == len(where) and all(
        isinstance(step, int) if wanted is int else step == wanted
        for wanted, step in zip(pattern, where, strict=True)
    )
