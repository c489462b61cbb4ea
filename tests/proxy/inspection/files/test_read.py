"""Which reader takes a file, and what keeps two readers from taking it for two kinds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.inspection.files import Extract, read_file
from proxy.inspection.files.read import MAX_TEXT_CHARS
from proxy.types import UnscannableReason
from tests.proxy.inspection.files.builders import a_body_part, a_docx, an_xlsx

TEXT = b"Hello there."
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100)


@pytest.mark.parametrize("kind", [None, "text/plain", "text/markdown", "Text/HTML"])
def test_reads_text(kind: str | None) -> None:
    assert read_file(TEXT, kind) == Extract(("Hello there.",))


def test_a_file_without_a_label_is_what_its_bytes_say() -> None:
    assert any("Hello" in text for text in read_file(a_docx("Hello"), None).texts)


def test_a_table_is_read_with_its_headings() -> None:
    extract = read_file(b"name;employee_id\nJane;77812\n", "text/csv")
    assert extract.texts[1] == "name: Jane\nemployee id: 77812"


def test_a_first_row_of_values_is_no_heading() -> None:
    assert len(read_file(b"Jane,536228726\nJoe,536228727\n", "text/csv").texts) == 1


UNREAD = {
    "nobody reads it": (TEXT, "application/octet-stream", "file"),
    "text that is labeled a document": (TEXT, DOCX, "file"),
    "document that is labeled text": (a_docx("x"), "text/plain", "file"),
    "PDF that is labeled text": (b"%PDF-1.4\n", "text/plain", "file"),
    "PDF behind text": (b"hello %PDF-1.4\n", "text/plain", "file"),
    "document behind text": (b"hello " + an_xlsx([1]), None, "file"),
    "RTF": (b"{\\rtf1 4{\\*\\x}111}", "text/plain", "file"),
    "PostScript": (b"%!PS (x) show", "text/plain", "file"),
    "NUL": (b"hello\0there", "text/plain", "file"),
    "UTF-16": ("hello".encode("utf-16"), "text/plain", "file"),
    "old Office": (OLE, DOCX, "file"),
    "encrypted Office": (OLE + "EncryptedPackage".encode("utf-16-le"), DOCX, "encrypted"),
    "too long": (b"a" * (MAX_TEXT_CHARS + 1), "text/plain", "too_long"),
}


@pytest.mark.parametrize(("data", "kind", "reason"), UNREAD.values(), ids=UNREAD.keys())
def test_is_unread_where_bytes_and_label_disagree(data: bytes, kind: str, reason: str) -> None:
    assert read_file(data, kind) == Extract(reason=UnscannableReason(reason))


@given(st.binary(max_size=300), st.sampled_from([None, "text/csv", DOCX, "application/pdf"]))
def test_no_bytes_make_it_raise(data: bytes, kind: str | None) -> None:
    extract = read_file(data, kind)
    assert extract.reason is not None or isinstance(extract.texts, tuple)


DOCUMENT = a_body_part("<w:p><w:r><w:t>Hello there.</w:t></w:r></w:p>")


@given(st.integers(0, len(DOCUMENT) - 1), st.integers(0, 255))
def test_a_changed_document_is_read_or_said_to_be_unread(place: int, value: int) -> None:
    extract = read_file(DOCUMENT[:place] + bytes([value]) + DOCUMENT[place + 1 :], DOCX)
    assert extract.reason is not None or any("Hello there." in text for text in extract.texts)
