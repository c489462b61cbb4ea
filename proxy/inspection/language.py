"""Tells the language of a text, as far as names are concerned: may we trust that we read them?

By script, and for Latin letters by the small words of each language. A short text with no sign of
another language is taken for one of ours: a false "foreign" would pin everything.
"""

from __future__ import annotations

import importlib.util
import re
import runpy
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

#: Languages in Latin letters that are told apart. Source of their words: spaCy's stop-word lists.
LATIN_LANGUAGES: Final = tuple("en es fr de it pt nl pl sv da nb fi ro cs hu tr id".split())

#: The language that a script speaks for. Source: ISO 15924 names as in Unicode character names.
_SCRIPTS: Final = {
    "CYRILLIC": "ru",
    "GREEK": "el",
    "ARABIC": "ar",
    "HEBREW": "he",
    "DEVANAGARI": "hi",
    "BENGALI": "bn",
    "TAMIL": "ta",
    "TELUGU": "te",
    "THAI": "th",
    "HANGUL": "ko",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "CJK": "zh",
    "ARMENIAN": "hy",
    "GEORGIAN": "ka",
}

#: Languages that share the letters of Russian, or most of them. Source of their words: as above.
_CYRILLIC: Final = ("ru", "uk", "bg", "sr", "mk")

#: Letters that Russian does not have; the first are Ukrainian's. Source: CLDR exemplar characters.
_NOT_RUSSIAN: Final = re.compile(r"[^\u0430-\u044f\u0451]")
_UKRAINIAN: Final = frozenset("\u0456\u0457\u0454\u0491")

#: A name has this many letters at least where each letter is a syllable or a word.
_DENSE: Final = frozenset({"ja", "zh", "ko"})

#: The beginning of a text is enough to tell.
_SAMPLE_CHARS: Final = 4_000

_WORD: Final = re.compile(r"[^\W\d_]+")


def foreign_language(text: str, languages: Sequence[str]) -> str | None:
    """The ISO 639-1 code of the language of ``text``, or None where there is no clear sign.

    A sign is needed for any language but the first of ``languages``.
    """
    sample = text[:_SAMPLE_CHARS]
    if len(text) > 2 * _SAMPLE_CHARS:  # and the end: two languages in one text are common
        sample += text[-_SAMPLE_CHARS:]
    if not sample.isascii() and (found := _by_script(sample)) is not None:
        return found
    return _by_words(sample, languages[0] if languages else "en")


def _by_script(text: str) -> str | None:
    letters = [char for char in text if char.isalpha()]
    counts = Counter(_script(char) for char in letters if not char.isascii())
    counts.pop(None, None)
    if not counts:
        return None
    code, _ = counts.most_common(1)[0]
    total = counts.total()
    dense = code in _DENSE
    if total >= (2 if dense else 4) and total >= (0.25 if dense else 0.4) * len(letters):
        if code == "ru":
            return _cyrillic(text)
        return "ja" if code == "zh" and "ja" in counts else code
    return None


def _cyrillic(text: str) -> str:
    """The language of a text in Cyrillic letters; ``und`` where they are those of none we tell."""
    lower = text.lower()
    odd = {char for char in lower if _script(char) == "ru" and _NOT_RUSSIAN.match(char)}
    if odd:
        return "uk" if odd <= _UKRAINIAN else "und"
    words = _WORD.findall(lower)
    hits = {code: sum(word in small_words(code) for word in words) for code in _CYRILLIC}
    return max(_CYRILLIC, key=lambda code: hits[code])


@cache
def _script(char: str) -> str | None:
    name = unicodedata.name(char, "").split(" ", 1)[0].split("-", 1)[0]
    if name == "LATIN" or unicodedata.category(char) == "Lm":
        return None
    if unicodedata.normalize("NFKC", char).isascii():
        return None
    return _SCRIPTS.get(name, "und")


def _by_words(text: str, home: str) -> str | None:
    words = [word.lower() for word in _WORD.findall(text)]
    if len(words) < 4:
        return None
    ours = small_words(home)
    num_ours = sum(word in ours for word in words)
    foreign = [word for word in words if word not in ours and (len(word) > 1 or word > "~")]
    if len(foreign) <= 2 * num_ours / 3:  # nearly every other word is ours: no need to look on
        return None
    told = Counter(foreign)
    hits = {  # each word at most twice: "plus 4 plus 5 plus 6" is not French
        code: sum(min(count, 2) for word, count in told.items() if word in small_words(code))
        for code in LATIN_LANGUAGES
        if code != home
    }
    code = max(hits, key=lambda one: hits[one])
    accented = sum(not word.isascii() and word not in small_words(code) for word in foreign)
    score = hits[code] + accented / 2
    if hits[code] >= 1 and score >= max(1.5, 0.18 * len(words)) and score > 2 * num_ours:
        return code
    return None


@cache
def small_words(code: str) -> frozenset[str]:
    """The words that every text of a language is full of; ``code`` is one of spaCy's."""
    # Loaded as a file: the package of a language takes long to import, its list does not.
    package = importlib.util.find_spec("spacy")
    if package is None or package.origin is None:
        raise ImportError("spaCy is not installed")
    path = Path(package.origin).parent / "lang" / code / "stop_words.py"
    return frozenset(runpy.run_path(str(path))["STOP_WORDS"])
