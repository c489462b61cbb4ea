"""Undoes Unicode disguises: width, style, invisible characters, look-alikes, foreign digits."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Final

from confusable_homoglyphs.confusables import confusables_data

from proxy.inspection.views.view import Edit, View, apply, substitute

#: Characters without ink that are not of category Cf, Mn or Me.
#: Source: Unicode 15, DerivedCoreProperties.txt, Default_Ignorable_Code_Point; U+2800 is blank too.
_BLANK: Final = frozenset("\u115f\u1160\u17b4\u17b5\u2065\u2800\u3164\uffa0\ufff0\ufff8")

_INVISIBLE_CATEGORIES: Final = frozenset({"Cf", "Mn", "Me"})

#: Letters in boxes and circles that compatibility forms leave alone. Source: Unicode block
#: Enclosed Alphanumeric Supplement.
_ENCLOSED: Final = tuple(range(first, first + 26) for first in (0x1F150, 0x1F170, 0x1F1E6))

#: A row of variation selectors: a glyph has one at most, 256 of them make an invisible alphabet.
_SELECTORS: Final = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{4,}")

_ODD: Final = re.compile(r"[^\t\n\r\x20-\x7e]")

#: A word in which scripts can be mixed: it holds at least one ASCII letter, digit or at sign.
_MIXED_WORD: Final = re.compile(r"\S*[A-Za-z0-9@]\S*")


def fold(view: View) -> View:
    """The text in plain characters."""
    if _ODD.search(view.text) is None:
        return view
    view = substitute(view, _SELECTORS, _numbered)
    edits = []
    for match in _ODD.finditer(view.text):
        plain = _plain(match.group())
        if plain != match.group():
            edits.append(Edit(match.start(), match.end(), plain))
    return _look_alikes(apply(view, edits) if edits else view)


def _numbered(match: re.Match[str]) -> str | None:
    """The text whose bytes a row of variation selectors numbers, without what is not ASCII."""
    bytes_of = (ord(char) - (0xE00F0 if char > "\ufe0f" else 0xFE00) for char in match.group())
    return "".join(chr(byte) for byte in bytes_of if 32 <= byte <= 126) or None


def _look_alikes(view: View) -> View:
    if view.text.isascii():
        return view
    edits = [
        Edit(word.start() + offset, word.start() + offset + 1, twin)
        for word in _MIXED_WORD.finditer(view.text)
        if not word.group().isascii()
        for offset, char in enumerate(word.group())
        if not char.isascii() and (twin := _twin(char)) is not None
    ]
    return apply(view, edits) if edits else view


@cache
def _plain(char: str) -> str:
    """What a character stands for; empty for one without ink."""
    code = ord(char)
    if 0xE0020 <= code <= 0xE007E:  # tags: an invisible copy of ASCII that models do read
        return chr(code - 0xE0000)
    category = unicodedata.category(char)
    if _has_no_ink(code, category) or char in _BLANK:
        return ""
    if category in ("Zs", "Zl", "Zp"):
        return " " if category == "Zs" else "\n"
    if category == "Pd" or char == "\u2212":
        return "-"
    if (digit := unicodedata.digit(char, None)) is not None:
        return str(digit)
    for letters in _ENCLOSED:
        if code in letters:
            return chr(ord("A") + code - letters.start)
    return "." if char == "\u3002" else unicodedata.normalize("NFKC", char)


def _has_no_ink(code: int, category: str) -> bool:
    control = category == "Cc"
    return control or category in _INVISIBLE_CATEGORIES or 0xE0000 <= code <= 0xE0FFF


@cache
def _twin(char: str) -> str | None:
    """The ASCII letter or digit that a character looks like, if its own script is another one."""
    if (
        unicodedata.name(char, "").startswith("LATIN ")
        and unicodedata.normalize("NFD", char) != char
    ):
        return None  # an accented letter is itself
    for twin in confusables_data.get(char, ()):
        text = str(twin["c"])
        if len(text) == 1 and text.isascii() and text.isalnum():
            return text
    return None
