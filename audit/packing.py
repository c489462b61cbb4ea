"""Packs the segments that are finished and sealed; the digests are over their lines, not this form.

A segment is packed beside itself, read back and compared before the plain form goes. A crash
between two steps leaves both, of which the plain one counts, and the next run goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from errno import EIO, ENOENT
from pathlib import Path
from typing import Final

from audit.chain import BadLine, read_line
from audit.disk import locked, publish, sync_folder
from audit.replay import WAL, stored_heads
from audit.segments import PACKED, Segment, chain_folders, pack, read_segment, segments_of
from audit.sinks.file import SUFFIX

#: Smaller segments are left as they are: packed, they take as many blocks of a disk.
MIN_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Finished:
    """A segment that nothing is appended to, with its records: ``first`` to before ``end``."""

    segment: Segment
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Packed:
    """How many segments were packed, and their bytes before and after."""

    num_segments: int
    bytes_before: int
    bytes_after: int


def finished_segments(ledger: Path) -> Iterator[Finished]:
    """Every segment that is sealed to its end and that no writer will append to.

    Checkpoints and lines are taken as they are stored: `verify` first where that matters.

    Raises (while it is walked):
        OSError: the ledger cannot be read.
    """
    ends: dict[str, int] = {}
    for head in stored_heads(ledger):
        ends.update({run.chain: run.end for run in head.runs})
    for folder in chain_folders(ledger / WAL):
        segments = segments_of(folder)
        for number, segment in enumerate(segments):
            first = int(segment.stem)
            is_last = number + 1 == len(segments)
            end = _end_of_closed(segment) if is_last else int(segments[number + 1].stem)
            if end is not None and first < end <= ends.get(folder.name, 0):
                yield Finished(segment, first, end)


def pack_ledger(ledger: Path, min_bytes: int = MIN_BYTES) -> Packed:
    """Pack every finished segment of ``ledger`` that is not packed yet.

    Raises:
        OSError: the ledger cannot be read, or a segment not be written; nothing is lost.
    """
    num, before, after = 0, 0, 0
    if not (ledger / WAL).is_dir():
        raise FileNotFoundError(ENOENT, "there is no ledger")
    with locked(ledger / WAL):
        clear_drafts(ledger)
        for finished in finished_segments(ledger):
            path = finished.segment.path
            if finished.segment.suffix == SUFFIX and (size := path.stat().st_size) >= min_bytes:
                num, before = num + 1, before + size
                after += _pack(finished.segment)
    return Packed(num, before, after)


def clear_drafts(ledger: Path) -> None:
    """Remove what a crash left of a segment's new form; under the lock of ``wal``.

    Raises:
        OSError: one of them cannot be removed.
    """
    for folder in (ledger / WAL).iterdir():
        for draft in folder.glob(".[0-9]*") if folder.is_dir() else ():
            draft.unlink(missing_ok=True)


def _pack(segment: Segment) -> int:
    """Put the packed form in the place of the plain one; returns its bytes."""
    packed = segment.as_form(PACKED)
    lines = segment.path.read_bytes()
    packed.path.unlink(missing_ok=True)  # of a run that a crash cut short
    publish(packed.path, pack(lines))
    if read_segment(packed)[1] != lines:
        packed.path.unlink()
        raise OSError(EIO, "a packed segment reads otherwise than it was written")
    segment.path.unlink()
    sync_folder(segment.folder)
    return packed.path.stat().st_size


def _end_of_closed(segment: Segment) -> int | None:
    """The number after the last record of a chain's last segment; None where the chain is open."""
    _, data = read_segment(segment)
    lines = data.split(b"\n")
    if segment.is_pruned:
        return int(segment.stem) + len(lines) - 1
    try:
        is_closed = len(lines) > 1 and not lines[-1] and _is_end(lines[-2])
    except BadLine:
        return None
    return int(segment.stem) + len(lines) - 1 if is_closed else None


def _is_end(line: bytes) -> bool:
    return read_line(line).get("kind") == "chain.closed"
