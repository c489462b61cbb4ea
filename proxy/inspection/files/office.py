"""Reads Office files (DOCX, PPTX, XLSX): every part of them, whatever it is for.

Body, headers, footers, notes, comments, tracked changes, hidden text, properties, links and the
values of attributes are all text that leaves. Pictures, embedded files, macros and every part that
is no XML leave the file unscannable.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Final

from proxy.inspection.files.extract import Extract
from proxy.inspection.files.markup import Part, Run
from proxy.inspection.files.package import unpack
from proxy.inspection.files.plain import labeled_rows
from proxy.inspection.files.sheets import SheetPart, shared_strings
from proxy.types import UnscannableReason

_MARKUP: Final = frozenset({".xml", ".rels", ".vml"})
_PICTURES: Final = frozenset(
    ".png .jpg .jpeg .gif .bmp .tif .tiff .emf .wmf .wdp .svg .webp .ico".split()
)

#: Parts that libraries put into every file they make, by SHA-256: pictures of an empty page, and
#: settings of a printer. Source: the templates of python-docx 1.2.0 and python-pptx 1.0.2.
_EMPTY_PARTS: Final = frozenset(
    {
        "96367138dc44ce09bf2c8f0f8e49348a1478d2c5c0af69bbc2bbc38b63cdcead",
        "116f9aa8ea038e39ef47ee99a23592ab569cf77feafecd0a30e222369e931d25",
        "d7768f87e07d29634782e448ece1cddd05a52b9499254222b1190bc8f6dc579e",
    }
)

#: Names that parts have; another name is read as text.
_PART_NAME: Final = re.compile(
    r"(?:[A-Za-z_]{2,20}/){0,4}[\[\]A-Za-z_]{0,20}\d{0,3}(?:\.[a-z]{3,5}){1,3}"
)

_SHEET: Final = re.compile(r"xl/worksheets/[^/]+\.xml")
_STRINGS: Final = "xl/sharedStrings.xml"


def read_office(data: bytes) -> Extract:
    """The texts of an Office file: what stands in it, and what its marks and properties say.

    Raises:
        Unreadable: it cannot be opened, or is too large.
    """
    reason: UnscannableReason | None = None
    parts: list[Part] = []
    unpacked = unpack(data)
    strings = shared_strings(unpacked.get(_STRINGS))
    for name, content in unpacked.items():
        if _suffix_of(name) in _MARKUP:
            part = SheetPart(name, strings) if _SHEET.fullmatch(name) else Part(name)
            part.read(content)
            parts.append(part)
            reason = reason or part.reason
        elif not name.endswith("/") or content:
            reason = reason or _reason_of(name, content)
    parts.sort(key=lambda part: (part.name.count("/") > 1, part.name.startswith("docProps")))
    texts = (*_readings(parts), *_tables(parts), _marks(parts, unpacked))
    return Extract(tuple(dict.fromkeys(text for text in texts if text.strip())), reason)


def _readings(parts: Sequence[Part]) -> Iterable[str]:
    """The text with all that is hidden or changed, as it is shown, and as it was before."""
    yield _join(part.text() for part in parts)
    runs = [run for part in parts for run in part.runs]
    if any(run.is_hidden or run.is_deleted for run in runs):
        yield _join(part.text(_is_shown) for part in parts)
    if any(run.is_inserted or run.is_deleted for run in runs):
        yield _join(part.text(lambda run: not run.is_inserted) for part in parts)


def _is_shown(run: Run) -> bool:
    return not run.is_hidden and not run.is_deleted


def _tables(parts: Sequence[Part]) -> Iterable[str]:
    yield from ("\n".join(labeled_rows(p.rows)) for p in parts if isinstance(p, SheetPart))


def _marks(parts: Sequence[Part], names: Iterable[str]) -> str:
    """Values of attributes, comments in the markup, and part names of one's own."""
    values = [value for part in parts for value in part.values]
    values += [name for name in names if not _PART_NAME.fullmatch(name)]
    return "\n".join(dict.fromkeys(values))


def _join(texts: Iterable[str]) -> str:
    return "\n".join(text for text in texts if text.strip())


def _reason_of(name: str, content: bytes) -> UnscannableReason | None:
    if hashlib.sha256(content).hexdigest() in _EMPTY_PARTS:
        return None
    is_picture = _suffix_of(name) in _PICTURES
    return UnscannableReason.IMAGE if is_picture else UnscannableReason.FILE


def _suffix_of(name: str) -> str:
    return "." + name.rpartition(".")[2].lower()
