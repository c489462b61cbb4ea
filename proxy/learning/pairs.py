"""Pairs to learn from: a conversation, and the answer that the local model should have given.

A file has one JSON object a line, `docs/routing.md` describes it. Nothing here prints a row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from proxy.errors import SettingsError
from proxy.routing.rows import item_of

_ROLES = frozenset({"system", "developer", "user", "assistant"})


@dataclass(frozen=True, slots=True)
class Pair:
    """``messages`` are pairs of role and text, the last one a user's; ``provenance`` says where the
    pair comes from, in ids and digests alone.
    """

    id: str
    messages: tuple[tuple[str, str], ...] = field(repr=False)
    answer: str = field(repr=False)
    provenance: Mapping[str, str] = field(default_factory=dict)

    def line(self) -> str:
        """The pair as a line of a file."""
        told: dict[str, Any] = asdict(self)
        told["messages"] = [{"role": role, "content": text} for role, text in self.messages]
        return json.dumps(told, ensure_ascii=False, sort_keys=True) + "\n"


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file; a row of ``calibrate`` is one too, with its first answer.

    Raises:
        SettingsError: the file cannot be read, holds none, or a line is no pair. It names the
            line alone.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"{path} cannot be read") from None
    pairs = list(_pairs(path, lines))
    if not pairs:
        raise SettingsError(f"{path} holds no pair")
    return pairs


def _pairs(path: Path, lines: list[str]) -> Iterator[Pair]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            pair = _pair(line)
            if pair is None:
                raise SettingsError(
                    f"{path}:{number} is no pair: it needs id, messages and answer, "
                    "or id, question and answers"
                )
            yield pair


def _pair(line: str) -> Pair | None:
    item = item_of(line)
    if item is not None:
        return Pair(item.id, (("user", item.prompt),), item.answers[0])
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError):
        return None
    match raw:
        case {"id": str(name), "messages": [*told], "answer": str(answer)} if answer.strip():
            messages = read_messages(told)
            if messages is not None:
                return Pair(name, messages, answer)
    return None


def read_messages(told: object) -> tuple[tuple[str, str], ...] | None:
    """Messages of text alone as pairs, if the last one is a user's; None for all others.

    A message that holds more than a role and a text (a tool call, a picture, a name) says
    something that a pair could not.
    """
    if not isinstance(told, list | tuple) or not told:
        return None
    messages = []
    for message in told:
        match message:
            case {"role": str(role), "content": str(text), **rest} if role in _ROLES and not rest:
                messages.append((role, text))
            case _:
                return None
    return tuple(messages) if messages[-1][0] == "user" else None
