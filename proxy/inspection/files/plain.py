"""Plain text and tables as text: strict UTF-8, and nothing that other programs read as code."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from proxy.inspection.files.extract import Extract, Unreadable
from proxy.types import UnscannableReason

#: Texts in which other letters are meant than stand there: RTF, PostScript.
_CODED: Final = ("{\\rtf", "%!")

#: Control characters that no text holds; NUL above all, with which readers stop.
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f]")

#: A cell that looks like one of these is no heading.
_VALUE: Final = re.compile(r"\d{3}|@|://")


def read_plain(data: bytes) -> Extract:
    """A file as text.

    Raises:
        Unreadable: it is not wholly text in UTF-8.
    """
    return Extract((_text_of(data),))


def read_table(data: bytes) -> Extract:
    """A table in text: as it stands, and each value after the heading of its column.

    Raises:
        Unreadable: it is not wholly text in UTF-8, or no table.
    """
    text = _text_of(data)
    first = text.partition("\n")[0]
    delimiter = max(",;\t|", key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter=delimiter))
    except csv.Error:
        raise Unreadable(UnscannableReason.UNDECODABLE) from None
    labeled = "\n".join(labeled_rows(rows))
    return Extract((text, labeled) if labeled else (text,))


def labeled_rows(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """``heading: value`` for each cell below a row of headings: it says what a bare number is.

    Yields:
        One line for each cell that is not empty; nothing where the first row holds values itself.
    """
    headings: Sequence[str] | None = None
    for row in rows:
        if headings is None:
            headings = row if any(cell.strip() for cell in row) else None
            if headings and any(_VALUE.search(cell) for cell in headings):
                return
            continue
        for heading, cell in zip(headings, row, strict=False):
            if heading.strip() and cell.strip():
                yield f"{' '.join(heading.replace('_', ' ').split())}: {cell.strip()}"


def _text_of(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable(UnscannableReason.FILE) from None
    if _CONTROL.search(text) or text.lstrip().startswith(_CODED):
        raise Unreadable(UnscannableReason.FILE)
    return text
