"""The segments of a chain as they stand in its folder: plain, packed, or pruned.

A segment is one file under one of three names. ``N.jsonl`` is as it was written; ``N.jsonl.gz`` is
the same lines, packed; in ``N.pruned`` the records whose time was up have given way to their leaf
hashes, 64 hex digits a line, so that the tree still grows to its signed roots. Where two forms
stand side by side (a crash between two steps), the fuller one counts. Digests are over the lines.
"""

from __future__ import annotations

import errno
import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from audit.merkle import leaf_hash
from audit.sinks.file import SEGMENT_BYTES, SUFFIX

PACKED: Final = ".jsonl.gz"
PRUNED: Final = ".pruned"

#: No segment is larger: the last group of records may go beyond `SEGMENT_BYTES`, not double it.
MAX_BYTES: Final = 2 * SEGMENT_BYTES

#: From the fullest form to the barest; a segment only ever goes this way.
_FORMS: Final = (SUFFIX, PACKED, PRUNED)

_REMOVED: Final = re.compile(rb"[0-9a-f]{64}")

#: gzip without a name, a time or any other member that could hold words.
_GZIP_HEAD: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00"


class BadSegment(OSError):
    """A packed segment cannot be unpacked."""

    def __init__(self) -> None:
        super().__init__(errno.EBADMSG, "a packed segment is not what was packed; run verify")


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of the chain in ``folder``; ``stem`` is the number of its first record."""

    folder: Path
    stem: str
    suffix: str

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / f"{self.stem}{self.suffix}"

    @property
    def is_pruned(self) -> bool:
        """Whether hashes stand in it for records."""
        return self.suffix == PRUNED

    def as_form(self, suffix: str) -> Segment:
        """The same segment in another form."""
        return replace(self, suffix=suffix)


def segments_of(folder: Path) -> list[Segment]:
    """The segments of the chain in ``folder``, in order, each in its fullest form.

    Raises:
        OSError: the folder cannot be read.
    """
    found: dict[str, str] = {}
    names = [path.name for path in folder.iterdir()]
    for suffix in _FORMS:
        for name in names:
            if name.endswith(suffix) and not name.startswith("."):
                found.setdefault(name.removesuffix(suffix), suffix)
    return [Segment(folder, stem, found[stem]) for stem in sorted(found)]


def chain_folders(wal: Path) -> list[Path]:
    """The folders of all chains that have a segment."""
    return [path for path in sorted(wal.iterdir()) if path.is_dir() and has_segment(path)]


def has_segment(folder: Path) -> bool:
    """Whether it has one; not where a start took the empty folder away meanwhile."""
    try:
        return bool(segments_of(folder))
    except FileNotFoundError:
        return False


def all_segments(wal: Path) -> list[Segment]:
    """The segments of all chains."""
    return [segment for folder in chain_folders(wal) for segment in segments_of(folder)]


def read_segment(segment: Segment) -> tuple[Segment, bytes]:
    """The bytes of a segment, unpacked, and the form it was found in: it may change meanwhile.

    Raises:
        BadSegment: it cannot be unpacked.
        OSError: it cannot be read.
    """
    for suffix in _FORMS[_FORMS.index(segment.suffix) :]:
        now = segment.as_form(suffix)
        try:
            data = now.path.read_bytes()
        except FileNotFoundError:
            continue
        return now, unpack(data) if suffix == PACKED else data
    raise FileNotFoundError(errno.ENOENT, "a segment is gone")


def pack(lines: bytes) -> bytes:
    """``lines`` in packed form."""
    return gzip.compress(lines, compresslevel=6, mtime=0)


def unpack(data: bytes) -> bytes:
    """The lines of a packed segment; a small file never unpacks to a huge one.

    Raises:
        BadSegment: it is not one whole gzip member of the form of `pack`.
    """
    inflate = zlib.decompressobj(wbits=31)
    try:
        lines = inflate.decompress(data, MAX_BYTES + 1)
    except zlib.error:
        raise BadSegment from None
    is_whole = inflate.eof and not inflate.unused_data and len(lines) <= MAX_BYTES
    if not is_whole or not data.startswith(_GZIP_HEAD):
        raise BadSegment
    return lines


def removed_leaf(line: bytes) -> bytes | None:
    """The leaf hash of a removed record; None where ``line``, of a pruned segment, is a record."""
    return bytes.fromhex(line.decode()) if _REMOVED.fullmatch(line) else None


def chain_records(folder: Path) -> Iterator[tuple[int, bytes, bytes | None]]:
    """Number, line and None for each record of a chain; for a removed one, its leaf hash as third.

    Raises (while it is walked):
        OSError: a segment cannot be read.
    """
    seq = 0
    for segment in segments_of(folder):
        now, data = read_segment(segment)
        for line in data.split(b"\n")[:-1]:
            yield seq, line, removed_leaf(line) if now.is_pruned else None
            seq += 1


def numbered_lines(folder: Path, end: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Number and line of each record of a chain (before record ``end``) that is not removed."""
    for seq, line, removed in chain_records(folder):
        if end is not None and seq >= end:
            return
        if removed is None:
            yield seq, line


def chain_lines(folder: Path) -> Iterator[bytes]:
    """The whole lines of a chain that are not removed."""
    return (line for _, line in numbered_lines(folder))


def chain_leaves(folder: Path) -> list[bytes]:
    """The leaf hashes of a chain's records, the removed ones too."""
    return [removed or leaf_hash(line) for _, line, removed in chain_records(folder)]
