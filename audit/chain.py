"""The line: how one record stands in the file, and how each line holds the one before.

A line is UTF-8 JSON with its keys in a fixed order. ``prev`` is the SHA-256 of the line before
(without its line feed), and the last member ``sum`` the first 16 hex digits of the SHA-256 over the
bytes before ``,"sum"``. Nothing in verification re-serializes JSON: stored bytes are hashed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Final

from audit.errors import AuditError

VERSION: Final = 1

#: ``prev`` of the first line of a chain.
GENESIS: Final = "0" * 64

#: C2SP tlog-tiles caps an entry at 65,535 bytes.
MAX_LINE_BYTES: Final = 60 * 1024

_SUM_MARK: Final = b',"sum":"'
_SUM_BYTES: Final = len(_SUM_MARK) + 16 + len(b'"}')


class BadLine(AuditError):
    """A stored line is not what was written."""

    code = "bad_line"


@dataclass(frozen=True, slots=True)
class Frame:
    """What every line says of itself, before the record's own members.

    ``sealed`` is the index of the newest checkpoint that the writer knew of (-1: none yet), so
    that each line bears witness to the checkpoints before it.
    """

    kind: str
    id: str
    seq: int
    chain: str
    time: str
    mono_us: int
    sealed: int
    prev: str


def make_line(frame: Frame, members: dict[str, object]) -> bytes:
    """The line of a record, without a line feed.

    Raises:
        AuditError: longer than `MAX_LINE_BYTES`, or a number that JSON does not have.
    """
    head = {
        "v": VERSION,
        "kind": frame.kind,
        "id": frame.id,
        "seq": frame.seq,
        "chain": frame.chain,
        "time": frame.time,
        "mono_us": frame.mono_us,
        "sealed": frame.sealed,
        "prev": frame.prev,
    }
    try:
        text = json.dumps({**head, **members}, separators=(",", ":"), allow_nan=False)
    except ValueError:
        raise AuditError("a record holds a number that JSON does not have") from None
    body = text.encode("ascii")[:-1]
    line = body + _SUM_MARK + hashlib.sha256(body).hexdigest()[:16].encode() + b'"}'
    if len(line) > MAX_LINE_BYTES:
        raise AuditError("a record is too long")
    return line


def digest(line: bytes) -> str:
    """What the next line's ``prev`` must be."""
    return hashlib.sha256(line).hexdigest()


def read_line(line: bytes) -> dict[str, object]:
    """The members of a stored line.

    Raises:
        BadLine: its bytes do not add up to its ``sum``, or it is no record.
    """
    body, tail = line[:-_SUM_BYTES], line[-_SUM_BYTES:]
    expected = _SUM_MARK + hashlib.sha256(body).hexdigest()[:16].encode() + b'"}'
    if not body or tail != expected:
        raise BadLine("the line does not add up to its sum")
    try:
        members = json.loads(line)
    except ValueError:
        members = None
    if not isinstance(members, dict) or members.get("v") != VERSION:
        raise BadLine("not a record of a known version")
    return members
