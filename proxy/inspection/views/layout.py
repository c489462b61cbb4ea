"""Undoes layouts: spaced or spelled digits, digit words, "dot" and "at", split literals, markup.

A value is put together only where its form is a sign of splitting (single digits, equal groups
that pass a checksum), so that tables of numbers do not turn into cards.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from proxy.inspection.linear import compile_linear
from proxy.inspection.views.view import View, substitute

_MARKUP: Final = re.compile(
    r"(?<=[\w@.])(?:\*{1,3}|`{1,3}|~~|<!--.{0,80}?-->|</?[A-Za-z][^<>]{0,80}>)+(?=[\w@.])"
)
_LITERALS: Final = re.compile(
    r"""(?<=[\w@.-])(["'`])[ \t]*(?:\+|\.|&|\|\||\\)?\s{0,8}\1(?=[\w@.-])"""
)
_LITERAL_LIST: Final = re.compile(r"""(?<=\d)(["'`])\s{0,4},\s{0,4}\1(?=\d)""")

_AT_WORD: Final = r"(?:[(\[{<]\s?at\s?[)\]}>]|\bat\b)"
_DOT_WORD: Final = (
    r"(?:[(\[{<]\s?(?:dot|punto|point|punkt)\s?[)\]}>]|\b(?:dot|punto|point|punkt)\b)"
)
_ATOM: Final = r"[A-Za-z0-9_+-]{1,64}"
_DOT: Final = rf"(?:\s?\.\s?|\s{{0,3}}{_DOT_WORD}\s{{0,3}})"
_SPOKEN: Final = re.compile(
    rf"\b(?P<local>{_ATOM}(?:{_DOT}{_ATOM}){{0,4}})"
    rf"(?P<at>\s{{0,3}}(?:{_AT_WORD}|@)\s{{0,3}})"
    rf"(?P<domain>[A-Za-z0-9-]{{1,63}}(?:{_DOT}[A-Za-z0-9-]{{2,63}}){{1,3}})\b",
    re.I,
)
_HAS_SPOKEN: Final = re.compile(
    r"\bdot\b|\bpunto\b|\bpoint\b|\bpunkt\b|\bat\s?[)\]}>]|\s@|@\s", re.I
)

#: English, Spanish, French and German.
_DIGIT_WORDS: Final = {
    word: digit
    for digit, words in enumerate(
        (
            "zero oh o nought null cero zéro",
            "one uno un une eins",
            "two dos deux zwei",
            "three tres trois drei",
            "four cuatro quatre vier",
            "five cinco cinq fünf",
            "six seis sechs",
            "seven siete sept sieben",
            "eight ocho huit acht",
            "nine nueve neuf neun",
        )
    )
    for word in words.split()
}
_TIMES: Final = {"double": 2, "doble": 2, "triple": 3, "treble": 3}
_WORD: Final = (
    "(?:(?:double|doble|triple|treble) )?(?:"
    + "|".join(sorted(_DIGIT_WORDS, key=len, reverse=True))
    + r"|\d|dash|hyphen|minus)"
)
_DIGITS_IN_WORDS: Final = re.compile(rf"\b{_WORD}(?:[\s,.\-]{{1,3}}{_WORD}){{6,40}}\b", re.I)

_SPACED_LETTERS: Final = re.compile(
    r"(?<!\S)(?:[A-Za-z0-9@._+-](?: |\r?\n)){4,}[A-Za-z0-9@._+-](?![^\s.,;:!?)\]])"
)
_SPLIT_DIGITS: Final = re.compile(
    r"(?<!\d)\d{1,8}(?:[^\w]{1,3}\d{1,8}){2,30}(?!\d)|(?<!\d)\d{1,8}(?:_\d{1,8})+(?!\d)"
)

#: A card number in groups of four that a line break, or the mark of a quoted reply, cuts. Two
#: numbers of eight digits on two lines are left alone: of any such pairs one in ten passes the
#: check.
_WRAPPED_CARD: Final = re.compile(
    r"(?<![\d-])(?:3[47]|2[2-7]|[456]\d)\d\d(?:[ -]\d{4}){0,2}[ -]?\r?\n[ \t]*(?:>[ \t]*){0,3}"
    r"\d{4}(?:[ -]\d{4}){0,2}(?![\d-])"
)

_GLUED: Final = re.compile(
    r"(?<=[A-Za-z_])\d{13,19}(?!\d)|(?<!\d)\d{13,19}(?=[A-Za-z_])"
    r"|(?<=[A-Za-z_])\d{3}-\d{2}-\d{4}(?!\d)|(?<!\d)\d{3}-\d{2}-\d{4}(?=[A-Za-z_])"
    r"|(?<=_)\d{4}[- ]\d{4}[- ]\d{4}[- ]\d{4}(?!\d)|(?<!\d)\d{4}[- ]\d{4}[- ]\d{4}[- ]\d{4}(?=_)"
)

#: What nothing else looks like, glued to a word before or behind: account numbers, whose checksum
#: decides, and keys by their issuers' prefixes (sources in `proxy.inspection.secrets`). The bare
#: prefix sk- is left out: it stands in "task-list".
_GLUED_CODE: Final = re.compile(
    r"(?<=[A-Za-z_])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Z0-9])"
    r"|(?<![A-Za-z0-9])[A-Z]{2}\d{2}[A-Z0-9]{11,30}(?=[a-z_])"
    r"|(?<=\w)(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}|\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}(?=\w)"
    r"|(?<=\w)(?:gh[pousr]_(?=[A-Za-z0-9]{36})|github_pat_(?=\w{60})|gl[a-z]{2,5}-(?=[\w-]{20})"
    r"|sk-(?:proj|svcacct|admin|ant-(?:api|admin)\d\d)-(?=[\w-]{20})|[rs]k_(?:live|test)_(?=\w{16})"
    r"|AIza(?=[\w-]{35})|xox[abeoprs]-(?=[A-Za-z0-9-]{10})|npm_(?=[A-Za-z0-9]{36}))"
)

#: What stands in every match of the patterns that take long over prose, as linear patterns, which
#: look at a text in no time. Looser than those: a gate must never shut before a match.
_ANY_WORD: Final = _WORD.replace("i", "[i\u0131\u0130]").replace("|\\d|", "|\\p{N}|")
_GATES: Final = {
    _DIGITS_IN_WORDS: compile_linear(
        rf"(?i){_ANY_WORD}(?:[^\p{{L}}\p{{N}}]{{1,3}}{_ANY_WORD}){{6}}"
    ),
    _SPLIT_DIGITS: compile_linear(r"\p{N}[^\p{L}\p{N}]{1,3}\p{N}|\p{N}_\p{N}"),
    _GLUED: compile_linear(
        r"\p{N}{13}|\p{N}{3}-\p{N}{2}-\p{N}{4}|\p{N}{4}[- ]\p{N}{4}[- ]\p{N}{4}[- ]\p{N}{4}"
    ),
    _GLUED_CODE: compile_linear(
        r"[A-Z]{2}\p{N}{2}(?: ?[A-Z0-9]{4}){2}|AKIA|ASIA|ABIA|ACCA|gh[pousr]_|github_pat_"
        r"|gl[a-z]{2,5}-|sk-|[rs]k_(?:live|test)_|AIza|xox[abeoprs]-|npm_"
    ),
}

#: Somebody counts: no identifier.
_COUNTING: Final = "012345678901234567890 098765432109876543210"

_GROUPINGS: Final = {(3, 2, 4): "-", (3, 3, 4): "-", (4, 6, 5): "", (4, 6, 4): ""}


def unlayout(view: View) -> View:
    """The text with split values put together."""
    view = substitute(view, _MARKUP, lambda match: "")
    view = substitute(view, _LITERALS, lambda match: "")
    view = substitute(view, _LITERAL_LIST, lambda match: "")
    if _HAS_SPOKEN.search(view.text):
        view = substitute(view, _SPOKEN, _email)
    view = _substitute_gated(view, _DIGITS_IN_WORDS, _from_words)
    view = _substitute_gated(view, _SPLIT_DIGITS, _from_groups)
    view = substitute(view, _WRAPPED_CARD, _unwrapped)
    view = substitute(view, _SPACED_LETTERS, _together)
    view = _substitute_gated(view, _GLUED, lambda match: f" {match.group()} ")
    return _substitute_gated(view, _GLUED_CODE, _apart)


def _substitute_gated(
    view: View, pattern: re.Pattern[str], replace: Callable[[re.Match[str]], str | None]
) -> View:
    return substitute(view, pattern, replace) if may_match(pattern, view.text) else view


def may_match(pattern: re.Pattern[str], text: str) -> bool:
    """Whether a match of ``pattern``, one of those with a gate, may stand in ``text``."""
    gate: Any = _GATES[pattern]
    try:
        return gate.search(text) is not None
    except UnicodeEncodeError:  # half of a surrogate pair, which linear patterns do not read
        return True


def _unwrapped(match: re.Match[str]) -> str | None:
    digits = re.sub(r"\D", "", match.group())
    return digits if len(digits) == 16 and passes_luhn(digits) else None


def _apart(match: re.Match[str]) -> str:
    """A code with room around it; a prefix, whose code goes on behind it, with room before it."""
    code = match.group()
    return f" {code}" if code[-1] in "-_" or code == "AIza" else f" {code} "


def passes_luhn(digits: str) -> bool:
    """Whether the last digit checks the others. Source: ISO/IEC 7812-1, annex B."""
    total = 0
    for place, char in enumerate(reversed(digits)):
        value = int(char) * (1 + place % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0 and len(set(digits)) > 1


def _email(match: re.Match[str]) -> str | None:
    spelled = re.search(_DOT_WORD, match["domain"], re.I) or re.search(r"[(\[{<@]", match["at"])
    if not spelled:
        return None  # "look at example.com" is no address
    local, domain = (re.sub(_DOT, ".", match[part], flags=re.I) for part in ("local", "domain"))
    return f"{local}@{domain}"


def _from_words(match: re.Match[str]) -> str | None:
    text = match.group().lower()
    if text.replace(" ", "").isdigit() or not re.search(r"[a-z]{2}", text):
        return None
    digits = ""
    times = 1
    for word in re.findall(r"[^\W\d]+|\d", text):
        if word in _TIMES:
            times = _TIMES[word]
        elif word.isdigit() or word in _DIGIT_WORDS:
            digits += str(_DIGIT_WORDS.get(word, word)) * times
            times = 1
    return _grouped(digits)


def _together(match: re.Match[str]) -> str | None:
    text = re.sub(r"\s", "", match.group())
    if text in _COUNTING:
        return None
    return _grouped(text) if text.isdigit() else text


def _from_groups(match: re.Match[str]) -> str | None:
    groups = re.findall(r"\d+", match.group())
    separators = re.findall(r"\D+", match.group())
    sizes = tuple(map(len, groups))
    digits = "".join(groups)
    plain = len(set(separators)) == 1 and separators[0] in (" ", "-")
    if len({mark.strip(" \t\r") for mark in separators}) > 1:
        return None
    if set(sizes) == {1}:
        return _grouped(digits) if len(digits) >= 8 and digits not in _COUNTING else None
    if sizes in _GROUPINGS:
        return None if plain else _GROUPINGS[sizes].join(groups)
    equal = len(set(sizes[:-1])) == 1 and sizes[-1] <= sizes[0]
    if equal and 13 <= len(digits) <= 19 and passes_luhn(digits):
        return None if plain and sizes[0] == 4 else digits
    return None


def _grouped(digits: str) -> str:
    """Digits in the form that people write for their number: detectors know that one best."""
    match len(digits):
        case 9:
            return f"{digits[:3]}-{digits[3:5]}-{digits[5:]}"
        case 10:
            return f"{digits[:3]}-{digits[3:6]}-{digits[6:]}"
        case 11 if digits[0] == "1":
            return f"+1 {digits[1:4]}-{digits[4:7]}-{digits[7:]}"
    return digits
