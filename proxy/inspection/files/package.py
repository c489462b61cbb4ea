"""Opens the ZIP container of an Office file: whole, bounded, and with no second way to read it."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import Final

from proxy.inspection.files.extract import Unreadable
from proxy.types import UnscannableReason

MAX_PARTS: Final = 1_000

#: All parts together, unpacked. An Office file of prose is a tenth of it.
MAX_UNPACKED_BYTES: Final = 16 * 2**20

#: Source: APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.9 and 4.4.4.
_LOCAL_HEADER_BYTES: Final = 30
_MAX_DESCRIPTOR_BYTES: Final = 24
_IS_ENCRYPTED: Final = 0x1 | 0x40 | 0x2000

#: Room for the time stamps that packers write into a part's extra field.
_MAX_EXTRA_BYTES: Final = 64


def unpack(data: bytes) -> dict[str, bytes]:
    """The parts of the package by name, in the order they are listed.

    Raises:
        Unreadable: broken, encrypted, too large, or bytes of it belong to no part.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _check_entries(entries)
            _check_every_byte_belongs(data, archive)
            return {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, NotImplementedError, struct.error, EOFError, OSError):
        raise Unreadable(UnscannableReason.UNDECODABLE) from None


def _check_entries(entries: list[zipfile.ZipInfo]) -> None:
    if any(entry.flag_bits & _IS_ENCRYPTED for entry in entries):
        raise Unreadable(UnscannableReason.ENCRYPTED)
    if len({entry.filename.lower() for entry in entries}) != len(entries):
        raise Unreadable(UnscannableReason.UNDECODABLE)
    too_large = sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES
    if too_large or len(entries) > MAX_PARTS:
        raise Unreadable(UnscannableReason.TOO_LONG)
    if any(entry.comment for entry in entries):
        raise Unreadable(UnscannableReason.FILE)


def _check_every_byte_belongs(data: bytes, archive: zipfile.ZipFile) -> None:
    """What stands between or before the parts, in no part, would be read by nobody here."""
    place = 0
    for entry in sorted(archive.infolist(), key=lambda one: one.header_offset):
        if not 0 <= entry.header_offset - place <= (_MAX_DESCRIPTOR_BYTES if place else 0):
            raise Unreadable(UnscannableReason.FILE)
        name, extra = struct.unpack_from("<HH", data, entry.header_offset + 26)
        start = entry.header_offset + _LOCAL_HEADER_BYTES + name
        if len(data[start : start + extra].rstrip(b"\0")) > _MAX_EXTRA_BYTES:
            raise Unreadable(UnscannableReason.FILE)
        place = start + extra + entry.compress_size
    directory = archive.start_dir
    if archive.comment or not 0 <= directory - place <= _MAX_DESCRIPTOR_BYTES:
        raise Unreadable(UnscannableReason.FILE)
    listed = sum(46 + len(e.filename.encode()) + len(e.extra) for e in archive.infolist())
    if len(data) - directory > listed + 22 or any(
        len(entry.extra) > _MAX_EXTRA_BYTES for entry in archive.infolist()
    ):
        raise Unreadable(UnscannableReason.FILE)
