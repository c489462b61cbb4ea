"""The forms of questions and of private matters in languages other than English.

The words stand in ``data/public_questions.yaml``; this module turns each language's into linear
patterns (RE2). The bar is high, since no other rule looks at such a text: one sentence; a word that
asks at its beginning; nobody who speaks of himself or to somebody; no word of a private matter;
plain letters of the one script, so that no disguised word passes.
"""

# Patterns stay whole and hold the signs of other scripts.
# ruff: noqa: RUF001
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import re2

from proxy.inspection.linear import compile_linear
from proxy.inspection.shipped import read_yaml

#: A longer text has room for more than a question.
MAX_CHARS: Final = 240

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
    """The patterns of one language: a whole question, what must not stand in it, and of that the
    words of private matters."""

    whole: Any
    never: Any
    private: Any


def is_public_question(text: str, language: str) -> bool:
    """Whether ``text`` is nothing but one question about the world, in a language of the lists."""
    forms = _forms().get(language)
    if forms is None or len(text) > MAX_CHARS:
        return False
    return bool(forms.whole.match(text)) and not forms.never.search(text)


def speaks_of_private_matters(text: str, language: str) -> bool:
    """Whether a word of a private matter stands in ``text``; so it is in a language of no list."""
    forms = _forms().get(language)
    return forms is None or bool(forms.private.search(text))


@cache
def _forms() -> dict[str, _Forms]:
    return {code: _compiled(words) for code, words in read_yaml("public_questions.yaml").items()}


def _compiled(words: Mapping[str, Any]) -> _Forms:
    script = words["script"]
    allowed = f"[{_LETTERS[script]}\\p{{Nd}}{_PUNCTUATION}]"
    asks = _either(words["asks"])
    private = _either(words["private"])
    never = f"{_either(words['somebody'])}|{private}"
    if script in _DENSE:
        return _Forms(
            compile_linear(rf"(?i)^{allowed}*(?:{asks}){allowed}*{_STOPS}?\s*$"),
            compile_linear(f"(?i)(?:{never})"),
            compile_linear(f"(?i)(?:{private})"),
        )
    edge = r"[^\p{L}\p{N}]"
    # "In welchem ...", "¿En qué ...", "En el año 1900, ¿quién ..."
    lead = rf"(?:{allowed}*¿\s?|[\s\"'„“«]*)(?:\p{{L}}{{1,4}}\s)?"
    return _Forms(
        compile_linear(rf"(?i)^{lead}(?:{asks}){edge}{allowed}*[?？][\"'“”»]?\s*$"),
        compile_linear(rf"(?i)(?:^|{edge})(?:{never})(?:{edge}|$)"),
        compile_linear(rf"(?i)(?:^|{edge})(?:{private})(?:{edge}|$)"),
    )


def _either(words: Sequence[str]) -> str:
    return "|".join(re2.escape(word).replace(r"\*", r"\p{L}*") for word in words)
