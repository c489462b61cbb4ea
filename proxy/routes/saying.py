"""What an answer says, whole or a chunk of it: every string in it that is no name and no id.

A member that nobody taught the proxy about says something too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from proxy.types import JSON, JSONObject

#: Members that say nothing, or nothing that the others do not. Source: OpenAI API reference,
#: chat completion chunks and completions; ``stop_reason`` is vLLM's.
_NAMES: Final = frozenset(
    "id object model system_fingerprint service_tier usage role type name logprobs finish_reason "
    "stop_reason".split()
)

#: Where a text stands in a choice; pieces of one text stand at one place.
Place = tuple[str | int, ...]

#: The index of a choice, -1: of none; and which of its texts comes first in a whole answer.
Order = tuple[int, int]

#: In which order and where a text stands, and a piece of it.
Said = tuple[Order, Place, str]


def choices_of(answer: JSONObject) -> list[Mapping[str, JSON]]:
    """The choices of a completion that are objects."""
    choices = answer.get("choices")
    return [one for one in choices if isinstance(one, dict)] if isinstance(choices, list) else []


def said_in(chunk: JSONObject) -> Iterator[Said]:
    """Each piece of text in ``chunk``."""
    beside = {name: member for name, member in chunk.items() if name != "choices"}
    yield from (((-1, 0), place, text) for place, text in _texts(beside, ()))
    for choice in choices_of(chunk):
        index = choice.get("index")
        at = index if isinstance(index, int) else -1
        yield from (((at, _rank(place)), place, text) for place, text in _texts(choice, ()))


def texts_said(answer: JSONObject) -> tuple[str, ...]:
    """The texts of a whole answer, choice by choice, as their pieces are ordered in `said_in`."""
    beside = {name: member for name, member in answer.items() if name != "choices"}
    told = [text for _, text in _texts(beside, ())]
    for choice in choices_of(answer):
        ranked = sorted(_texts(choice, ()), key=lambda one: _rank(one[0]))
        told += [text for _, text in ranked]
    return tuple(told)


def _rank(place: Place) -> int:
    """Where a text stands in a whole message: content, refusal, tool calls, the rest."""
    match place:
        case ("text",) | ("delta" | "message", "content", *_):
            return 0
        case ("delta" | "message", "refusal", *_):
            return 1
        case ("delta" | "message", "tool_calls", int(index), *_):
            return 2 + index
    return 2**31


def _texts(value: JSON, place: Place) -> Iterator[tuple[Place, str]]:
    match value:
        case str():
            if value:
                yield place, value
        case dict():
            for name, member in value.items():
                if name not in _NAMES:
                    yield from _texts(member, (*place, name))
        case list():
            for number, item in enumerate(value):
                index = item.get("index") if isinstance(item, dict) else None
                yield from _texts(item, (*place, index if isinstance(index, int) else number))
