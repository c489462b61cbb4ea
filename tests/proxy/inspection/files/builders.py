"""Makes the files that the tests read: real ones of the libraries people use, and hostile ones."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping

import docx
import openpyxl
from docx.document import Document

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
A = "http://schemas.openxmlformats.org/drawingml/2006/main"


def a_docx(*paragraphs: str, edit: Callable[[Document], object] = lambda _: None) -> bytes:
    """A Word file as python-docx makes it."""
    document = docx.Document()
    for text in paragraphs:
        document.add_paragraph(text)
    edit(document)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def an_xlsx(*rows: list[object]) -> bytes:
    """A workbook as openpyxl makes it."""
    book = openpyxl.Workbook()
    for row in rows:
        book.worksheets[0].append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def a_package(parts: Mapping[str, str | bytes], mode: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP container with these parts."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", mode) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()


def a_body_part(inner: str) -> bytes:
    """A Word file of one part, with ``inner`` as its body."""
    return a_package({"word/document.xml": document_xml(inner)})


def document_xml(inner: str) -> str:
    """The main part of a Word file."""
    return f'<w:document xmlns:w="{W}"><w:body>{inner}</w:body></w:document>'


def with_part(data: bytes, name: str, content: str | bytes) -> bytes:
    """An Office file with a part put in."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts: dict[str, str | bytes] = {one: archive.read(one) for one in archive.namelist()}
    return a_package({**parts, name: content})


FONT = "<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>"
CATALOG = "<</Type/Catalog/Pages 2 0 R>>"


def a_stream(content: str | bytes, more: str = "") -> bytes:
    """A stream object, uncompressed."""
    data = content.encode("latin-1") if isinstance(content, str) else content
    return f"<<{more}/Length {len(data)}>>\nstream\n".encode() + data + b"\nendstream"


def a_pdf(
    content: str | bytes = "",
    *more: str | bytes,
    catalog: str = CATALOG,
    page: str = "",
    resources: str = "",
    trailer: str = "",
) -> bytes:
    """A PDF of one page, with ``content`` as what it draws, or as the stream that does.

    Objects 1 to 4 are catalog, pages, page and content; 5 is the font, ``/F``; ``more`` follow.
    """
    page = f"/Contents 4 0 R/Resources<</Font<</F 5 0 R>>{resources}>>{page}"
    objects: list[str | bytes] = [
        catalog,
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]{page}>>",
        a_stream(content) if isinstance(content, str) else content,
        FONT,
        *more,
    ]
    out, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, value in enumerate(objects, 1):
        offsets.append(len(out))
        data = value.encode("latin-1") if isinstance(value, str) else value
        out += f"{number} 0 obj\n".encode() + data + b"\nendobj\n"
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{offset:010} 00000 n \n".encode() for offset in offsets)
    out += f"trailer\n<</Size {len(objects) + 1}/Root 1 0 R{trailer}>>\n".encode()
    return bytes(out + f"startxref\n{start}\n%%EOF\n".encode())


def shown(text: str, y: int = 700) -> str:
    """What draws a line of text."""
    return f"BT /F 12 Tf 50 {y} Td ({text}) Tj ET\n"
