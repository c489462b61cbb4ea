"""Reads a file with the reader of its kind, which its first bytes name, not its label alone.

Two readers must not be able to take one file for two kinds: a file whose bytes and label disagree,
or that could be two kinds at once, is not read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

from proxy.inspection.files.extract import Extract, Ocr, Unreadable
from proxy.types import UnscannableReason

#: All texts of a file together are at most this long.
MAX_TEXT_CHARS: Final = 250_000

_OFFICE: Final = "application/vnd.openxmlformats-officedocument."

#: The kind that a media type names (IANA).
_KINDS: Final = {
    "text/plain": "text",
    "text/markdown": "text",
    "text/html": "text",
    "text/xml": "text",
    "text/csv": "table",
    "text/tab-separated-values": "table",
    "application/json": "text",
    "application/x-ndjson": "text",
    "application/xml": "text",
    "application/pdf": "pdf",
    f"{_OFFICE}wordprocessingml.document": "office",
    f"{_OFFICE}spreadsheetml.sheet": "office",
    f"{_OFFICE}presentationml.presentation": "office",
}

#: What else could be made of bytes that hold one of these: each starts a kind of its own.
_PDF_MARK: Final = b"%PDF-"
_ZIP_MARKS: Final = (b"PK\x03\x04", b"PK\x05\x06")
_OLE_MARK: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_OLE: Final = "EncryptedPackage".encode("utf-16-le")


def read_file(data: bytes, media_type: str | None, ocr: Ocr = Ocr.OFF) -> Extract:
    """The texts of a file.

    Args:
        data: the file.
        media_type: what the request says it is; None when it does not say.
        ocr: what is done with a picture.

    Returns:
        Its texts, and why it is not wholly read, if so. It never raises: a reader that fails
        leaves its file unscannable.
    """
    try:
        extract = _reader_of(data, media_type, ocr)(data)
    except Unreadable as unreadable:
        return Extract(reason=unreadable.reason)
    except MemoryError:
        return Extract(reason=UnscannableReason.TOO_LONG)
    except Exception:  # noqa: BLE001  (the boundary: a broken file is not read)
        return Extract(reason=UnscannableReason.UNDECODABLE)
    if sum(map(len, extract.texts)) > MAX_TEXT_CHARS:
        return Extract(reason=UnscannableReason.TOO_LONG)
    return extract


def _reader_of(data: bytes, media_type: str | None, ocr: Ocr) -> Callable[[bytes], Extract]:
    # Imported where they are used: most requests carry no file.
    if media_type is not None and media_type.lower().startswith("image/"):
        return _picture_reader(data, ocr)
    kind = _kind_of(data, media_type)
    if kind == "pdf":
        from proxy.inspection.files.pdf import read_pdf

        return read_pdf
    if kind == "office":
        from proxy.inspection.files.office import read_office

        return read_office
    from proxy.inspection.files.plain import read_plain, read_table

    return read_table if kind == "table" else read_plain


def _picture_reader(data: bytes, ocr: Ocr) -> Callable[[bytes], Extract]:
    if ocr is Ocr.OFF or any(mark in data for mark in (_PDF_MARK, *_ZIP_MARKS)):
        raise Unreadable(UnscannableReason.IMAGE)
    from proxy.inspection.files.picture import read_picture

    return functools.partial(read_picture, may_clear=ocr is Ocr.CLEAR)


def _kind_of(data: bytes, media_type: str | None) -> str:
    """The one kind that label and bytes agree on.

    Raises:
        Unreadable: they do not, or nobody here reads that kind.
    """
    if data.startswith(_OLE_MARK):
        encrypted = _ENCRYPTED_OLE in data
        raise Unreadable(UnscannableReason.ENCRYPTED if encrypted else UnscannableReason.FILE)
    named = "text" if media_type is None else _KINDS.get(media_type.lower())
    told = "text"
    if data.startswith(_PDF_MARK):
        told = "pdf"
    elif data.startswith(_ZIP_MARKS):
        told = "office"
    if media_type is None:
        named = told
    is_pdf, is_zip = _PDF_MARK in data, any(mark in data for mark in _ZIP_MARKS)
    agrees = told == ("text" if named == "table" else named)
    is_another = (is_pdf and told != "pdf") or (is_zip and told != "office")
    if named is None or not agrees or is_another:
        raise Unreadable(UnscannableReason.FILE)
    return named
