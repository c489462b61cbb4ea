"""What is forwarded: the sealed records, checkpoint by checkpoint, and the checkpoints themselves.

The ledger is the spool: nothing is written twice, and the cursor is one number. What is sealed
stands for good, so no refused or torn line is ever forwarded; and whoever receives a checkpoint
holds the copy from outside that `verify --not-older-than` asks for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from audit.chain import read_line
from audit.checkpoint import Head, head_path, newest_index, read_head, text_of
from audit.errors import AuditError
from audit.replay import WAL
from audit.segments import Segment, read_segment, removed_leaf, segments_of
from audit.sinks.file import SUFFIX
from audit.stores.address import is_url

#: What goes into the head of a message: whoever can write to the ledger's disk forges no message.
_FORMS: Final = {
    "kind": re.compile(r"[a-z][a-z0-9_.]{0,31}"),
    "id": re.compile(r"[a-z]+_[0-9a-z_]{1,64}"),
    "chain": re.compile(r"c_[0-9a-f]{28}"),
    "time": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"),
}


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to forward: a record's line as it is stored, or a checkpoint as JSON."""

    kind: str
    id: str
    chain: str
    time: str
    text: str


class Source(Protocol):
    """Where sealed records are read from."""

    def newest_index(self) -> int:
        """Index of the newest checkpoint, -1 where there is none."""
        ...

    def head_note(self, index: int) -> bytes:
        """Checkpoint ``index`` as it is stored."""
        ...

    def lines(self, chain: str, first: int, end: int) -> Iterator[bytes | None]:
        """Records ``first`` to before ``end`` of a chain; None for one that retention removed."""
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


class Unreadable(AuditError):
    """A sealed record or checkpoint cannot be read; `verify` says more."""

    code = "unreadable"


def open_source(address: str) -> Source:
    """The source at ``address``: a folder, or ``postgresql://…``."""
    if is_url(address):
        from audit.stores.postgres_source import PostgresSource

        return PostgresSource(address)
    return FileSource(Path(address))


def items_of(source: Source, index: int) -> Iterator[Item]:
    """The records that checkpoint ``index`` seals, in order, then the checkpoint.

    Raises:
        Unreadable: one of them is missing or damaged.
    """
    note = source.head_note(index)
    head = read_head(text_of(note))
    for run in head.runs:
        num_lines = 0
        for line in source.lines(run.chain, run.first, run.end):
            num_lines += 1
            if line is None:
                continue
            yield _item(read_line(line), line.decode("ascii"))
        if num_lines != run.end - run.first:
            raise Unreadable(f"records that checkpoint {index} seals are missing")
    yield _checkpoint(head, note)


def _item(members: dict[str, Any], text: str) -> Item:
    values = {name: str(members.get(name)) for name in _FORMS}
    if not all(_FORMS[name].fullmatch(value) for name, value in values.items()):
        raise Unreadable("a record has not our form; run `ringfence audit verify`")
    return Item(**values, text=text)


def _checkpoint(head: Head, note: bytes) -> Item:
    text = json.dumps(
        {"kind": "checkpoint", "index": head.index, "time": head.time, "note": note.decode()}
    )
    return Item("checkpoint", f"head_{head.index}", "-", head.time, text)


class FileSource:
    """The ledger in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[str, tuple[Path, int, int]] = {}  # segment, its offset, record there
        self._unpacked: tuple[Path, list[bytes | None]] = (folder, [])

    def newest_index(self) -> int:
        """Index of the newest checkpoint, -1 where there is none."""
        return newest_index(self._folder)

    def head_note(self, index: int) -> bytes:
        """Checkpoint ``index`` as it is stored."""
        return head_path(self._folder, index).read_bytes()

    def lines(self, chain: str, first: int, end: int) -> Iterator[bytes | None]:
        """Records ``first`` to before ``end``; goes on where the last call for the chain ended."""
        segments = segments_of(self._folder / WAL / chain)
        starts = [int(segment.stem) for segment in segments]
        for number, segment in enumerate(segments):
            ends_at = starts[number + 1] if number + 1 < len(starts) else end
            if not (starts[number] < end and first < ends_at):
                continue
            if segment.suffix == SUFFIX:
                yield from self._segment(chain, segment.path, first, min(end, ends_at))
            else:
                lines, start = self._lines_of(segment), starts[number]
                yield from lines[max(0, first - start) : min(end, ends_at) - start]

    def close(self) -> None:
        """There is nothing to let go of."""

    def _lines_of(self, segment: Segment) -> list[bytes | None]:
        """The lines of a packed or pruned segment; the last one asked for is kept."""
        if self._unpacked[0] != segment.path:
            lines = read_segment(segment)[1].split(b"\n")[:-1]
            is_removed = removed_leaf if segment.is_pruned else lambda _: None
            kept = [None if is_removed(line) is not None else line for line in lines]
            self._unpacked = (segment.path, kept)
        return self._unpacked[1]

    def _segment(self, chain: str, path: Path, first: int, end: int) -> Iterator[bytes]:
        known, offset, seq = self._places.get(chain, (path, 0, int(path.stem)))
        if known != path or seq > first:
            offset, seq = 0, int(path.stem)
        with path.open("rb") as file:
            file.seek(offset)
            while seq < end and (line := file.readline()).endswith(b"\n"):
                if seq >= first:
                    yield line[:-1]
                seq += 1
            self._places[chain] = (path, file.tell(), seq)
