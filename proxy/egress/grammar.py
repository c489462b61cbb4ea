"""Small grammars that know, besides what matches, what could still become a match.

A stream is cut anywhere. What may be shown is what no later character can turn into the beginning
of a match, so a grammar gives two patterns: one for a whole match, and one for a beginning of it
that reaches to the end of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_NAME: Final = re.compile(r"\(\?P<\w+>")


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a grammar.

    ``whole`` matches it, ``begun`` a beginning of it at the end of the text; ``most`` is the
    greatest number of characters it may have.
    """

    whole: str
    begun: str
    most: int


def chars(one_of: str, least: int = 1, most: int = 1) -> Part:
    """``least`` to ``most`` characters of a class, given as the inside of brackets."""
    return Part(f"[{one_of}]{{{least},{most}}}", f"[{one_of}]{{0,{most - 1}}}\\Z", most)


def text(letters: str) -> Part:
    """The very ``letters``."""
    return sequence(chars(re.escape(letter)) for letter in letters)


def sequence(parts: Iterable[Part]) -> Part:
    """One part after the other."""
    given = tuple(parts)
    whole, begun = "", ""
    for part in reversed(given):
        nameless = _NAME.sub("(?:", part.whole)
        begun = f"(?:{part.begun}|{nameless}{begun})" if begun else part.begun
        whole = part.whole + whole
    return Part(whole, begun, sum(part.most for part in given))


def choice(parts: Iterable[Part]) -> Part:
    """Any of the parts; the first that matches is taken."""
    given = tuple(parts)
    return Part(
        f"(?:{'|'.join(part.whole for part in given)})",
        f"(?:{'|'.join(part.begun for part in given)})",
        max(part.most for part in given),
    )


def optional(part: Part) -> Part:
    """The part, or nothing."""
    return Part(f"(?:{part.whole})?", f"(?:{part.begun}|\\Z)", part.most)


def named(name: str, part: Part) -> Part:
    """The part, with its whole match under a name."""
    return Part(f"(?P<{name}>{part.whole})", part.begun, part.most)
