"""Puts values back where an answer holds their pseudonyms, however it is cut into chunks.

A pseudonym comes back where it stands as a word of its own, letter for letter but for upper and
lower case. Anything else is text of the model's own and is left alone.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

from proxy.egress.nesting import Nesting, escaped
from proxy.egress.placeholders import Entry
from proxy.egress.pseudonyms import parts_of
from proxy.egress.values import fold
from proxy.types import MaskWith

#: Where a word may begin: after no letter or digit, or after one that ends an escape of JSON, such
#: as that of a line break. How often the backslash is doubled does not matter.
_WORD_BEGINS: Final = r"(?:(?<![a-z0-9])|(?<=\\[bfnrt])|(?<=\\u[0-9a-f]{4}))"

#: As many characters as `_WORD_BEGINS` looks back at.
_LOOKS_BACK: Final = 6


class PseudonymRestorer:
    """Restores the pseudonyms of one text, which may come in chunks.

    Attributes:
        num_restored: pseudonyms that were replaced by their values so far.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        made = [entry for entry in entries if entry.by is MaskWith.PSEUDONYM]
        self._values: dict[str, str] = {}
        for entry in made:
            for form, value in parts_of(entry.entity, entry.token, entry.value).items():
                self._values[form.lower()] = value
        self._values |= {entry.token.lower(): entry.value for entry in made}
        self._forms = sorted(self._values)
        self._most = max(map(len, self._forms), default=0)
        longest_first = sorted(self._forms, key=len, reverse=True)
        words = "|".join(map(re.escape, longest_first)) or r"(?!)"
        flags = re.ASCII | re.IGNORECASE
        self._pattern = re.compile(rf"{_WORD_BEGINS}(?:{words})(?![a-z0-9])", flags)
        self._nesting = Nesting()
        self._held = ""
        self._last = ""  # what stands before what is held: a word may go on from it
        self.num_restored = 0

    def feed(self, chunk: str) -> str:
        """What may be shown now that ``chunk`` has come; the beginning of a pseudonym waits."""
        if not self._forms:
            return chunk
        held = self._held + chunk
        return self._show(held, self._begun(held))

    def end(self) -> str:
        """What is left at the end of the text."""
        return self._show(self._held, len(self._held))

    def _begun(self, held: str) -> int:
        """Where the last piece of ``held`` starts that may become a pseudonym, or be one."""
        low = fold(held[-self._most :])  # keeps every character where it is
        before = len(held) - min(self._most, len(held))
        for start in range(len(held) - before):
            tail = low[start:]
            place = bisect_left(self._forms, tail)
            if place < len(self._forms) and self._forms[place].startswith(tail):
                return before + start
        return len(held)

    def _show(self, held: str, until: int) -> str:
        text = self._last + held
        skipped = len(self._last)
        done, until = skipped, until + skipped
        shown: list[str] = []
        for match in self._pattern.finditer(text, skipped):
            if match.start() >= until:
                break
            shown += (self._plain(text[done : match.start()]), self._value(match.group()))
            done = match.end()
        if done < until:
            shown.append(self._plain(text[done:until]))
            done = until
        self._held = text[done:]
        self._last = text[max(done - _LOOKS_BACK, 0) : done]
        return "".join(shown)

    def _plain(self, piece: str) -> str:
        self._nesting.feed(piece)
        return piece

    def _value(self, written: str) -> str:
        depth = self._nesting.depth
        self._nesting.feed(written)
        self.num_restored += 1
        return escaped(self._values[written.lower()], depth)
