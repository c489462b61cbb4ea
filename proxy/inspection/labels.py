"""Identifiers that are announced by a word: "policy no. 88-1234", "Geburtsdatum: 01.02.1990".

The words stand in ``data/labels.yaml``; this module turns each entity's words into one linear
pattern (RE2). It must never take a value without its word: that is what keeps it quiet.
"""

# Patterns stay whole on their line and hold the signs of other scripts.
# ruff: noqa: E501, RUF001
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

import re2
import yaml

from proxy.inspection.dates import DATE

#: What may stand between the word and its value: "no.", "is", quotes, brackets, XML and Markdown.
_BETWEEN: Final = (
    r"(?:s|'s)?\.?[\"'*_`)\]]{0,4}[\s_\-]{0,3}"
    r"(?:\((?:[^()\n]{1,24})\)\s?)?"
    r"(?:(?:number|numbers|no|nos|nr|num|n[°ºo]|id|code|nummer|num[eé]ro|n[uú]mero|numer|号码|号|番号)"
    r"\b?\.?)?"
    r"[\"'*_`)\]]{0,4}[\s:：=#|>,，、\-–—]{0,8}"
    r"(?:(?:is|ist|es|est|are|was|[eè]|é|of|to|on|reads|wynosi|lautet|on file is|为|是|は|은|는)[\s:：]{1,3})?"
    r"[\"'*_`(\[<#]{0,4}\s{0,2}"
)
_SHAPES: Final = {
    "code": r"([\p{L}\d](?:[ .\-/–]{0,3}[\p{L}]{0,4}\d[\p{L}\d]{0,20}|[\-/._]?[A-Z]{1,6}){1,14})",
    "digits": r"([+(]{0,2}[A-Z]{0,2}\d(?:[ .\-()/–]{0,3}[\dOo]){3,30})",
    "date": f"({DATE})",
    "name": r"(@?[A-Za-z][A-Za-z0-9._\-]{2,39}|\d{5,12})",
    "line": r"([^\n|<>\"{}]{6,90})",
}


@dataclass(frozen=True, slots=True)
class LabelRule:
    """One entity's words, compiled."""

    entity: str
    pattern: Any
    min_digits: int
    score: float


@cache
def label_rules() -> tuple[LabelRule, ...]:
    """The rules of ``data/labels.yaml``, in file order."""
    source = resources.files("proxy.inspection") / "data" / "labels.yaml"
    return tuple(
        rule
        for entry in yaml.safe_load(source.read_text(encoding="utf-8"))
        for rule in _rules_of(entry)
    )


def _rules_of(entry: dict[str, Any]) -> Iterator[LabelRule]:
    words = sorted(entry["labels"], key=len, reverse=True)
    either = "|".join(re2.escape(word).replace(r"\ ", r"[ _\-.]{0,2}") for word in words)
    yield LabelRule(
        entry["entity"],
        _compile(rf"(?i)(?:^|[^\p{{L}}\d])(?:{either}){_BETWEEN}{_SHAPES[entry['shape']]}"),
        entry["min_digits"],
        entry["score"],
    )
    if prefixes := entry.get("prefixes"):
        yield LabelRule(
            entry["entity"],
            _compile(rf"\b((?:{'|'.join(prefixes)})[\-_#]\d[A-Z\d\-]{{2,24}})\b"),
            min_digits=3,
            score=entry["score"],
        )


def _compile(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


def announced(text: str) -> Iterator[tuple[str, int, int, float]]:
    """Every (entity, start, end, score) that a word announces in ``text``."""
    for rule in label_rules():
        for match in rule.pattern.finditer(text):
            start, end = match.span(1)
            if sum(char.isdigit() for char in match[1]) >= rule.min_digits:
                yield rule.entity, start, end, rule.score
