"""Every object of a PDF, whatever points at it: its strings, its streams, what it can do."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pypdf
from pypdf.generic import (
    ByteStringObject,
    DictionaryObject,
    IndirectObject,
    NameObject,
    StreamObject,
    TextStringObject,
    read_object,
)

from proxy.inspection.files.extract import Unreadable
from proxy.inspection.files.pdf_members import value_of
from proxy.types import UnscannableReason

MAX_OBJECTS: Final = 20_000
_MAX_DEPTH: Final = 60

_OBJECT: Final = re.compile(rb"(?<!\d)(\d{1,10})[ \t\r\n]+(\d{1,5})[ \t\r\n]+obj\b")
_HEADER: Final = re.compile(rb"%PDF-\d\.\d\s+(?:%[^\r\n]*[\r\n]\s*)*")
_STREAM: Final = re.compile(rb">>\s*stream\r?\n")
_COMMENT: Final = re.compile(rb"%[^\r\n]+")
_PLAIN_COMMENT: Final = re.compile(r"%(?:PDF-\d\.\d|%EOF)?\W*")

#: Odd characters of a comment: more are no mark of a binary file.
_MAX_ODD_CHARS: Final = 16
_TAIL: Final = re.compile(
    rb"\s*(?:%[^\r\n]*[\r\n]\s*)*(?:xref[\d\s nf]+?trailer\s*<<.*>>\s*)?startxref\s+\d+\s+%%EOF\s*",
    re.DOTALL,
)

#: Keys of what is no text of the page, or runs: files, forms, scripts, media.
_REFUSED_KEYS: Final = frozenset({"/EF", "/JS", "/XFA", "/RichMediaContent", "/Sound", "/Movie"})
_REFUSED_TYPES: Final = frozenset(
    {"/Filespec", "/EmbeddedFile", "/Sig", "/RichMedia", "/3D", "/Collection"}
)
_REFUSED_ACTIONS: Final = frozenset(
    "/JavaScript /Launch /SubmitForm /ImportData /Rendition /Sound /Movie /GoToE".split()
)

#: Streams that hold no text, by the key that points at them, or their own (ISO 32000-1).
_PLAIN_STREAMS: Final = frozenset(
    {"/FontFile", "/FontFile2", "/FontFile3", "/ToUnicode", "/CIDSet", "/CIDToGIDMap"}
)

#: Filters that need no program or picture decoder.
_FILTERS: Final = frozenset(
    "/FlateDecode /LZWDecode /ASCII85Decode /ASCIIHexDecode /RunLengthDecode".split()
)

#: Strings that say nothing: dates, languages, names of character collections, page ids of programs.
_PLAIN_STRING: Final = re.compile(
    r"D:\d{4,14}(?:[-+Z]\d{0,2}'?\d{0,2}'?)?|[a-z]{2}(?:-[A-Z]{2})?|Adobe|Identity|UCS|node\d{1,8}"
)

#: A name that could be text.
_TALKING_NAME: Final = re.compile(r"[\s@]|\d{6}")

_MAX_BINARY_STRING: Final = 32


@dataclass
class Survey:
    """What stands in a PDF: filled by `survey`, and by the scan of its pages.

    ``known`` are the streams that hold no text, ``reached`` those whose text was read.
    """

    strings: list[str] = field(default_factory=list, repr=False)
    streams: dict[int, StreamObject] = field(default_factory=dict, repr=False)
    known: set[int] = field(default_factory=set)
    reached: set[int] = field(default_factory=set)
    reason: UnscannableReason | None = None

    def mark(self, reason: UnscannableReason | None) -> None:
        """Note why the file is not wholly read; the first reason stays."""
        self.reason = self.reason or reason

    def note(self, value: Any, key: str = "", depth: int = 0) -> None:
        """Note the strings in a value, and what it can do; what it points at is not followed."""
        if depth > _MAX_DEPTH:
            raise Unreadable(UnscannableReason.TOO_LONG)
        if isinstance(value, IndirectObject):
            if key in _PLAIN_STREAMS:
                self.known.add(value.idnum)
        elif isinstance(value, DictionaryObject):
            self._note_members(value, depth)
        elif isinstance(value, list):
            if len(value) == 2 and value[0] == "/ICCBased" and isinstance(value[1], IndirectObject):
                self.known.add(value[1].idnum)
            for member in value:
                self.note(member, key, depth + 1)
        elif isinstance(value, NameObject):
            if _TALKING_NAME.search(value):
                self.strings.append(value.lstrip("/"))
        elif isinstance(value, TextStringObject | ByteStringObject):
            self._note_string(value)

    def _note_members(self, members: DictionaryObject, depth: int) -> None:
        refused = (
            _REFUSED_KEYS & set(members)
            or str(value_of(members, "/Type")) in _REFUSED_TYPES
            or str(value_of(members, "/S")) in _REFUSED_ACTIONS
            or value_of(members, "/PatternType") == 1
            or (value_of(members, "/Fields") and "/DA" in members)
        )
        if refused or value_of(members, "/FT") is not None:
            self.mark(UnscannableReason.FILE)
        if value_of(members, "/Subtype") == "/Image":
            self.mark(UnscannableReason.IMAGE)
        for name, member in members.items():
            if name == "/ID" and isinstance(member, list):
                continue
            if _TALKING_NAME.search(name):
                self.strings.append(name.lstrip("/"))
            self.note(member, name, depth + 1)

    def _note_string(self, value: TextStringObject | ByteStringObject) -> None:
        text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        if not text.isprintable() and not all(c.isprintable() or c.isspace() for c in text):
            if len(text) > _MAX_BINARY_STRING:
                self.mark(UnscannableReason.FILE)
        elif text.strip() and not _PLAIN_STRING.fullmatch(text):
            self.strings.append(text)


def survey(reader: pypdf.PdfReader) -> Survey:
    """Look at every object of a file.

    Raises:
        Unreadable: too many of them, or an encoding that nobody here decodes.
    """
    found = Survey()
    numbers = list(_numbers(reader))
    if len(numbers) > MAX_OBJECTS:
        raise Unreadable(UnscannableReason.TOO_LONG)
    found.note(DictionaryObject({k: v for k, v in reader.trailer.items() if k != "/ID"}))
    for number, generation in numbers:
        value = reader.get_object(IndirectObject(number, generation, reader))
        found.note(value)
        if isinstance(value, StreamObject):
            found.streams[number] = value
            if not _filters_of(value) <= _FILTERS and value_of(value, "/Subtype") != "/Image":
                raise Unreadable(UnscannableReason.UNDECODABLE)
            if value_of(value, "/Type") == "/ObjStm":
                _note_packed(value, reader, found)
            if _holds_no_text(value):
                found.known.add(number)
    return found


def _note_packed(stream: StreamObject, reader: pypdf.PdfReader, found: Survey) -> None:
    """Note every object that is packed into a stream, listed or not (ISO 32000-1, 7.5.7)."""
    data, first = stream.get_data(), int(value_of(stream, "/First"))
    places = [int(number) for number in data[:first].split()[1::2]]
    if len(places) != value_of(stream, "/N") or places != sorted(places) or places[:1] != [0]:
        raise Unreadable(UnscannableReason.FILE)
    for start, end in zip(places, [*places[1:], len(data)], strict=True):
        body = io.BytesIO(data[first + start : first + end].lstrip())
        found.note(read_object(body, reader))
        if body.read().strip():
            raise Unreadable(UnscannableReason.FILE)


def comments(data: bytes) -> Iterator[str]:
    """The comments of a file, which no reader shows and which leave all the same.

    Raises:
        Unreadable: one of them is no text.
    """
    for match in _COMMENT.finditer(_without_streams(data)):
        text = match.group().decode("latin-1")
        plain = "".join(char for char in text if " " <= char <= "~")
        if len(text) - len(plain) > _MAX_ODD_CHARS:
            raise Unreadable(UnscannableReason.FILE)
        if not _PLAIN_COMMENT.fullmatch(plain):
            yield plain.lstrip("% ")


def _without_streams(data: bytes) -> bytes:
    kept, done = [], 0
    for match in _STREAM.finditer(data):
        if match.start() >= done:
            kept.append(data[done : match.start()])
            end = data.find(b"endstream", match.end())
            done = end if end >= 0 else len(data)
    return b"".join((*kept, data[done:]))


def check_every_byte_belongs(data: bytes, reader: pypdf.PdfReader) -> None:
    """Refuse what another reader could find: earlier versions, hidden objects, bytes between them.

    Comments may stand between objects; `comments` reads them.

    Raises:
        Unreadable: there is some of it.
    """
    is_linear = b"/Linearized" in data[:1024]
    offsets = {
        (number, generation): offset
        for generation, entries in reader.xref.items()
        for number, offset in entries.items()
    }
    starts = list(_OBJECT.finditer(data))
    once = data.count(b"startxref") == 1 + is_linear and b"/XRefStm" not in data
    if not once or not starts or not _HEADER.fullmatch(data[: starts[0].start()]):
        raise Unreadable(UnscannableReason.FILE)
    if any(offsets.get((int(m[1]), int(m[2]))) != m.start() for m in starts):
        raise Unreadable(UnscannableReason.FILE)
    ends = [match.start() for match in starts[1:]] + [len(data)]
    for match, end in zip(starts, ends, strict=True):
        close = data.rfind(b"endobj", match.start(), end)
        between = data[close + len(b"endobj") : end] if close >= 0 else b"?"
        if _COMMENT.sub(b"", between).strip() and not _TAIL.fullmatch(between):
            raise Unreadable(UnscannableReason.FILE)
        if _behind_value(data[match.end() : close], reader):
            raise Unreadable(UnscannableReason.FILE)


def _behind_value(written: bytes, reader: pypdf.PdfReader) -> bytes:
    """What stands behind the one value of an object, which readers pass over."""
    body = io.BytesIO(written.lstrip())
    read_object(body, reader)
    return _COMMENT.sub(b"", body.read()).strip()


def _numbers(reader: pypdf.PdfReader) -> Iterator[tuple[int, int]]:
    for generation, entries in reader.xref.items():
        yield from ((number, generation) for number in entries)
    yield from ((number, 0) for number in reader.xref_objStm)


def _filters_of(stream: StreamObject) -> set[str]:
    named = value_of(stream, "/Filter")
    if named is None:
        return set()
    return {str(one) for one in named} if isinstance(named, list) else {str(named)}


def _holds_no_text(stream: StreamObject) -> bool:
    kind = value_of(stream, "/Type")
    return kind in ("/XRef", "/ObjStm", "/CMap") or "/FunctionType" in stream
