"""What can be wrong with a policy, with a code, a place and a mend.

Here: what keeps a file from being read as the language; `proxy.policy.faults` has what is wrong
between the parts of well-formed files, and `proxy.policy.lint` adds advice on top.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from proxy.policy.language import (
    Condition,
    ContextWords,
    DestinationPolicy,
    MaskAction,
    OnlyFor,
    PolicyFile,
    RecognizerPolicy,
    Rule,
    TransferPolicy,
)
from proxy.policy.model import LoadedFile
from proxy.policy.reader import Document, Place
from proxy.types import Action, Category, MaskWith, Role, UnscannableReason


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
        for model in (
            PolicyFile,
            Rule,
            Condition,
            DestinationPolicy,
            TransferPolicy,
            OnlyFor,
            RecognizerPolicy,
            ContextWords,
            MaskAction,
        )
        for name in model.model_fields
    }
    | {"action", "all_of", "languages", "unscannable", "always", "from", "until", "with"}
)
_VALUES = [str(v) for kind in (Action, Category, MaskWith, Role, UnscannableReason) for v in kind]


def read_content(
    document: Document, members: dict[str, Any]
) -> tuple[PolicyFile | None, list[Problem]]:
    """The content of ``document`` as ``members`` have it, or what keeps it from being one."""
    try:
        return PolicyFile.model_validate(members), []
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
    return None, [_structural(document, fault) for fault in faults]


def fault_at(
    path: Path, loaded: LoadedFile, place: Place, code: str, text: str, fix: str
) -> Problem:
    """A fault of the part at ``place``, or of the nearest part around it that is written down."""
    while place and place not in loaded.lines:
        place = place[:-1]
    line, column = loaded.lines.get(place, (1, 1))
    return Problem(str(path), line, column, code, text, fix, Severity.FAULT)


def _structural(document: Document, fault: Any) -> Problem:
    place: Place = tuple(part for part in fault["loc"] if part not in ("word", "options"))
    line, column = document.where(place)
    code, text, fix = _words(fault, place)
    name = named(place)
    return Problem(str(document.path), line, column, code, f"{name}: {text}", fix, Severity.FAULT)


def _words(fault: Any, place: Place) -> tuple[str, str, str]:
    """Code, text and mend of a fault of pydantic's."""
    kind, value = str(fault["type"]), fault.get("input")
    if kind == "extra_forbidden":
        close = near(str(place[-1]), _WORDS)
        return "RF002", "this key is not known", f"remove it or mend its spelling{close}"
    if kind in _FIXES:
        return _FIXES[kind]
    message = str(fault["msg"]).removeprefix("Value error, ")
    close = near(value, _VALUES) if isinstance(value, str) and kind == "enum" else ""
    return "RF004", message[:1].lower() + message[1:], f"mend the value{close}"


def near(word: str, words: Any) -> str:
    """A question after the one of ``words`` that may be meant, if one is close."""
    found = difflib.get_close_matches(word, list(words), 1)
    return f" (did you mean {found[0]}?)" if found else ""


def named(place: Place) -> str:
    """``place`` as a message says it: ``rules[0].when``."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "policy"
