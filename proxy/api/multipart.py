"""`multipart/form-data`, read strictly from bytes in memory; nothing is written to a disk.

It must never echo what it read: an error says what is wrong with the form, not what is in it.

Source: RFC 7578; RFC 2046, section 5.1.1 for boundaries.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from proxy.errors import RequestError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

#: The type of a form, its boundary in RFC 2046's characters but the space.
FORM_TYPE: Final = re.compile(
    rb"""multipart/form-data[ \t]*;[ \t]*(?:charset=utf-8[ \t]*;[ \t]*)?"""
    rb"""boundary=("?)([0-9A-Za-z'()+_,./:=?-]{1,70})\1""",
    re.IGNORECASE,
)
#: Of a form around one file: its parts, and the longest value of a field that is no file.
MAX_PARTS: Final = 16
MAX_FIELD_BYTES: Final = 4096
#: What a part that says nothing of itself is, and the only charset of a value (RFC 7578, 4.4, 5.1).
_PLAIN: Final = re.compile(rb'[^;]*(?:;[ \t]*charset="?utf-8"?[ \t]*)?', re.IGNORECASE)
_MEDIA_TYPE: Final = re.compile(r"[\w.+-]{1,64}/[\w.+-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a form; ``filename`` None: a plain value.

    ``media_type`` is what the part says it is, without parameters; None where it says nothing, or
    nothing that has the form of a type.
    """

    name: str = field(repr=False)
    filename: str | None = field(repr=False)
    content: bytes = field(repr=False)
    media_type: str | None = field(default=None, repr=False)


def read_form(
    body: bytes,
    content_type: bytes,
    *,
    max_parts: int = MAX_PARTS,
    max_field_bytes: int = MAX_FIELD_BYTES,
) -> tuple[Part, ...]:
    """The parts of ``body``, in order.

    Args:
        body: the form.
        content_type: the header that names its boundary.
        max_parts: most parts it may have.
        max_field_bytes: longest value of a field that is no file, in bytes.

    Raises:
        RequestError: ``invalid_form``.
    """
    match = FORM_TYPE.fullmatch(content_type)
    if match is None:
        raise _invalid("its Content-Type names no boundary")
    reader = _Reader(max_parts, max_field_bytes)
    try:
        MultipartParser(match.group(2), reader.callbacks).write(body)
    except FormParserError:
        reader.fault = reader.fault or "it is not well formed"
    if reader.fault is None and not reader.ended:
        reader.fault = "it does not end"
    if reader.fault is not None:
        raise _invalid(reader.fault)
    return tuple(reader.parts)


class _Reader:
    """Collects the parts; a fault ends the reading."""

    def __init__(self, max_parts: int, max_field_bytes: int) -> None:
        self._max_parts, self._max_field_bytes = max_parts, max_field_bytes
        self.parts: list[Part] = []
        self.fault: str | None = None
        self.ended = False
        self._headers: list[tuple[bytes, bytes]] = []
        self._name = self._value = b""
        self._content: list[bytes] = []

    @property
    def callbacks(self) -> MultipartCallbacks:
        """For the parser."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_part_data": self._on_data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) == self._max_parts:
            self._stop(f"it has more than {self._max_parts} parts")
        self._headers, self._content = [], []

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers.append((self._name.lower(), self._value))
        self._name = self._value = b""

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._content.append(data[start:end])

    def _end_part(self) -> None:
        told = [value for name, value in self._headers if name == b"content-disposition"]
        if len(told) != 1:
            self._stop("a part has not exactly one Content-Disposition")
        if any(name == b"content-transfer-encoding" for name, _ in self._headers):
            self._stop("a part has a Content-Transfer-Encoding, which RFC 7578 does away with")
        types = [value for name, value in self._headers if name == b"content-type"]
        if len(types) > 1:
            self._stop("a part has more than one Content-Type")
        kind, options = parse_options_header(told[0])
        if kind != b"form-data" or b"name" not in options:
            self._stop("a part is no form-data with a name")
        filename = options.get(b"filename")
        part = Part(
            self._text(options[b"name"]),
            None if filename is None else self._text(filename),
            b"".join(self._content),
            _media_type(types[0]) if types else None,
        )
        if filename is None and len(part.content) > self._max_field_bytes:
            self._stop(f"a value is longer than {self._max_field_bytes} bytes")
        if filename is None and types and not _PLAIN.fullmatch(types[0]):
            self._stop("a value is not in UTF-8")
        self.parts.append(part)

    def _end(self) -> None:
        self.ended = True

    def _text(self, raw: bytes) -> str:
        """A name as its sender meant it: browsers and clients send UTF-8 (RFC 7578, 5.1).

        What a backslash means they do not agree on, so a name that holds one is none.
        """
        with contextlib.suppress(UnicodeDecodeError):
            text = raw.decode("utf-8")
            if text.isprintable() and "\\" not in text:
                return text
        self._stop("a name is not printable UTF-8 without backslashes")

    def _stop(self, fault: str) -> NoReturn:
        self.fault = fault
        raise FormParserError


def _media_type(told: bytes) -> str | None:
    name = told.partition(b";")[0].strip().decode("latin-1").lower()
    return name if _MEDIA_TYPE.fullmatch(name) else None


def _invalid(fault: str) -> RequestError:
    return RequestError(f"The form cannot be read: {fault}.", code="invalid_form")
