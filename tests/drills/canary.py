"""Planted strings, each unique, and the search for them in whatever a system wrote.

A canary is a word of its own, or a card number. It is looked for as it is, in any case, reversed,
in hex, base64 and percent form, and as its unkeyed MD5, SHA-1 and SHA-256 (hex, base64, raw bytes).
So are the whole texts around canaries by their digests.
"""

from __future__ import annotations

import base64
import hashlib
import random
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass, field

_WORD = re.compile(rb"qz[a-z]{10}", re.IGNORECASE)
_REVERSED = re.compile(rb"[a-z]{10}zq", re.IGNORECASE)
_HEX = re.compile(rb"[0-9a-fA-F]{24,}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{14,}")
_PERCENT = re.compile(rb"(?:%[0-9A-Fa-f]{2}){12,}")
_DIGITS = re.compile(rb"\d(?:[ -]?\d){15,}")
_HASHES = ("md5", "sha1", "sha256")
#: Characters of the base64 of 12 bytes that stay the same wherever in a text they stand.
_STABLE = 14


@dataclass
class Canaries:
    """Makes canaries and finds them again; ``seed`` makes a drill repeatable."""

    seed: int
    planted: set[bytes] = field(default_factory=set)
    texts: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)  # noqa: S311  # no secret

    def word(self) -> str:
        """A word that stands nowhere else."""
        word = "qz" + "".join(self._dice.choices(string.ascii_lowercase, k=10))
        self.planted.add(word.encode())
        return word

    def card(self) -> str:
        """A card number that passes the Luhn check."""
        digits = "4" + "".join(self._dice.choices(string.digits, k=14))
        total = sum(
            int(d) if place % 2 else sum(divmod(2 * int(d), 10)) for place, d in enumerate(digits)
        )
        card = f"{digits}{-total % 10}"
        self.planted.add(card.encode())
        return card

    def text(self, text: str) -> str:
        """Remember a whole text, whose digest must not be written either."""
        self.texts.add(text.encode())
        return text

    def searcher(self) -> Searcher:
        """What finds every canary made so far."""
        return Searcher(self.planted, self.planted | self.texts)


class Searcher:
    """Looks for canaries in bytes, in all their forms at once."""

    def __init__(self, planted: set[bytes], digested: set[bytes]) -> None:
        self._planted = planted
        self._hex = {canary.hex().encode()[:24] for canary in planted}
        self._base64 = {form for canary in planted for form in _base64_forms(canary[:12])}
        digests = [hashlib.new(name, one).digest() for one in digested for name in _HASHES]
        self._raw_digests = {digest[:12] for digest in digests}
        self._hex |= {digest.hex().encode()[:24] for digest in digests}
        self._base64 |= {
            encode(digest)[:_STABLE]
            for digest in digests
            for encode in (base64.b64encode, base64.urlsafe_b64encode)
        }

    def find(self, data: bytes, *, binary: bool = False) -> set[str]:
        """The forms that occur in ``data``; with ``binary`` also raw digests at any byte."""
        found = {f"plain {hit.decode()}" for hit in self._plain(data)}
        found |= {f"encoded {hit!r}" for hit in self._encoded(data)}
        if binary:
            windows = (data[at : at + 12] for at in range(len(data) - 11))
            found |= {f"raw digest {hit.hex()}" for hit in windows if hit in self._raw_digests}
        return found

    def _plain(self, data: bytes) -> Iterator[bytes]:
        for match in _overlapping(_WORD, data):
            if match.lower() in self._planted:
                yield match
        for match in _overlapping(_REVERSED, data):
            if match[::-1].lower() in self._planted:
                yield match
        for run in _DIGITS.findall(data):
            digits = re.sub(rb"\D", b"", run)
            for way in (digits, digits[::-1]):
                yield from (w for w in _windows(way, 16) if w in self._planted)
        for run in _PERCENT.findall(data):
            yield from self._plain(bytes.fromhex(run.replace(b"%", b"").decode()))

    def _encoded(self, data: bytes) -> Iterator[bytes]:
        for run in _HEX.findall(data):
            yield from (w for w in _windows(run.lower(), 24) if w in self._hex)
        for run in _BASE64.findall(data):
            yield from (w for w in _windows(run, _STABLE) if w in self._base64)


def _overlapping(pattern: re.Pattern[bytes], data: bytes) -> Iterator[bytes]:
    """Every match, those that begin within another too."""
    match = pattern.search(data)
    while match is not None:
        yield match.group()
        match = pattern.search(data, match.start() + 1)


def _windows(run: bytes, size: int) -> Iterator[bytes]:
    return (run[at : at + size] for at in range(len(run) - size + 1))


def _base64_forms(canary: bytes) -> Iterator[bytes]:
    """Base64 of ``canary`` at each of the three places that it can have in a group."""
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + canary)
        yield whole[(8 * before + 5) // 6 :][:_STABLE]
