"""Server-sent events that hold JSON, in the one way this proxy writes them."""

from __future__ import annotations

from typing import Final

from proxy.canonical import canonical_bytes
from proxy.types import JSONObject

DONE: Final = b"data: [DONE]\n\n"
#: Line ends of Unicode (`str.splitlines`) that JSON leaves as they are.
_LINE_ENDS: Final = "\x85\u2028\u2029"


def event(body: JSONObject) -> bytes:
    """One event."""
    return b"data: " + one_line(body) + b"\n\n"


def one_line(body: JSONObject) -> bytes:
    """``body`` as JSON; what some readers take for a line's end is escaped."""
    data = canonical_bytes(body)
    for mark in _LINE_ENDS:
        data = data.replace(mark.encode(), f"\\u{ord(mark):04x}".encode())
    return data
