"""Checkpoints: signed heads of the sealed log, numbered without a gap, each naming the one before.

A checkpoint is a C2SP checkpoint (origin, size, root) with lines of ours: its index, time, epoch,
the digest of the checkpoint before, and the runs of records that it adds to the tree. The tree's
leaves are the stored lines themselves, in the order in which the runs name them.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from audit.note import BadNote

TLOG: Final = "tlog"
HEADS: Final = "heads"
#: ``prev`` of the first checkpoint.
NO_HEAD: Final = "0" * 64

_TEXT: Final = re.compile(
    r"(?P<origin>[^\n]+)\n(?P<size>0|[1-9]\d{0,17})\n(?P<root>[A-Za-z0-9+/]{43}=)\n"
    r"index (?P<index>0|[1-9]\d{0,17})\ntime (?P<time>[0-9TZ:.-]{20,27})\n"
    r"epoch (?P<epoch>0|[1-9]\d{0,9})\nprev (?P<prev>[0-9a-f]{64})\n"
    r"(?P<runs>(?:seal [a-z0-9_]+ \d{1,18} \d{1,18}\n)*)"
)


@dataclass(frozen=True, slots=True)
class Run:
    """Records ``first`` to before ``end`` of a chain."""

    chain: str
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Head:
    """What a checkpoint says."""

    origin: str
    size: int
    root: bytes
    index: int
    time: str
    epoch: int
    prev: str
    runs: tuple[Run, ...]

    def text(self) -> str:
        """The text that is signed."""
        root = base64.b64encode(self.root).decode()
        runs = "".join(f"seal {run.chain} {run.first} {run.end}\n" for run in self.runs)
        return (
            f"{self.origin}\n{self.size}\n{root}\nindex {self.index}\ntime {self.time}\n"
            f"epoch {self.epoch}\nprev {self.prev}\n{runs}"
        )


def read_head(text: str) -> Head:
    """The checkpoint of a signed text.

    Raises:
        BadNote: it has another form.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise BadNote("not a checkpoint of the known form")
    runs = []
    for line in match["runs"].splitlines():
        _, chain, first, end = line.split(" ")
        runs.append(Run(chain, int(first), int(end)))
    head = Head(
        origin=match["origin"],
        size=int(match["size"]),
        root=base64.b64decode(match["root"]),
        index=int(match["index"]),
        time=match["time"],
        epoch=int(match["epoch"]),
        prev=match["prev"],
        runs=tuple(runs),
    )
    if head.text() != text:
        raise BadNote("not a checkpoint of the known form")
    return head


def text_of(note: bytes) -> str:
    """The text of a note, unchecked; for finding the key that must have signed it.

    Raises:
        BadNote: it is no note.
    """
    text, gap, _ = note.decode("utf-8", "replace").rpartition("\n\n")
    if not gap:
        raise BadNote("not a note")
    return f"{text}\n"


def note_digest(note: bytes) -> str:
    """What the next checkpoint's ``prev`` must be."""
    return hashlib.sha256(note).hexdigest()


def head_path(ledger: Path, index: int) -> Path:
    """Where checkpoint ``index`` stands; a thousand share a folder."""
    return ledger / TLOG / HEADS / f"{index // 1000:06d}" / f"{index:09d}"


def pending_path(ledger: Path, chain: str) -> Path:
    """Where the last checkpoint of a chain waits while the chain is being closed."""
    return ledger / TLOG / "closing" / chain


def newest_index(ledger: Path) -> int:
    """Index of the newest checkpoint, -1 where there is none."""
    for shard in sorted(_numbers(ledger / TLOG / HEADS, 6), reverse=True):
        names = _numbers(ledger / TLOG / HEADS / shard, 9)
        if names:
            return int(max(names))
    return -1


def head_indexes(ledger: Path) -> list[int]:
    """The index of every checkpoint that is there, in order."""
    shards = sorted(_numbers(ledger / TLOG / HEADS, 6))
    return sorted(
        int(name) for shard in shards for name in _numbers(ledger / TLOG / HEADS / shard, 9)
    )


def _numbers(folder: Path, width: int) -> list[str]:
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    return [name for name in names if len(name) == width and name.isascii() and name.isdigit()]
