"""Tells a question about a famous person, a story or a sum from a request about a private person.

A model that looks for names flags "Who wrote Hamlet?" answers as well as "write to Jane Roe". What
tells them apart is the form of the request, whether anything else in it points at a person, and
a list of public figures. Every rule here only takes back what a *model* found or a pair of
name-list words suggested; a name after a title or a role of a private matter is never taken back
unless it is on the list.

It must never touch a finding of any entity but PERSON, and does nothing where a request holds any
other identifier. Policies switch it off in strict packs.
"""

# Patterns stay whole on their line and hold the signs of other scripts.
# ruff: noqa: E501, RUF001
from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Final

from proxy.inspection.entities import category_of
from proxy.inspection.linear import compile_linear
from proxy.inspection.names import is_given_name, is_surname, not_names
from proxy.inspection.questionforms import is_public_question, speaks_of_private_matters
from proxy.inspection.recognizers import CUSTOM
from proxy.inspection.shipped import read_lines
from proxy.types import Category, Finding, Origin, Role, Segment

#: Signs of a whole text's subject count in short ones only: a long one has room for both.
_SHORT_CHARS: Final = 400

_PINNING: Final = frozenset(
    {
        Category.IDENTITY,
        Category.CONTACT,
        Category.FINANCIAL,
        Category.HEALTH,
        Category.CREDENTIAL,
        Category.SPECIAL_CATEGORY,
    }
)

#: Signs that a request is about private people or business. One is enough to leave names alone.
_PRIVATE: Final = compile_linear(
    r"(?i)\b(?:my (?:name|boss|wife|husband|son|daughter|mother|father|mom|dad|brother|sister|friend|girlfriend|boyfriend|"
    r"colleague|coworker|manager|doctor|teacher|client|patient|neighbou?r|landlord|tenant|employee|ex|cousin|uncle|aunt|"
    r"partner|fianc[eé]e?|roommate|student|professor|supervisor|customer|account|address|phone|number|email|card|ssn|"
    r"insurance|appointment|resume|cv)|our (?:client|customer|patient|employee|colleague|tenant|team|ceo|manager)|"
    r"patients?|employees?|invoice|payroll|salary|diagnos(?:ed|is)|prescri(?:bed|ption)|medical record|"
    r"beneficiary|guarantor|can i|may i|your (?:name|boss|wife|husband)|performance review|resign(?:s|ed|ation)|contract|"
    r"complaint|refund|mortgage|loan|lawsuit|divorce|custody|sick leave|symptoms|therapy|salary|promotion|disciplin\w+|"
    r"appointment|plaintiff|defendant|claimant|tenant|lease|résumé|cover letter|"
    r"e-?mails?|phone|telephone|contact|call|reach|address|date of birth|dob|ssn|passport|"
    r"regards|sincerely|dear|attn|cc|invited|meeting with|meet with|talk(?:ed)? to|spoke to|reply to|write to|send|"
    r"i am|i'm|hi|hello|record|account|policy|claim|customer|client|kunde|patientin|paciente|cliente|pacjent|"
    r"telefon|adresse|adres|direcci[oó]n)\b"
)

#: How a question about the world begins, or ends; tried on the sentence a name stands in.
_QUESTION: Final = compile_linear(
    r"(?i)^[^\p{L}\d]*(?:and\s|but\s|so\s)?(?:in\s|on\s|at\s|by\s|for\s|from\s|of\s|to\s|with\s|under\s|during\s|after\s)?"
    r"(?:who|whose|whom|what|which|when|where|why|how|name the|true or false|"
    r"wer|wen|wem|was|welche[rsnm]?|wann|wo|warum|wie|wessen|qui[eé]n(?:es)?|qu[eé]|cu[aá]l(?:es)?|cu[aá]ndo|d[oó]nde|"
    r"c[oó]mo|por qu[eé]|cu[aá]nt[oa]s?|qui|quoi|quel(?:le)?s?|quand|o[uù]|comment|pourquoi|chi|che|quale|quando|dove|"
    r"come|perch[eé]|kto|kiedy|gdzie|jak|który|która|wat|welk|waar|vem|vad|när|quem|qual|onde)\b"
    r"|[?？]\s*$|谁|什么|哪|何|多少|吗"
)
_CODE: Final = compile_linear(
    r"(?m)^\s*(?:def |class |import |from \w+ import|return |#include|public |private |var |let |const |function |SELECT |"
    r"assert |for \w+ in |if .{0,60}:$|>>>)|```|\\(?:frac|begin|sqrt|text|cdot|left|le|ge|ldots|sum)\b|\bdef \w+\(|"
    r"(?i)\b(?:python|javascript|java|c\+\+|sql|html|css|regex|bash|typescript|react)\b"
)
#: What people ask a player of music or films for, and what reference works say of people.
_MEDIA: Final = compile_linear(
    r"(?i)\b(?:play|hear|listen|music|songs?|tunes?|album|soundtrack|playlist|spotify|itunes|deezer|vimeo|youtube|"
    r"movies?|films?|theat(?:er|re)s?|novels?|saga|series|episode|books?|textbook|stars|podcast|track|"
    r"persona of|roleplay|character|lyrics|poem|fan ?fiction)\b"
)
_LORE: Final = compile_linear(
    r"(?i)\b(?:novel|protagonist|fictional|world war|civil war|super bowl|world cup|world series|olympics?|grand slam|"
    r"quarterback|baseball|basketball|football(?:er)?|hockey|nba|nfl|academy award|oscar|grammys?|emmy|nobel prize|tony award|"
    r"actor|actress|singer|songwriter|composer|rapper|sitcom|tv show|television|broadway|bbc|album|band|"
    r"president|prime minister|emperor|queen of|king of|dictator|communists?|empire|dynasty|monarch|"
    r"general|colonel|admiral|commander of|infantry|regiment|battle of|spy|spying|gangster|"
    r"philosopher|physicist|mathematician|inventor|explorer|astronaut|novelist|poet|playwright|painter|sculptor|"
    r"in 1[0-8][0-9]{2}|(?:1[0-9]|th) century|hogwarts|marvel|disney|shakespeare|sherlock|mytholog\w+|greek god|"
    r"bible|biblical|gospel|prophet|saint)\b"
)
#: Who speaks as I or to you speaks of their own world.
_SOMEBODY: Final = compile_linear(r"(?i)\b(?:i|i'm|i've|we|me|us|my|our|you|your)\b")
#: "This massive novel ...", the way quiz clues begin.
_CLUE: Final = compile_linear(r"^\W*(?:This|These|In this|It was in this)\s")
_WORD_PROBLEM: Final = compile_linear(
    r"(?i)\bhow (?:many|much|far|long|old|fast|tall|often|likely)\b|\b(?:what|find|calculate|determine|compute|evaluate)\b[^.?!]{0,80}"
    r"\b(?:total|number|average|percent(?:age)?|probability|area|value|sum|cost|ratio|difference|distance|length|remainder|profit|"
    r"price|amount|weight|height|age|time|degree|perimeter|volume|fraction)\b"
)
_COMMAND: Final = compile_linear(
    r"(?i)^\W*(?:please\s|can you\s|can i\s|i need to\s|i'd love to\s|i would like to\s|let me\s|could you\s|i want to\s|i'd like to\s|i want you to\s|let's\s|let us\s)?"
    r"(?:play|add|put|find|search|show|book|rate|give|look|watch|listen|hear|use|turn|open|start|see|get|save|include|"
    r"write|compose|create|generate|make|rewrite|act|imagine|pretend|summari[sz]e|translate|discuss|compare|"
    r"list|suggest|recommend|explain|describe|tell|provide|develop|design|draw|analy[sz]e|choose|identify|"
    r"classify|convert|edit|given|answer|respond|you are|take|build|implement|assume|consider|come up)\b"
)
_STOP: Final = compile_linear(r"[.!?？。]+(?:[\"')\]]?\s+|$)|\n")
_NUMBER: Final = compile_linear(
    r"\d|\b(?:half|twice|double|two|three|four|five|six|seven|eight|nine|ten|dozen)\b"
)
_NAME_SHAPE: Final = compile_linear(
    r"^\p{Lu}[\p{L}\p{M}.'’\-]*(?:\s[\p{L}\p{M}.'’\-]+){0,5}(?:'s|’s)?$"
)


@cache
def public_figures() -> frozenset[str]:
    """Names of public figures, lower case, of ``data/public_figures.txt``."""
    return frozenset(line.casefold() for line in read_lines("public_figures.txt"))


def mark_public_figures(
    segments: Sequence[Segment],
    findings: Sequence[Finding],
    languages: Mapping[int, str] | None = None,
) -> tuple[Finding, ...]:
    """``findings`` with names that are no private data relabeled.

    A PERSON on the list of public figures becomes ``PUBLIC_FIGURE``, one that only the form of the
    request speaks against an ``UNLIKELY_PERSON``, both of category other and with their score, so
    that a policy that pins public figures pins them all.
    Nothing changes when any other identifier was found, or where words of a private matter stand.
    The signs of a request's form are English; in other languages only a lone question counts.

    Args:
        segments: The text segments of one request, all of them.
        findings: What all detectors found in them.
        languages: The language of each segment that was told, by index; English where it was not.

    Returns:
        The same findings, in the same order, PERSON ones possibly changed.
    """
    # The form of a request says nothing of the names in a document that comes with it.
    files = {segment.index for segment in segments if segment.origin is Origin.FILE}
    named = {finding.segment for finding in findings if finding.entity == "PERSON"} - files
    if not named or any(is_other_identifier(finding) for finding in findings):
        return tuple(findings)
    texts = {segment.index: segment.text for segment in segments if segment.text is not None}
    tongues = {index: code for index, code in (languages or {}).items() if code != "en"}
    form = _Form(_told(segments))
    form.is_private |= any(
        speaks_of_private_matters(texts.get(index, ""), code) for index, code in tongues.items()
    )
    stops = {index: [m.end() for m in _STOP.finditer(texts.get(index, ""))] for index in named}

    def judged(finding: Finding) -> Finding:
        if finding.entity != "PERSON" or finding.segment not in named:
            return finding
        text = texts.get(finding.segment, "")
        if (tongue := tongues.get(finding.segment)) is not None:
            return _judge_in(tongue, finding, text, form)
        return _judge(finding, text, stops[finding.segment], form)

    return tuple(map(judged, findings))


def is_private_matter(segments: Sequence[Segment]) -> bool:
    """Whether words of a private matter stand in what the messages of a request say."""
    return bool(_PRIVATE.search(_told(segments)))


def _told(segments: Sequence[Segment]) -> str:
    """What the messages say without their files; all texts where a request has no messages."""
    texts = [segment for segment in segments if segment.text is not None]
    said = [s for s in texts if s.role is not Role.NONE and s.origin is not Origin.FILE]
    return "\n".join(segment.text or "" for segment in said or texts)


def is_other_identifier(finding: Finding) -> bool:
    """Whether a finding is private whoever is meant: anything but a name that pins by default."""
    return finding.entity != "PERSON" and finding.category in _PINNING and finding.score >= 0.4


class _Form:
    """What kind of request a text is."""

    def __init__(self, text: str) -> None:
        self.is_private = bool(_PRIVATE.search(text))
        self.is_code = bool(_CODE.search(text))
        self.is_command = bool(_COMMAND.search(text))
        self.is_media = len(text) <= _SHORT_CHARS and bool(_MEDIA.search(text))
        impersonal = len(text) <= _SHORT_CHARS and not _SOMEBODY.search(text)
        self.is_lore = impersonal and bool(_LORE.search(text) or _CLUE.search(text))
        self.is_word_problem = bool(_WORD_PROBLEM.search(text)) and bool(_NUMBER.search(text))


def _judge_in(tongue: str, finding: Finding, text: str, form: _Form) -> Finding:
    """The judgement on a name in a text that is in another language than English."""
    if finding.score < 0.4 or finding.detector == CUSTOM or form.is_private:
        return finding
    name = " ".join(text[finding.start : finding.end].split())
    if name.casefold() in public_figures():
        return _as(finding, "PUBLIC_FIGURE")
    return _as(finding, "UNLIKELY_PERSON") if is_public_question(text, tongue) else finding


def _judge(finding: Finding, text: str, stops: Sequence[int], form: _Form) -> Finding:
    name = " ".join(text[finding.start : finding.end].split()).removesuffix("'s").removesuffix("’s")
    if finding.score < 0.4 or finding.detector == CUSTOM:  # a name that the policy lists is meant
        return finding
    if name.casefold() in public_figures() and not form.is_private:
        return _as(finding, "PUBLIC_FIGURE")
    if finding.detector == "presidio" and not _looks_like_a_name(name):  # a small model guesses
        return _as(finding, "UNLIKELY_PERSON")
    if form.is_word_problem and " " not in name:
        return _as(finding, "UNLIKELY_PERSON")  # "Tim earns 20 a day. How much in a week?"
    if form.is_private:
        return finding
    if form.is_word_problem or form.is_code or _QUESTION.search(_sentence(text, finding, stops)):
        return _as(finding, "UNLIKELY_PERSON")
    if form.is_lore:
        return _as(finding, "UNLIKELY_PERSON")
    if form.is_command and (form.is_media or not _is_full_listed_name(name)):
        return _as(finding, "UNLIKELY_PERSON")
    return finding


def _as(finding: Finding, entity: str) -> Finding:
    return replace(finding, entity=entity, category=category_of(entity))


def _sentence(text: str, finding: Finding, stops: Sequence[int]) -> str:
    """The sentence the finding stands in, at most 300 characters to each side.

    ``stops`` are where the sentences of the text end, in order.
    """
    before = bisect_right(stops, finding.start)
    after = bisect_left(stops, finding.end)
    begin = stops[before - 1] if before else 0
    end = stops[after] if after < len(stops) else len(text)
    return text[max(begin, finding.start - 300) : min(end, finding.end + 300)]


def _is_full_listed_name(name: str) -> bool:
    words = name.split()
    return len(words) > 1 and is_given_name(words[0]) and is_surname(words[-1])


def _looks_like_a_name(name: str) -> bool:
    """Whether a model's PERSON has the shape of one; a single word must be on a list."""
    if not _NAME_SHAPE.match(name):
        return False
    words = [word for word in name.replace("-", " ").split() if word not in not_names()]
    if not words:
        return False
    if len(words) == 1:
        return is_given_name(words[0]) or is_surname(words[0])
    return True
