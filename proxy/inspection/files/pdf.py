"""Reads a PDF: the text of its pages, its properties, notes and links; the rest leaves it unread.

A page can show text that nobody can take out of it: pictures, drawn letters, fonts without a map to
characters, appearances of forms and notes. A file with any of these counts as unread, and what
could be read is inspected all the same. What a font's map says is believed.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pypdf
from pypdf.errors import LimitReachedError
from pypdf.generic import ContentStream, DictionaryObject, StreamObject

from proxy.inspection.files.extract import Extract, Unreadable
from proxy.inspection.files.markup import Part
from proxy.inspection.files.pdf_fonts import is_readable_font
from proxy.inspection.files.pdf_members import value_of
from proxy.inspection.files.pdf_objects import (
    Survey,
    check_every_byte_belongs,
    comments,
    survey,
)
from proxy.types import UnscannableReason

MAX_PAGES: Final = 200

#: More curves or lines than this on a page could be letters; tables and logos have fewer.
MAX_CURVES: Final = 100
MAX_LINES: Final = 2_000

#: A decoded stream, and all work of decoding one.
_MAX_STREAM_BYTES: Final = 16 * 2**20

#: Text in these modes is not shown, or is a shape to cut with (ISO 32000-1, table 106).
_UNSHOWN_MODES: Final = frozenset({3, 7})

#: Signs that a map of a font failed: replacement, private use, control.
_GARBLED: Final = re.compile("[\ufffd\ue000-\uf8ff\x00-\x08\x0e-\x1f]")

#: The wrapper of XMP (ISO 16684-1, section 7.3.2).
_XMP_WRAPPER: Final = re.compile(r"begin=.{0,5} id=.W5M0MpCehiHzreSzNTczkc9d.|end=.[wr].")


def read_pdf(data: bytes) -> Extract:
    """The texts of a PDF.

    Raises:
        Unreadable: encrypted, too large, or bytes of it belong to nothing.
    """
    limits = pypdf.Configuration(
        jbig2dec_binary=None,  # a program of its own
        zlib_maximum_output_length=_MAX_STREAM_BYTES,
        lzw_maximum_output_length=_MAX_STREAM_BYTES,
        run_length_maximum_output_length=_MAX_STREAM_BYTES,
        array_based_stream_maximum_output_length=_MAX_STREAM_BYTES,
        stream_decoding_work_maximum_length=4 * _MAX_STREAM_BYTES,
    )
    complaints: list[str] = []
    try:
        with pypdf.apply_configuration(limits), _heard(complaints):
            reader = pypdf.PdfReader(io.BytesIO(data), strict=True)
            if reader.is_encrypted:
                raise Unreadable(UnscannableReason.ENCRYPTED)
            check_every_byte_belongs(data, reader)
            extract = _read(reader, tuple(comments(data)))
    except LimitReachedError:
        raise Unreadable(UnscannableReason.TOO_LONG) from None
    if complaints:  # it went on where it could not read
        return Extract(extract.texts, extract.reason or UnscannableReason.UNDECODABLE)
    return extract


def _read(reader: pypdf.PdfReader, remarks: Sequence[str]) -> Extract:
    if len(reader.pages) > MAX_PAGES:
        raise Unreadable(UnscannableReason.TOO_LONG)
    found = survey(reader)
    pages = [_PageScan(found) for _ in reader.pages]
    for scan, page in zip(pages, reader.pages, strict=True):
        scan.page(page)
    shown = "\n".join(page.extract_text() for page in reader.pages)
    laid = "\n".join(_laid_out(page) for page in reader.pages)
    said = "\n".join(dict.fromkeys((*found.strings, *_metadata(found), *remarks)))
    reason = found.reason or _unreached(found)
    if _GARBLED.search(shown):
        reason = reason or UnscannableReason.UNDECODABLE
    same = shown.split() == laid.split()
    texts = (shown, said) if same else (shown, laid, said)
    return Extract(tuple(text for text in texts if text.strip()), reason)


def _laid_out(page: pypdf.PageObject) -> str:
    """The text of a page by where it stands, not by the order it was drawn in."""
    with _unheard():
        text = page.extract_text(extraction_mode="layout", layout_mode_strip_rotated=False)
    return re.sub(r"\s*\n\s*", "\n", re.sub(r"[ \t]{2,}", "  ", text))


class _PageScan:
    """Walks what a page draws: its own content and that of the forms it places."""

    def __init__(self, found: Survey) -> None:
        self._found = found
        self._num_curves = self._num_lines = 0

    def page(self, page: pypdf.PageObject) -> None:
        """Scan a page."""
        found = self._found
        found.reached.update(_ids_of(page.raw_get("/Contents") if "/Contents" in page else None))
        for entry in value_of(page, "/Annots") or ():
            note = entry.get_object()
            if "/AP" in note or value_of(note, "/Subtype") not in ("/Link", "/Popup"):
                found.mark(UnscannableReason.FILE)
        contents = page.get_contents()
        if contents is not None:
            self._content(contents)
        self._resources(value_of(page, "/Resources"))

    def _resources(self, resources: Any) -> None:
        if not isinstance(resources, DictionaryObject):
            return
        for font in (value_of(resources, "/Font") or {}).values():
            if not is_readable_font(font.get_object()):
                self._found.mark(UnscannableReason.UNDECODABLE)
        for reference in (value_of(resources, "/XObject") or {}).values():
            placed = reference.get_object()
            where = placed.indirect_reference
            if value_of(placed, "/Subtype") != "/Form" or where.idnum in self._found.reached:
                continue
            self._found.reached.add(where.idnum)
            self._content(ContentStream(placed, where.pdf))
            self._resources(value_of(placed, "/Resources"))

    def _content(self, stream: ContentStream) -> None:
        for operands, operator in stream.operations:
            self._num_curves += operator in (b"c", b"v", b"y")
            self._num_lines += operator in (b"l", b"re")
            if operator == b"INLINE IMAGE":
                self._found.mark(UnscannableReason.IMAGE)
            elif operator == b"Tr" and operands and int(operands[0]) in _UNSHOWN_MODES:
                self._found.mark(UnscannableReason.FILE)
            elif operator in (b"BDC", b"DP"):
                self._found.note(operands)
        if self._num_curves > MAX_CURVES or self._num_lines > MAX_LINES:
            self._found.mark(UnscannableReason.IMAGE)


def _ids_of(contents: Any) -> Iterator[int]:
    """The numbers of the streams that are a page's content."""
    number = getattr(contents, "idnum", None)
    if number is not None:
        yield number
        contents = contents.get_object()
    if isinstance(contents, list):
        for entry in contents:
            yield from _ids_of(entry)


def _unreached(found: Survey) -> UnscannableReason | None:
    """A stream that nothing here has read, or knows to hold no text."""
    unread = set(found.streams) - found.reached - found.known
    return UnscannableReason.FILE if unread else None


def _metadata(found: Survey) -> Iterator[str]:
    """What the XMP streams say."""
    for number, stream in found.streams.items():
        if value_of(stream, "/Type") == "/Metadata" and isinstance(stream, StreamObject):
            part = Part("xmp")
            part.read(stream.get_data())
            found.known.add(number)
            found.mark(part.reason)
            yield part.text()
            yield from (value for value in part.values if not _XMP_WRAPPER.fullmatch(value.strip()))


@contextlib.contextmanager
def _heard(complaints: list[str]) -> Iterator[None]:
    """Notes that the library complained; its words may hold text and are thrown away."""
    logger = logging.getLogger("pypdf")
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: complaints.append(record.levelname)  # type: ignore[method-assign]
    propagated = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    logger = logging.getLogger("pypdf")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
