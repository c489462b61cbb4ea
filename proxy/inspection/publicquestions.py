"""Tells a question about the world in a language whose names nobody here reads.

A text in such a language is not inspected for names, and so is sensitive (P7). But a lone question
like "When was the author of Hamlet born?" would not be kept home for any name in it if it were
read: what form clears in English, it clears here. Nothing else is cleared, and a policy that pins
public figures pins these too: a finding over the whole text stands for the names it may hold.

The bar is higher than for a text that is read. One sentence; a word that asks at its beginning;
nobody who speaks of himself or to somebody; no word of a private matter; no other identifier in the
request; plain letters of the one script, so that no disguised word passes.
"""

# Patterns stay whole and hold the signs of other scripts.
# ruff: noqa: RUF001
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import re2

from proxy.inspection.entities import category_of
from proxy.inspection.linear import compile_linear
from proxy.inspection.publicfigures import is_other_identifier, is_private_matter
from proxy.inspection.shipped import read_yaml
from proxy.types import Finding, Origin, Segment, Unscannable, UnscannableReason

#: A longer text has room for more than a question.
MAX_CHARS: Final = 240

#: Of the finding that stands for names which were not read: no rule's minimum lets it pass.
SCORE: Final = 1.0

#: Scripts whose words have no blanks between them.
_DENSE: Final = frozenset({"Han", "Japanese"})

_LETTERS: Final = {
    "Latin": r"\p{Latin}",
    "Cyrillic": r"\p{Cyrillic}",
    "Han": r"\p{Han}A-Za-z",
    "Japanese": r"\p{Han}\p{Hiragana}\p{Katakana}A-Za-zー",
}
_PUNCTUATION: Final = r"\s,:;'’\"„“”«»()\-–—·・、，：；（）《》「」『』〈〉%&/…"
_STOPS: Final = r"[.?!。？！]"


@dataclass(frozen=True, slots=True)
class _Forms:
    """The patterns of one language: a whole question, and what must not stand in it."""

    whole: Any
    never: Any


def clear_public_questions(
    segments: Sequence[Segment],
    findings: Sequence[Finding],
    unscannable: Sequence[Unscannable],
    languages: Mapping[int, str],
) -> tuple[tuple[Finding, ...], list[Unscannable]]:
    """Take back that a language was not read where a text is a question about the world.

    Args:
        segments: all segments of a request.
        findings: what was found in them, names of public figures marked.
        unscannable: what could not be inspected.
        languages: the language of each segment that was told, by index.

    Returns:
        The findings, one UNLIKELY_PERSON more for each such question, and what is left of
        ``unscannable``.
    """
    foreign = {u.segment for u in unscannable if u.reason is UnscannableReason.LANGUAGE}
    if not foreign:
        return tuple(findings), list(unscannable)
    texts = {s.index: s.text for s in segments if s.origin is Origin.VALUE and s.text}
    asked = {
        index
        for index in foreign
        if index in texts and is_public_question(texts[index], languages.get(index, ""))
    }
    if not asked or any(map(is_other_identifier, findings)) or is_private_matter(segments):
        return tuple(findings), list(unscannable)
    stand_ins = [
        Finding(
            segment=index,
            start=0,
            end=len(texts[index]),
            entity="UNLIKELY_PERSON",
            category=category_of("UNLIKELY_PERSON"),
            score=SCORE,
            detector="public_questions",
        )
        for index in sorted(asked)
    ]
    left = [
        entry
        for entry in unscannable
        if entry.segment not in asked or entry.reason is not UnscannableReason.LANGUAGE
    ]
    return (*findings, *stand_ins), left


def is_public_question(text: str, language: str) -> bool:
    """Whether ``text`` is nothing but one question about the world, in a language of the lists."""
    forms = _forms().get(language)
    if forms is None or len(text) > MAX_CHARS:
        return False
    return bool(forms.whole.match(text)) and not forms.never.search(text)


@cache
def _forms() -> dict[str, _Forms]:
    return {code: _compiled(words) for code, words in read_yaml("public_questions.yaml").items()}


def _compiled(words: Mapping[str, Any]) -> _Forms:
    script = words["script"]
    allowed = f"[{_LETTERS[script]}\\p{{Nd}}{_PUNCTUATION}]"
    asks = _either(words["asks"])
    never = _either([*words["somebody"], *words["private"]])
    if script in _DENSE:
        return _Forms(
            compile_linear(rf"(?i)^{allowed}*(?:{asks}){allowed}*{_STOPS}?\s*$"),
            compile_linear(f"(?i)(?:{never})"),
        )
    edge = r"[^\p{L}\p{N}]"
    # "In welchem ...", "¿En qué ...", "En el año 1900, ¿quién ..."
    lead = rf"(?:{allowed}*¿\s?|[\s\"'„“«]*)(?:\p{{L}}{{1,4}}\s)?"
    return _Forms(
        compile_linear(rf"(?i)^{lead}(?:{asks}){edge}{allowed}*[?？][\"'“”»]?\s*$"),
        compile_linear(rf"(?i)(?:^|{edge})(?:{never})(?:{edge}|$)"),
    )


def _either(words: Sequence[str]) -> str:
    return "|".join(re2.escape(word).replace(r"\*", r"\p{L}*") for word in words)
