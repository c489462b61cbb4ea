"""Tells a question about the world in a language whose names nobody here reads.

A text in such a language is not inspected for names, and so is sensitive (P7). But a lone question
like "When was the author of Hamlet born?" would not be kept home for any name in it if it were
read: what form clears in English, it clears here. Nothing else is cleared, and a policy that pins
public figures pins these too: a finding over the whole text stands for the names it may hold.

What form that is says `questionforms`; besides, no other identifier may stand in the request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from proxy.inspection.entities import category_of
from proxy.inspection.publicfigures import is_other_identifier, is_private_matter
from proxy.inspection.questionforms import is_public_question
from proxy.types import Finding, Origin, Segment, Unscannable, UnscannableReason

#: Of the finding that stands for names which were not read: no rule's minimum lets it pass.
SCORE: Final = 1.0


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
