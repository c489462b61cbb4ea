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
from typing import Any, Final

import re2

from proxy.inspection.dates import DATE
from proxy.inspection.linear import LinearSet, compile_linear
from proxy.inspection.shipped import read_yaml

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
#: The same where the value may be any word.
_SIGN: Final = (
    r"(?:\s?(?:id|handle|name|user|username|account|profile))?[\"'*_`)\]]{0,4}\s{0,2}"
    r"(?:[:：=@|]|\b(?:is|ist|es|est)\b|是|为)[\s:]{0,3}[\"'*_`(\[<]{0,4}"
)
#: A value before its word: "X1234567 is my passport number".
_LONE_CODE: Final = r"([A-Z\d][A-Z\d.\-/]{4,24})"
_IS_MY: Final = r"[\"'`)]?\s(?:is|was|being|as|=|ist|es|est)\s(?:my|his|her|their|our|the|your|mein|mi|mon|ma)\s"
_SHAPES: Final = {
    "code": r"([\p{L}\d](?:[ .\-/–]{0,3}[\p{L}]{0,4}\d[\p{L}\d]{0,20}|[\-/._]?[A-Z]{1,6}){1,14})",
    "digits": r"([+(]{0,2}[A-Z]{0,2}\d(?:[ .\-()/–]{0,3}[\dOo]){3,30})",
    "date": f"({DATE})",
    "name": r"(@?[A-Za-z][A-Za-z0-9._\-]{2,39}|\d{5,12})",
    "line": r"([^\n|<>\"{}]{6,90})",
}


@dataclass(frozen=True, slots=True)
class LabelRule:
    """One entity's words as a pattern; group 1 is the value, ``sign`` the words alone."""

    entity: str
    pattern: str
    sign: str
    min_digits: int
    score: float


@cache
def label_rules() -> LinearSet[LabelRule]:
    """The rules of ``data/labels.yaml``, in file order."""
    rules = [rule for entry in read_yaml("labels.yaml") for rule in _rules_of(entry)]
    return LinearSet([(rule, rule.pattern) for rule in rules], [rule.sign for rule in rules])


def _rules_of(entry: dict[str, Any]) -> Iterator[LabelRule]:
    words = sorted(entry["labels"], key=len, reverse=True)
    either = "|".join(re2.escape(word).replace(r"\ ", r"[ _\-.]{0,2}") for word in words)
    begin, shape = rf"(?i)(?:^|[^\p{{L}}\d])(?:{either})", _SHAPES[entry["shape"]]
    num_digits, score, sign = entry["min_digits"], entry["score"], rf"(?i)(?:{either})"
    if num_digits == 0:  # a word follows a word all the time: a sign between them, or a digit
        yield LabelRule(entry["entity"], f"{begin}{_SIGN}{shape}", sign, 0, score)
        num_digits = 1
    yield LabelRule(entry["entity"], f"{begin}{_BETWEEN}{shape}", sign, num_digits, score)
    if entry["shape"] == "code":
        after = rf"(?i)(?:^|[^\p{{L}}\d]){_LONE_CODE}{_IS_MY}(?:{either})(?:$|[^\p{{L}}])"
        yield LabelRule(entry["entity"], after, sign, max(num_digits, 4), score)
    if prefixes := entry.get("prefixes"):
        named = rf"\b(?:{'|'.join(prefixes)})[\-_#]\d"
        pattern = rf"({named}[A-Z\d\-]{{2,24}})\b"
        yield LabelRule(entry["entity"], pattern, named, min_digits=3, score=score)


_STREET: Final = (
    r"(?i)\b(?:street|st|road|rd|avenue|ave|lane|ln|drive|dr|way|court|ct|blvd|square|place|apt)\b"
)
_LISTED: Final = r"^\d{1,2}[.)]\s"
#: Two streets of which the first has a number: "the corner of Lerchenau 3 and Kranich Fields".
_CORNER: Final = r"(?i)\bcorner of\s\p{L}[^\n]{2,40}\s\d{1,5}[a-z]?,?\s(?:and|&)\s\p{L}"


@cache
def _address_signs() -> tuple[Any, Any, Any]:
    return compile_linear(_STREET), compile_linear(_LISTED), compile_linear(_CORNER)


def _may_be_address(before: str, line: str) -> bool:
    """Whether the rest of a line may be an address: not "address this in 3 steps", nor "1. Do"."""
    street, listed, corner = _address_signs()
    if listed.search(line):
        return False
    if not line[0].islower() or street.search(line):
        return True
    return bool(corner.search(f"{before}{line}"))


def _is_year_of(before: str, value: str) -> bool:
    """Whether a value is the year of the word before it: "the policy of 1990"."""
    is_year = len(value) == 4 and value[:2] in ("18", "19", "20") and value.isdigit()
    return is_year and before.split()[-1:] == ["of"]


def announced(text: str) -> Iterator[tuple[str, int, int, float]]:
    """Every (entity, start, end, score) that a word announces in ``text``."""
    for rule, match in label_rules().finditer(text):
        start, end = match.span(1)
        if sum(char.isdigit() for char in match[1]) < rule.min_digits:
            continue
        if _is_year_of(text[max(start - 4, 0) : start], match[1]):
            continue
        if rule.entity != "STREET_ADDRESS" or _may_be_address(
            text[max(start - 12, 0) : start], match[1]
        ):
            yield rule.entity, start, end, rule.score
