"""From token pieces to text: exact bytes, whole characters, and an end at the first stop string.

Pure: knows no model. It never gives out text that may turn out to belong to a stop string.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from typing import Final

_BYTE_PIECE: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _byte_of_character() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes, reversed.

    Source: `bytes_to_unicode`, openai/gpt-2:src/encoder.py.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTES: Final = _byte_of_character()


def piece_bytes(piece: str, *, byte_level: bool) -> bytes:
    """The bytes that a vocabulary entry stands for.

    Args:
        piece: the entry as the tokenizer spells it (``Ġthe``, ``▁the``, ``<0x0A>``).
        byte_level: whether the tokenizer is a byte-level BPE (GPT-2's kind); else SentencePiece's.
    """
    if byte_level:
        if all(char in _BYTES for char in piece):
            return bytes(_BYTES[char] for char in piece)
        return piece.encode()
    if match := _BYTE_PIECE.fullmatch(piece):
        return bytes([int(match[1], 16)])
    return piece.replace("\u2581", " ").encode()


class Speller:
    """Takes the bytes of token after token, gives out text that is final."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = tuple(stops)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.stopped = False

    def feed(self, data: bytes) -> str:
        """The text that became final with ``data``; sets ``stopped`` at a stop string."""
        return self._release(self._decoder.decode(data))

    def finish(self) -> str:
        """The rest, when the answer ended by itself."""
        rest = self._release(self._decoder.decode(b"", final=True))
        held, self._held = self._held, ""
        return rest + held

    def _release(self, text: str) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        cuts = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if cuts:
            self.stopped, self._held = True, ""
            return text[: min(cuts)]
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        final, self._held = text[: len(text) - keep], text[len(text) - keep :]
        return final


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that begins ``stop``."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
