"""What can be wrong with a policy, with a code, a place and a mend.

The faults here keep a policy from loading; `proxy.policy.lint` adds advice on top.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from proxy.inspection.entities import ENTITIES
from proxy.policy.language import (
    Condition,
    DestinationPolicy,
    OnlyFor,
    PolicyFile,
    Rule,
    TransferPolicy,
)
from proxy.policy.model import BUILT_IN, DEFAULT, LoadedFile
from proxy.policy.reader import Document, Place
from proxy.types import Action, Category, Role, UnscannableReason


class Severity(StrEnum):
    """How bad it is: a fault keeps a policy from loading, an error fails lint, a note does not."""

    FAULT = "fault"
    ERROR = "error"
    NOTE = "note"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong: where, what, and how to mend it."""

    file: str
    line: int
    column: int
    code: str
    text: str
    fix: str
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column} {self.code} {self.text}; {self.fix}"


_FIXES = {
    "missing": ("RF003", "is missing", "add it"),
    "bool_type": ("RF004", "is not true or false", "write true or false, without quotes"),
    "int_type": ("RF004", "is not a whole number", "write digits, without quotes"),
    "tuple_type": ("RF004", "is not a list", "write it in brackets: [a, b]"),
    "string_type": ("RF004", "is not text", "put it in quotes"),
}

#: The words a key may be mistaken for: every key of the language.
_WORDS = sorted(
    {
        name
        for model in (PolicyFile, Rule, Condition, DestinationPolicy, TransferPolicy, OnlyFor)
        for name in model.model_fields
    }
    | {"all_of", "languages", "unscannable", "always", "from", "until"}
)
_VALUES = [str(v) for kind in (Action, Category, Role, UnscannableReason) for v in kind]


def read_content(
    document: Document, members: dict[str, Any]
) -> tuple[PolicyFile | None, list[Problem]]:
    """The content of ``document`` as ``members`` have it, or what keeps it from being one."""
    try:
        return PolicyFile.model_validate(members), []
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
    return None, [_structural(document, fault) for fault in faults]


def faults_of(files: Sequence[tuple[Path, LoadedFile]]) -> Iterator[Problem]:
    """What is wrong between the parts of files that are each well formed."""
    path, root = files[0]
    rules = {DEFAULT: (root.content.default or Action.BLOCK, False)}
    for file, loaded in files:
        for key in ("floors", "rules"):
            for index, rule in enumerate(getattr(loaded.content, key)):
                if rule.id in rules or rule.id in BUILT_IN:
                    yield _at(
                        file,
                        loaded,
                        (key, index, "id"),
                        "RF106",
                        f"id {rule.id!r} is taken",
                        "give the rule an id of its own",
                    )
                rules[rule.id] = (rule.action, key == "floors")
    yield from _destination_faults(path, root)
    yield from _exception_faults(path, root, rules)


def _destination_faults(path: Path, root: LoadedFile) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, destination in enumerate(root.content.destinations):
        if destination.id in seen:
            place: Place = ("destinations", index, "id")
            text = f"id {destination.id!r} is taken"
            yield _at(path, root, place, "RF106", text, "give the destination an id of its own")
        seen.add(destination.id)


def _exception_faults(
    path: Path, root: LoadedFile, rules: dict[str, tuple[Action, bool]]
) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, given in enumerate(root.content.exceptions):
        place: Place = ("exceptions", index)
        if given.id in seen or given.id in rules:
            text = f"id {given.id!r} is taken"
            yield _at(path, root, (*place, "id"), "RF106", text, "give it an id of its own")
        seen.add(given.id)
        action, is_floor = rules.get(given.loosens, (None, False))
        inner = (*place, "loosens")
        if action is None:
            text = f"rule {given.loosens!r} does not exist"
            yield _at(path, root, inner, "RF107", text, f"name a rule{_near(given.loosens, rules)}")
        elif is_floor:
            text = f"{given.loosens!r} is a floor, which nothing loosens"
            yield _at(path, root, inner, "RF108", text, "remove the exception")
        elif given.to.strictness >= action.strictness:
            text = f"{given.to.value} is no looser than {action.value}"
            yield _at(path, root, (*place, "to"), "RF109", text, "remove the exception")


def _at(path: Path, loaded: LoadedFile, place: Place, code: str, text: str, fix: str) -> Problem:
    while place and place not in loaded.lines:
        place = place[:-1]
    line, column = loaded.lines.get(place, (1, 1))
    return Problem(str(path), line, column, code, text, fix, Severity.FAULT)


def _structural(document: Document, fault: Any) -> Problem:
    place: Place = tuple(fault["loc"])
    line, column = document.where(place)
    code, text, fix = _words(fault, place)
    name = _named(place)
    return Problem(str(document.path), line, column, code, f"{name}: {text}", fix, Severity.FAULT)


def _words(fault: Any, place: Place) -> tuple[str, str, str]:
    """Code, text and mend of a fault of pydantic's."""
    kind, value = str(fault["type"]), fault.get("input")
    if kind == "extra_forbidden":
        near = _near(str(place[-1]), _WORDS)
        return "RF002", "this key is not known", f"remove it or mend its spelling{near}"
    if kind in _FIXES:
        return _FIXES[kind]
    message = str(fault["msg"]).removeprefix("Value error, ")
    if named := re.match(r"entity '(.*)' is not known", message):
        near = _near(named[1], ENTITIES)
        return "RF104", message, f"name an entity that detectors find{near}"
    near = _near(value, _VALUES) if isinstance(value, str) and kind == "enum" else ""
    return "RF004", message[:1].lower() + message[1:], f"mend the value{near}"


def _near(word: str, words: Any) -> str:
    found = difflib.get_close_matches(word, list(words), 1)
    return f" (did you mean {found[0]}?)" if found else ""


def _named(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "policy"
