"""Files and pictures that say a value, small and made by hand: no library, no template."""

from __future__ import annotations

import base64
import io
import struct
import zipfile
import zlib
from typing import Final

#: Digits as 3 by 5 dots, an octal digit a row.
_ROWS: Final = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711",
    "5": "74717", "6": "74757", "7": "71111", "8": "75757", "9": "75717",
}  # fmt: skip
_SCALE: Final = 4

_CONTENT_TYPES: Final = (
    '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/'
    'content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package'
    '.relationships+xml"/><Override PartName="/word/document.xml" ContentType="application/vnd.'
    'openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
)
_RELATIONS: Final = (
    '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/'
    'relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument'
    '/2006/relationships/officeDocument" Target="word/document.xml"/></Relationships>'
)
_DOCUMENT: Final = (
    '<?xml version="1.0"?><w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/'
    '2006/main"><w:body><w:p><w:r><w:t>{}</w:t></w:r></w:p></w:body></w:document>'
)


def data_url(media_type: str, data: bytes) -> str:
    """``data`` as a data: URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def text_file(text: str) -> str:
    """A text file."""
    return data_url("text/plain", text.encode())


def document(text: str) -> str:
    """A DOCX of one paragraph; the same bytes each time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in (
            ("[Content_Types].xml", _CONTENT_TYPES),
            ("_rels/.rels", _RELATIONS),
            ("word/document.xml", _DOCUMENT.format(text)),
        ):
            package.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    return data_url(kind, buffer.getvalue())


def picture(digits: str, note: str = "") -> str:
    """A PNG that shows ``digits``, with ``note`` in its header."""
    shown = [char for char in digits if char in _ROWS] or ["0"]
    rows = []
    for row in range(5):
        bits = "".join(f"{int(_ROWS[char][row]):03b}0" for char in shown)
        line = b"\0" + bytes(0 if bit == "1" else 255 for bit in bits for _ in range(_SCALE))
        rows += [line] * _SCALE
    blank = b"\0" + b"\xff" * (len(rows[0]) - 1)
    lines = [blank] * _SCALE + rows + [blank] * _SCALE
    head = struct.pack(">IIBBBBB", len(blank) - 1, len(lines), 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", head)]
    if note:
        chunks.append((b"tEXt", b"Comment\0" + note.encode("latin-1", "replace")))
    chunks += [(b"IDAT", zlib.compress(b"".join(lines))), (b"IEND", b"")]
    return data_url("image/png", b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*c) for c in chunks))


def sound(note: str) -> str:
    """A WAV of silence, in base64, with ``note`` in its list of notes."""
    said = note.encode() + b"\0" * (2 - len(note.encode()) % 2)
    comment = b"ICMT" + struct.pack("<I", len(said)) + said
    notes = b"LIST" + struct.pack("<I", 4 + len(comment)) + b"INFO" + comment
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8_000, 8_000, 1, 8)
    data = b"data" + struct.pack("<I", 8) + b"\x80" * 8
    body = b"WAVE" + form + notes + data
    return base64.b64encode(b"RIFF" + struct.pack("<I", len(body)) + body).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check
