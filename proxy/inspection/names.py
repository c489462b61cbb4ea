"""Names of people where a language model may miss them: after a cue, or by two name-list words.

A capitalized word alone is never taken for a name here. The lists name their provenance.
"""

# Patterns stay whole on their line and hold the signs of other scripts.
# ruff: noqa: E501, RUF001
from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

import re2

from proxy.inspection.entities import category_of
from proxy.inspection.linear import compile_linear
from proxy.inspection.shipped import read_lines, read_yaml
from proxy.types import Finding, Role, Segment

_CAPITALIZED: Final = r"\p{Lu}(?:[\p{L}\p{M}'’\-]{1,24}|\.)"
_PARTICLE: Final = (
    r"(?:(?:de|del|de\sla|de\slos|da|do|dos|di|du|della|dei|van|van\sder|van\sden|van\sde|van\s't|von|von\sder|zu|zur|zum|ten|ter|te|af|av|"
    r"bin|ibn|ben|abu|al|el|y|le|la|st\.)\s)"
)
_NAME: Final = rf"({_CAPITALIZED}(?:[ \t]{{1,2}}{_PARTICLE}?{_CAPITALIZED}){{0,3}})"
_INITIAL: Final = r"(?:[ \t]\p{Lu}\b)?"
_WORD: Final = r"\p{Lu}\p{Ll}{2,24}"
_PAIR: Final = rf"\b{_CAPITALIZED}{_INITIAL}(?:[ \t\n]{{1,2}}{_PARTICLE}?{_CAPITALIZED}){{1,3}}"
_SWAPPED: Final = rf"\b({_CAPITALIZED}),\s({_CAPITALIZED})"
_GAP: Final = r"[\"'*_`)\]]{0,4}[\s:：=|>\-–,]{1,6}[\"'*_`(\[<]{0,4}\s{0,2}"

#: The most frequent family names in Chinese (public census tallies) and Korean.
_HAN_FAMILY: Final = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范"
    "金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严武戴莫孔向汤"
)
_HAN_CUE: Final = "(?:姓名|联系人|客户|患者|病人|车主|收件人|员工|我叫|我是|名叫|叫做|负责人|当事人|原告|被告|申请人|同事|经理|户名|持卡人|医生|用户)"
_HAN_AFTER: Final = "(?:先生|女士|小姐|老师|医生|经理|同学|总|的(?:手机|电话|身份证|邮箱|车牌|地址|银行|护照|住址|生日))"
_HANGUL_CUE: Final = r"(?:성명|이름|보호자|환자|고객|담당자)[\s:：]{1,3}([\p{Hangul}]{2,4})"
_KANA_CUE: Final = r"(?:氏名|名前|お名前|患者|担当者)[\s:：は]{1,3}([\p{Han}\p{Hiragana}\p{Katakana}]{1,5}[ 　]?[\p{Han}\p{Hiragana}\p{Katakana}]{1,5})"

#: A Han name written apart among Latin words, as forms in English hold it: given name, family name.
_HAN_SPACED: Final = (
    rf"(?:[A-Za-z:：,.>)\-\"']\s|^)(\p{{Han}}{{1,3}}\s[{_HAN_FAMILY}]|\p{{Han}}{{1,3}}\s\p{{Han}}{{2,3}}|[{_HAN_FAMILY}]\s\p{{Han}}{{1,2}})"
    r"(?:[\s,.;(<\-\"']+[A-Za-z(\[<\d]|$)"
)


#: Where a message names who says it: API fields take no spaces there.
_PARTICIPANT: Final = re.compile(r"messages\[\d+\]\.name")
_ROLES: Final = frozenset({Role.USER, Role.ASSISTANT, Role.SYSTEM, Role.DEVELOPER})
_PART: Final = re.compile(r"[^\W\d_]+?(?=[\W\d_]|(?<=[a-z])[A-Z]|$)")

_NAME_WORD: Final = compile_linear(r"\p{Lu}[\p{Ll}'’\-]+(?:\p{Lu}\p{Ll}+)?|\p{Lu}\.?")


@cache
def given_names() -> frozenset[str]:
    """Given names of the shipped list, title case."""
    return frozenset(read_lines("first_names.txt"))


@cache
def surnames() -> frozenset[str]:
    """Surnames of the shipped list, title case."""
    return frozenset(read_lines("surnames.txt"))


@cache
def cues() -> dict[str, Any]:
    """The cue words of ``data/name_cues.yaml``."""
    loaded: dict[str, Any] = read_yaml("name_cues.yaml")
    return loaded


@cache
def not_names() -> frozenset[str]:
    """Capitalized words that are no names."""
    return frozenset(str(word) for word in cues()["not_names"])


def _either(words: Sequence[str]) -> str:
    escaped = (re2.escape(word).replace(r"\ ", r"\s") for word in sorted(words, key=len)[::-1])
    return "|".join(escaped)


def is_given_name(word: str) -> bool:
    """Whether ``word`` is on the list of given names and not an everyday word."""
    title = word.title() if word.isupper() else word
    return title in given_names() and title not in not_names()


def likely_name(span: str, taken_for: str) -> float:
    """How likely it is that ``span``, which a model took for something else, names a person.

    In [0, 1]; 0 for anything but two to four capitalized words that end in a family name of the
    list (and begin with a given name, where the model saw a place), or one such word of a "group".
    """
    words = span.split()
    if not 1 <= len(words) <= 4 or not all(_NAME_WORD.fullmatch(word) for word in words):
        return 0.0
    if any(word in not_names() or word in cues()["places"] for word in words):
        return 0.0
    if not is_surname(words[-1]):
        return 0.0
    if len(words) == 1:
        return 0.42 if taken_for == "NRP" else 0.0
    return 0.5 if taken_for == "ORGANIZATION" or is_given_name(words[0]) else 0.0


def is_surname(word: str) -> bool:
    """Whether ``word`` is on the list of surnames and not an everyday word."""
    title = word.title() if word.isupper() else word
    return title in surnames() and title not in not_names()


class NamesDetector:
    """Finds names after cues (titles, roles, greetings, signatures) and by pairs on the lists."""

    name = "names"
    version = "1"

    def __init__(self) -> None:
        words = cues()
        self._after_title = compile_linear(
            rf"(?:^|[^\p{{L}}])(?i:{_either(words['titles'])})\.?[ \t]{{1,2}}{_NAME}"
        )
        self._after_role = compile_linear(
            rf"(?:^|[^\p{{L}}])(?i:{_either(words['roles'])}){_GAP}{_NAME}"
        )
        self._before_doing = compile_linear(
            rf"(?:^|[.!?\"“\n]\s*|[,;:]\s|\b(?:and|that|because|when|if)\s)({_CAPITALIZED}{_INITIAL}(?:[ \t]{_PARTICLE}?{_CAPITALIZED}){{0,2}})"
            rf"\s(?:{_either(words['doings'])}|as an?\s(?:beneficiary|guarantor|contact|witness))\b"
        )
        self._subject = compile_linear(
            rf"(?:^|[.!?\"“\n]\s*|,\s|\b(?:and|but|that|because|when|if)\s)({_CAPITALIZED})\s"
            r"(?:will|has|had|would|can't|couldn't|won't|doesn't|didn't|isn't|wasn't|hasn't|just)\s\p{Ll}"
        )
        self._after_speech = compile_linear(
            rf"(?:^|[^\p{{L}}])(?i:{_either(words['speech'])})\s{_NAME}"
        )
        self._lower_title = compile_linear(
            r"(?:^|[^\p{L}])(?:mr|mrs|ms|dr)\.?\s(\p{Ll}[\p{L}'\-]{2,20})"
        )
        self._after_label = compile_linear(
            rf"(?:^|[^\p{{L}}])(?i:{_either(words['labels'])})[\"'*_`)\]]{{0,4}}\s?[:：=|][\s\"'*_`(\[<]{{0,6}}{_NAME}"
        )
        self._vocative = compile_linear(
            rf"^\W{{0,3}}({_CAPITALIZED}),\s(?i:can|could|may|would|will|please|do|did|are|have)\s(?i:i|you|we|the|my|me|please|let|speak|send|call)\b"
        )
        self._starred = compile_linear(r"\b\p{Lu}\*{2,}[\s.]\p{Lu}\*{2,}")
        self._as_party = compile_linear(
            rf"({_CAPITALIZED}{_INITIAL}(?:[ \t]{_CAPITALIZED}){{1,3}})\sas\s(?:an?|my|our|the)\s"
            r"(?:beneficiary|guarantor|contact|witness|authorized|co-?signer|emergency|dependent|user|owner)"
        )
        self._spoken = compile_linear(
            rf"(?i)(?:^|[^\p{{L}}])(?:{_either(words['spoken'])})[\s:,\.]{{1,3}}"
            r"(\p{L}[\p{L}'\-]{1,20})(?:\s(\p{L}[\p{L}'\-]{1,20}))?"
        )
        self._pair = compile_linear(_PAIR)
        self._swapped = compile_linear(_SWAPPED)
        self._joined = compile_linear(
            rf"(?:^|[^\p{{L}}\d_.@])(({_WORD})[_.]({_WORD}))(?:\.?$|[^\p{{L}}\d_.@(\[]|\.\s)"
        )
        self._han = compile_linear(
            rf"{_HAN_CUE}[:：是为 ]{{0,3}}([{_HAN_FAMILY}]\p{{Han}}{{1,2}}?)(?:{_HAN_AFTER}|[^\p{{Han}}]|的|$)"
            rf"|([{_HAN_FAMILY}]\p{{Han}}{{0,2}}?){_HAN_AFTER}"
        )
        self._asian = tuple(map(compile_linear, (_HANGUL_CUE, _KANA_CUE, _HAN_SPACED)))

    def detect(self, segments: Sequence[Segment]) -> tuple[Finding, ...]:
        """Find names; see `Detector`."""
        best: dict[tuple[int, int, int], float] = {}
        for segment in segments:
            places = [*self._in_text(segment.text or ""), *_participant(segment)]
            for start, end, score in places:
                key = (segment.index, start, end)
                best[key] = max(score, best.get(key, 0.0))
        return tuple(
            Finding("PERSON", category_of("PERSON"), *key, score, self.name)
            for key, score in best.items()
        )

    def _in_text(self, text: str) -> Iterator[tuple[int, int, float]]:
        for match in self._after_title.finditer(text):
            if (span := _trim(text, *match.span(1))) is not None:
                yield *span, 0.7
        for match in self._after_role.finditer(text):
            span = _trim(text, *match.span(1))
            if span is None:
                continue
            name = text[slice(*span)]
            shouted = name.isupper() and not is_given_name(name.split()[0])
            if not shouted and _has_listed_word(name):
                yield *span, 0.65
        for match in self._after_label.finditer(text):
            if (span := _trim(text, *match.span(1), may_be_place=True)) is not None:
                yield *span, 0.65
        yield from self._acting(text)
        yield from self._listed_pairs(text)
        yield from self._lower_case(text)
        for pattern in (self._han, *self._asian):
            for match in pattern.finditer(text):
                group = next(i for i in range(1, pattern.groups + 1) if match[i])
                yield *match.span(group), 0.6

    def _acting(self, text: str) -> Iterator[tuple[int, int, float]]:
        for match in self._before_doing.finditer(text):
            span = _trim(text, *match.span(1), may_be_place=True)
            if span is not None:
                yield *span, 0.5
        for match in self._subject.finditer(text):
            if is_given_name(match[1]) and match[1] not in cues()["places"]:
                yield *match.span(1), 0.45
        for pattern, score in ((self._after_speech, 0.5), (self._as_party, 0.6)):
            for match in pattern.finditer(text):
                if (span := _trim(text, *match.span(1))) is not None:
                    yield *span, score
        if (match := self._vocative.search(text)) and match[1] not in not_names():
            yield *match.span(1), 0.5
        for match in self._starred.finditer(text):
            yield *match.span(), 0.5
        for match in self._lower_title.finditer(text):
            if is_surname(match[1].title()) or is_given_name(match[1].title()):
                yield *match.span(1), 0.6

    def _listed_pairs(self, text: str) -> Iterator[tuple[int, int, float]]:
        for match in self._pair.finditer(text):
            span = _trim(text, *match.span())
            if span is None:
                continue
            words = text[span[0] : span[1]].split()
            for at, word in enumerate(words[:-1]):
                if is_given_name(word) and words[at + 1] not in not_names():
                    known = any(map(is_surname, words[at + 1 :]))
                    if word in cues()["places"] and not known:
                        continue
                    yield *span, 0.6 if known else 0.5
                    break
        for match in self._joined.finditer(text):
            pair = (match[2], match[3])
            if any(is_given_name(a) and is_surname(b) for a, b in (pair, pair[::-1])):
                yield *match.span(1), 0.5
        for match in self._swapped.finditer(text):
            if is_surname(match[1]) and is_given_name(match[2]) and not is_given_name(match[1]):
                yield *match.span(), 0.55

    def _lower_case(self, text: str) -> Iterator[tuple[int, int, float]]:
        for match in self._spoken.finditer(text):
            first, second = match[1], match[2]
            if first.title() == first:
                continue
            if second and is_given_name(first.title()) and is_surname(second.title()):
                yield match.start(1), match.end(2), 0.55


def _participant(segment: Segment) -> Iterator[tuple[int, int, float]]:
    """The name of who takes part in a chat, however its words are joined: "jane_doe", "JaneDoe"."""
    text = segment.text or ""
    if segment.role not in _ROLES or not _PARTICIPANT.fullmatch(segment.path):
        return
    words = [word.title() for word in _PART.findall(text)]
    if 1 <= len(words) <= 3 and (is_given_name(words[0]) or is_given_name(words[-1])):
        yield 0, len(text), 0.5


def _trim(text: str, start: int, end: int, *, may_be_place: bool = False) -> tuple[int, int] | None:
    """The span without leading or trailing words that are no names; None if nothing stays.

    ``may_be_place``: a name that is also a place or a word ("Paris", "Grace") stays.
    """
    outer = cues()["both"] if may_be_place else ()
    words = compile_words().finditer(text[start:end])
    spans = [(start + word.start(), start + word.end()) for word in words]

    def is_word(span: tuple[int, int]) -> bool:
        word = text[slice(*span)].rstrip(".")
        return word in not_names() and word not in outer

    lead = ""
    while spans and is_word(spans[0]):
        lead = text[slice(*spans.pop(0))]
    while spans and is_word(spans[-1]):
        last, before = text[slice(*spans[-1])], text[slice(*spans[-2])] if len(spans) > 1 else ""
        if last in surnames() and is_given_name(before):
            break  # "Emily Young"
        spans.pop()
    if len(spans) == 1 and f"{lead} {text[slice(*spans[0])]}".rstrip(".") in cues()["led_places"]:
        return None  # "to San Diego"
    if not spans or all(stop - begin < 3 for begin, stop in spans):
        return None
    return spans[0][0], spans[-1][1]


@cache
def compile_words() -> Any:
    """Runs of anything but white space."""
    return compile_linear(r"\S+")


def _has_listed_word(name: str) -> bool:
    return any(is_given_name(word) or is_surname(word) for word in name.replace("-", " ").split())
