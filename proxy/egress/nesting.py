"""How deep inside JSON strings a place of a text is, told while the text is still coming.

A value that is put back into the arguments of a tool call, or into JSON within them, must be
escaped once for every string it stands in. Text that is no JSON has depth 0.
"""

from __future__ import annotations

import enum
import json
import re
from typing import Final

#: What JSON may hold outside of its strings; any other character shows that a text is none.
_OUTSIDE: Final = frozenset('{}[]:,0123456789+-.eE \t\r\n"truefalsn')

#: What ends a run within a string.
_SIGN: Final = re.compile(r'["\\]')

_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}

#: JSON in deeper strings is not followed: its inner text counts as plain.
MAX_DEPTH: Final = 8


class _State(enum.Enum):
    START = enum.auto()
    PLAIN = enum.auto()
    OUTSIDE = enum.auto()
    STRING = enum.auto()
    ESCAPE = enum.auto()


class Nesting:
    """Follows a text; what stands within a string is passed on in runs, not by character."""

    __slots__ = ("_hex", "_inner", "_num_open", "_room", "_state")

    def __init__(self, room: int = MAX_DEPTH) -> None:
        self._state = _State.START if room else _State.PLAIN
        self._room = room
        self._num_open = 0  # brackets that were opened and not closed yet
        self._hex: str | None = None
        self._inner: Nesting | None = None

    @property
    def depth(self) -> int:
        """In how many strings of JSON the next character stands."""
        return 1 + self._inner.depth if self._inner is not None else 0

    def feed(self, text: str) -> None:
        """Go on over ``text``."""
        place, end = 0, len(text)
        while place < end and self._state is not _State.PLAIN:
            if self._state is _State.STRING:
                place = self._in_string(text, place)
            else:
                self._step(text[place])
                place += 1

    def _in_string(self, text: str, start: int) -> int:
        """Go on to behind the end of the string, or behind the backslash of an escape in it."""
        sign = _SIGN.search(text, start)
        stop = sign.start() if sign else len(text)
        if stop > start:
            self._pass_on(text[start:stop])
        if sign is None:
            return stop
        if sign.group() == '"':
            self._state, self._inner = _State.OUTSIDE, None
        else:
            self._state = _State.ESCAPE
        return stop + 1

    def _step(self, char: str) -> None:
        match self._state:
            case _State.START:
                if char in "{[":
                    self._state, self._num_open = _State.OUTSIDE, 1
                elif not char.isspace():
                    self._state = _State.PLAIN
            case _State.OUTSIDE:
                self._between(char)
            case _:
                self._unescape(char)

    def _between(self, char: str) -> None:
        """A character outside of strings; one that cannot stand there shows that it is no JSON."""
        if char not in _OUTSIDE or (not self._num_open and not char.isspace()):
            self._state = _State.PLAIN
        elif char == '"':
            self._state, self._inner = _State.STRING, Nesting(self._room - 1)
        else:
            self._num_open += (char in "{[") - (char in "}]")

    def _unescape(self, char: str) -> None:
        if self._hex is None and char == "u":
            self._hex = ""
            return
        if self._hex is not None:
            self._hex += char
            if len(self._hex) < 4:
                return
            digits, self._hex = self._hex, None
            try:
                char = chr(int(digits, 16))
            except ValueError:
                char = "?"
        else:
            char = _ESCAPES.get(char, char)
        self._state = _State.STRING
        self._pass_on(char)

    def _pass_on(self, text: str) -> None:
        if self._inner is not None:
            self._inner.feed(text)


def escaped(text: str, depth: int) -> str:
    """``text`` as it is written inside ``depth`` strings of JSON."""
    for _ in range(depth):
        text = json.dumps(text, ensure_ascii=False)[1:-1]
    return text
