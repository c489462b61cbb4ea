"""Placeholders and pseudonyms: what stands for a masked value on its way out, and the map back.

A placeholder is keyed with a fresh key for each decision, so that two people never share one, and
nobody can tell from two requests that they speak of the same person. The map is held in memory for
the one request and nowhere else; it must never show in a repr, a log or an exception.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from proxy.egress.pseudonyms import FIXED_WORDS, Draw, made_up, parts_of
from proxy.types import MaskWith

#: What stands for a value of which not even the kind is told.
REDACTED: Final = "[REDACTED]"

#: Tries to make up a value that the request does not hold; then a placeholder has to do.
_TRIES: Final = 20

#: A word of the request with fewer signs may stand within a made-up one.
_MIN_GIVEN: Final = 4

#: Letters of an id: those that nobody mixes up, in one case.
ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"

#: 31^6 ids, nearly a thousand million; each is checked to be new, so this guards against guesses.
ID_CHARS: Final = 6

#: A run of letters and digits, of any script.
WORD: Final = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """A masked value and what stands for it."""

    entity: str
    token: str
    value: str = field(repr=False)
    by: MaskWith = MaskWith.PLACEHOLDER


class Vault:
    """What stands for the values of one request, made as it is needed."""

    __slots__ = ("_by_id", "_by_value", "_key", "_low", "_parts", "_taken", "_used")

    def __init__(self, text: str) -> None:
        """Start with no values.

        Args:
            text: all text of the request; what stands in it is never used to stand for it.
        """
        self._key = secrets.token_bytes(32)
        self._low = text.lower()
        self._taken = frozenset(WORD.findall(self._low))
        self._parts: dict[str, str] = {}  # pseudonyms of first and last names
        self._used: set[str] = set()  # words of pseudonyms
        self._by_value: dict[tuple[str, MaskWith], Entry] = {}
        self._by_id: dict[str, Entry] = {}

    def __repr__(self) -> str:
        return f"Vault({len(self._by_value)})"

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._by_value.values())

    def token_for(
        self, entity: str, value: str, by: MaskWith = MaskWith.PLACEHOLDER, *, glued: bool = False
    ) -> str:
        """What stands for ``value``: one and the same within the request.

        Args:
            entity: what kind of value it is.
            value: the text to be replaced.
            by: how it is replaced. Where nothing can be made up, a placeholder takes the place.
            glued: whether letters or digits stand next to it, between which no pseudonym could be
                told from them again.
        """
        by = MaskWith.PLACEHOLDER if glued and by is MaskWith.PSEUDONYM else by
        if (known := self._by_value.get((value, by))) is not None:
            return known.token
        entry = self._new(entity, value, by)
        self._by_value[value, by] = entry
        return entry.token

    def _new(self, entity: str, value: str, by: MaskWith) -> Entry:
        if by is MaskWith.REDACT:
            return Entry(entity, REDACTED, value, by)
        if by is MaskWith.PSEUDONYM and (token := self._pseudonym(entity, value)) is not None:
            return Entry(entity, token, value, by)
        by = MaskWith.PLACEHOLDER if by is MaskWith.PSEUDONYM else by
        id_ = self._new_id(value)
        self._by_id[id_] = Entry(entity, f"<{entity}_{id_}>", value, by)
        return self._by_id[id_]

    def find(self, entity: str, id_: str) -> Entry | None:
        """The entry a placeholder of the answer stands for, if it is one of this request."""
        entry = self._by_id.get(id_.lower())
        return entry if entry is not None and entry.entity == entity.upper() else None

    def _pseudonym(self, entity: str, value: str) -> str | None:
        """A made-up value of words that stand neither in the request nor in another one.

        A first or last name alone gets that part of the pseudonym of the first who has it.
        """
        if entity == "PERSON" and value in self._parts:
            return self._parts[value]
        for attempt in range(_TRIES):
            seed = b"%d:pseudonym:%s" % (attempt, value.encode("utf-8", "surrogatepass"))
            token = made_up(entity, value, Draw(hmac.digest(self._key, seed, hashlib.sha512)))
            if token is None:
                return None
            low = token.lower()
            named = [word for word in WORD.findall(low) if word.isalpha()]
            words = set(named) - FIXED_WORDS or {low}
            held = low in self._low or any(map(self._holds_given, WORD.findall(low)))
            if not held and len(set(named)) == len(named) and words.isdisjoint(self._used):
                self._used |= words
                for part, stands_for in parts_of(entity, token, value).items():
                    self._parts.setdefault(stands_for, part)
                return token
        return None

    def _holds_given(self, word: str) -> bool:
        """Whether a word of the request stands in one that was made up."""
        ends = range(_MIN_GIVEN, len(word) + 1)
        pieces = (word[start:end] for end in ends for start in range(end - _MIN_GIVEN + 1))
        return word not in FIXED_WORDS and any(piece in self._taken for piece in pieces)

    def _new_id(self, value: str) -> str:
        for attempt in range(1000):
            seed = b"%d:%s" % (attempt, value.encode("utf-8", "surrogatepass"))
            id_ = _spell(hmac.digest(self._key, seed, hashlib.sha256))
            if id_ not in self._by_id and id_ not in self._taken:
                return id_
        raise RuntimeError("no id is left")  # a thousand draws of 31^6, all taken


def _spell(digest: bytes) -> str:
    """An id of a digest, with at least one digit, so that it is no word of a language."""
    number = int.from_bytes(digest[:8])
    letters = []
    for _ in range(ID_CHARS):
        number, letter = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[letter])
    if not any(letter.isdigit() for letter in letters):
        letters[digest[8] % ID_CHARS] = str(2 + digest[9] % 8)
    return "".join(letters)
