"""Finds the words and phrases of a list in a text, whole words only, in one pass whatever its size.

Capitals, accents and the kind of space or hyphen between two words do not matter; other signs do
("AT&T" is not "AT T"). In scripts without spaces each character is a word of its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

#: Scripts that put no space between words. Source: Unicode blocks Thai, Lao, Myanmar, Khmer,
#: Hiragana, Katakana, CJK Unified Ideographs with extension A and compatibility forms.
_UNSPACED: Final = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
#: A word, one character of an unspaced script, or one sign. Spaces, hyphens and underscores part.
_TOKEN: Final = re.compile(
    rf"[^\W_{_UNSPACED}]+|[{_UNSPACED}]|[^\w\s\u00ad\u2010-\u2015\u2212{_UNSPACED}-]"
)

#: Most characters between two words of a phrase.
_MAX_GAP_CHARS: Final = 8

_END: Final = ""


class TermTable(Generic[T]):
    """Terms with what each stands for."""

    def __init__(self, terms: Iterable[tuple[T, str]]) -> None:
        """Take ``terms``; one without a word or sign in it is never found."""
        self._root: dict[str, Any] = {}
        for meaning, term in terms:
            node = self._root
            for token in tokens_of(term):
                node = node.setdefault(token, {})
            if node is not self._root:
                node.setdefault(_END, []).append(meaning)

    def find(self, text: str) -> Iterator[tuple[T, int, int]]:
        """Every (meaning, start, end) in ``text``, also where one lies within another."""
        if not self._root:
            return
        spans = [match.span() for match in _TOKEN.finditer(text)]
        words = [_folded(text[start:end]) for start, end in spans]
        for first, word in enumerate(words):
            node = self._root.get(word)
            last = first
            while node is not None:
                for meaning in node.get(_END, ()):
                    yield meaning, spans[first][0], spans[last][1]
                last += 1
                if last == len(words) or spans[last][0] - spans[last - 1][1] > _MAX_GAP_CHARS:
                    break
                node = node.get(words[last])


def tokens_of(term: str) -> list[str]:
    """The words and signs of a term, folded."""
    return [_folded(token) for token in _TOKEN.findall(term)]


def _folded(word: str) -> str:
    """``word`` without capitals and accents."""
    if word.isascii():
        return word.lower()
    plain = unicodedata.normalize("NFKD", word.casefold())
    return "".join(char for char in plain if not unicodedata.combining(char)) or word
