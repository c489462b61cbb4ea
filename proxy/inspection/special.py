"""Health and the other special categories (GDPR Art. 9 and 10): a word of theirs said of a person.

"What is asthma?" is nobody's data, "she has asthma" is. So a word from ``data/special.yaml`` counts
only where the words before it in its sentence speak of a person; elsewhere it is on record with a
score below every minimum of the packs.
"""

# Patterns stay whole on their line.
# ruff: noqa: E501, RUF001
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import re2

from proxy.inspection.entities import category_of
from proxy.inspection.linear import compile_linear
from proxy.inspection.shipped import read_yaml
from proxy.types import Finding, Segment

#: A word that nothing says of a person; on record, below every minimum of the packs.
ALONE: Final = 0.3

#: How far a word's own sentence is looked at, in characters before and after it.
_BEFORE: Final = 90
_AFTER: Final = 40

_STOP: Final = compile_linear(r"[.!?。！？]\s|\n\s*\n")

#: Words of care: they are said of patients only.
_CARE: Final = compile_linear(
    r"(?i)\b(?:diagnosed|diagnosis|dx|hx|pmh|history of|suffer(?:s|ed|ing)?(?: from)?|prescribed|prescription|rx|"
    r"take[sn]?|taking|took|on|started on|treated|underwent|undergo(?:ing|es)?|admitted|hospitali[sz]ed|"
    r"tested positive|positive for|complain(?:s|ed|ing)? of|allergic to|allergies|living with|struggl(?:es|ed|ing) with|"
    r"recovering from|surgery for|died of|dose|dosage|refill|medications?|meds|condition|assessment|"
    r"impression|looking at|consistent with|chief complaint|padece|diagnosticad[oa]|toma|souffre|"
    r"atteinte? d[e']|leidet|diagnose)\b"
)
_DOSE: Final = compile_linear(
    r"(?i)^\W{0,3}\d{1,4}(?:[.,]\d{1,3})?\s?(?:mg|mcg|µg|g|ml|units?|iu|tablets?|tabs?)\b"
)
_PATIENT: Final = compile_linear(r"(?i)\b(?:patients?|pt|resident|veteran|yo|y/o|year[- ]old)\b")

#: Somebody in particular: the writer, a person spoken of, or a person by the part they play.
_SOMEBODY: Final = compile_linear(
    r"(?i)\b(?:i|i'm|i've|i’m|i’ve|he|he's|she|she's|his|her|him|my|our|mr|mrs|ms|"
    r"applicant|candidate|employee|client|claimant|defendant|tenant|colleague|coworker|neighbou?r|"
    r"yo soy|soy|ella|él|je suis|elle|il|ich bin|er|sie|mein|meine)\b"
)
#: A field of a form that names the category.
_FIELD: Final = compile_linear(
    r"(?i)\b(?:diagnos[ie]s|dx|conditions?|medications?|meds|allerg(?:y|ies)|disabilit(?:y|ies)|religion|faith|"
    r"ethnicity|race|ethnic origin|orientation|sexual orientation|party|political (?:party|views|affiliation)|"
    r"union|criminal (?:record|history)|convictions?|religión|konfession|etnia)\W{0,4}[:=|]\W{0,6}(?:[\w.\-]+\W{1,2}){0,3}$"
)
_ICD10: Final = compile_linear(r"\b[A-TV-Z]\d[0-9A-Z](?:\.[0-9A-Z]{1,4})?\b")
_ICD10_CUE: Final = compile_linear(
    r"(?i)\b(?:icd|icd-?10(?:-cm)?|diagnos[ie]s|diagnostic|dx|codes?|cie-?10|kodierung)\b"
)
_HEALTH: Final = frozenset({"HEALTH_CONDITION", "MEDICATION"})


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    entity: str
    pattern: Any
    excluded: frozenset[str]


@cache
def _vocabularies() -> tuple[_Vocabulary, ...]:
    entries = read_yaml("special.yaml").items()
    return tuple(_compiled(entity, entry) for entity, entry in entries)


def _compiled(entity: str, entry: dict[str, Any]) -> _Vocabulary:
    terms = sorted({str(term) for term in entry["terms"]}, key=len, reverse=True)
    words = [re2.escape(term).replace(r"\ ", r"\s+").replace(r"\'", "['’]") for term in terms]
    either = "|".join([f"(?:{'|'.join(words)})s?", *entry.get("stems", ())])
    pattern = compile_linear(rf"(?i)(?:^|[^\p{{L}}\d_\-])({either})(?:$|[^\p{{L}}\d_])")
    return _Vocabulary(entity, pattern, frozenset(entry.get("not", ())))


class SpecialDetector:
    """Finds health conditions, medicines, ICD-10 codes, and words of the special categories."""

    name = "special"
    version = "1"

    def __init__(self) -> None:
        _vocabularies()

    def detect(self, segments: Sequence[Segment]) -> tuple[Finding, ...]:
        """Find words of the special categories; see `Detector`."""
        return tuple(
            Finding(entity, category_of(entity), segment.index, start, end, score, self.name)
            for segment in segments
            if segment.text
            for entity, start, end, score in self._in_text(segment.text)
        )

    def _in_text(self, text: str) -> Iterator[tuple[str, int, int, float]]:
        for vocabulary in _vocabularies():
            for match in vocabulary.pattern.finditer(text):
                if match[1].casefold() not in vocabulary.excluded:
                    start, end = match.span(1)
                    score = _score(vocabulary.entity, text, start, end)
                    dose = _DOSE.match(text[end : end + _AFTER])
                    if vocabulary.entity == "MEDICATION" and dose:
                        end += dose.end()
                    yield vocabulary.entity, start, end, score
        if _ICD10_CUE.search(text):
            for match in _ICD10.finditer(text):
                before = text[max(0, match.start() - _BEFORE) : match.start()]
                yield "ICD10_CODE", *match.span(), 0.6 if _ICD10_CUE.search(before) else ALONE


def _score(entity: str, text: str, start: int, end: int) -> float:
    """How surely the word is said of a person, in [0, 1]."""
    before = text[max(0, start - _BEFORE) : start]
    before = before[max((stop.end() for stop in _STOP.finditer(before)), default=0) :]
    if _FIELD.search(before):
        return 0.6
    if entity in _HEALTH:
        if entity == "MEDICATION" and _DOSE.search(text[end : end + _AFTER]):
            return 0.6
        if _PATIENT.search(before) or (_SOMEBODY.search(before) and _CARE.search(before)):
            return 0.6
        if _is_telegram(before, text[end : end + _AFTER]):
            return 0.5
    return 0.5 if _SOMEBODY.search(before) else ALONE


#: "underwent heart surgery", "prescribed amoxicillin": a note that leaves its person out.
_TELEGRAM: Final = compile_linear(
    r"(?i)^\W*(?:was |is |has been |had )?(?:underwent|prescribed|diagnosed(?: with)?|treated for|suffers from|"
    r"complains of|allergic to|tested positive for|positive for|admitted (?:for|with)|history of)\s(?:[\w\-]+\s){0,3}$"
)


def _is_telegram(before: str, after: str) -> bool:
    return bool(_TELEGRAM.search(before)) and "?" not in after
