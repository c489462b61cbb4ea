"""Office files: every place of them is read, and what is no text leaves them unread."""

from __future__ import annotations

import io
import struct
import zipfile

import openpyxl
import pytest
from docx.document import Document
from docx.shared import Pt, RGBColor
from openpyxl.comments import Comment

from proxy.inspection.files import Extract, read_file
from proxy.types import UnscannableReason
from tests.proxy.inspection.files.builders import (
    A,
    a_body_part,
    a_docx,
    a_package,
    an_xlsx,
    document_xml,
    with_part,
)

CARD = "4111111111111111"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"


def read(data: bytes, kind: str = DOCX) -> Extract:
    return read_file(data, kind)


def shows_card(extract: Extract) -> bool:
    return any(CARD in text for text in extract.texts)


def in_header(document: Document) -> None:
    document.sections[0].header.paragraphs[0].text = CARD


def in_footer(document: Document) -> None:
    document.sections[0].footer.paragraphs[0].text = CARD


def in_table(document: Document) -> None:
    document.add_table(1, 2).cell(0, 1).text = CARD


def in_comment(document: Document) -> None:
    document.add_comment(document.add_paragraph("Hello").runs, text=CARD, author="x")


def as_author(document: Document) -> None:
    document.core_properties.author = CARD


def hidden(document: Document) -> None:
    document.add_paragraph().add_run(CARD).font.hidden = True


def over_runs(document: Document) -> None:
    paragraph = document.add_paragraph()
    for digit in CARD:
        paragraph.add_run(digit).bold = digit == "4"


def with_hidden_between(document: Document) -> None:
    paragraph = document.add_paragraph()
    for digit in CARD:
        paragraph.add_run(digit)
        paragraph.add_run("xy").font.hidden = True


def with_white_between(document: Document) -> None:
    paragraph = document.add_paragraph()
    for digit in CARD:
        paragraph.add_run(digit)
        paragraph.add_run("xy").font.color.rgb = RGBColor(255, 255, 255)


def with_tiny_between(document: Document) -> None:
    paragraph = document.add_paragraph()
    for digit in CARD:
        paragraph.add_run(digit)
        paragraph.add_run("xy").font.size = Pt(1)


PLACES = {
    place.__name__: place
    for place in (
        in_header, in_footer, in_table, in_comment, as_author, hidden, over_runs,
        with_hidden_between, with_white_between, with_tiny_between,
    )
}  # fmt: skip


@pytest.mark.parametrize("edit", PLACES.values(), ids=PLACES.keys())
def test_reads_every_place_of_a_word_file(edit) -> None:  # type: ignore[no-untyped-def]
    extract = read(a_docx("Hello there.", edit=edit))
    assert shows_card(extract)
    assert extract.reason is None


def run(text: str, properties: str = "") -> str:
    return f"<w:r><w:rPr>{properties}</w:rPr><w:t>{text}</w:t></w:r>"


MARKUP = {
    "deleted text": f"<w:p><w:del><w:r><w:delText>{CARD}</w:delText></w:r></w:del></w:p>",
    "deleted between": "<w:p>"
    + "".join(f"{run(d)}<w:del><w:r><w:delText>9</w:delText></w:r></w:del>" for d in CARD)
    + "</w:p>",
    "inserted between": "<w:p>"
    + "".join(f"{run(d)}<w:ins>{run('9')}</w:ins>" for d in CARD)
    + "</w:p>",
    "field code": f"<w:p><w:r><w:instrText>QUOTE {CARD}</w:instrText></w:r></w:p>",
    "alternative text": f'<w:p><w:drawing><w:docPr descr="{CARD}"/></w:drawing></w:p>',
    "symbols": "<w:p>"
    + "".join(f'<w:r><w:sym w:font="Arial" w:char="F0{ord(d):02X}"/></w:r>' for d in CARD)
    + "</w:p>",
    "comment in the markup": f"<w:p/><!-- {CARD} -->",
    "instruction": f"<w:p/><?x {CARD}?>",
    "unknown element": f"<w:whatever>{CARD}</w:whatever>",
    "unknown attribute": f'<w:whatever w:x="{CARD}"/>',
    "entities": "<w:p>" + run("".join(f"&#{ord(d)};" for d in CARD)) + "</w:p>",
}


@pytest.mark.parametrize("inner", MARKUP.values(), ids=MARKUP.keys())
def test_reads_every_kind_of_markup(inner: str) -> None:
    assert shows_card(read(a_body_part(inner)))


def test_an_empty_word_file_says_nothing_of_anybody() -> None:
    extract = read(a_docx("Hello there."))
    assert extract.reason is None
    (text,) = extract.texts
    assert text.startswith("Hello there.\n")
    assert len(text) < 200


def test_reads_a_slide() -> None:
    slide = f'<a:p xmlns:a="{A}"><a:r><a:t>4111</a:t></a:r><a:r><a:t>{CARD[4:]}</a:t></a:r></a:p>'
    extract = read(a_package({"ppt/slides/slide1.xml": slide}), PPTX)
    assert shows_card(extract)
    assert extract.reason is None


@pytest.mark.parametrize("value", [CARD, int(CARD), float(CARD)], ids=["text", "number", "float"])
def test_reads_the_cells_of_a_sheet_and_says_what_they_are(value: object) -> None:
    extract = read(an_xlsx(["Name", "Card no"], ["Jane", value]), XLSX)
    assert shows_card(extract)
    assert any(f"Card no: {CARD}" in text for text in extract.texts)
    assert extract.reason is None


def test_reads_shared_strings_formulas_and_notes() -> None:
    strings = f"<sst><si><r><t>4111</t></r><r><t>{CARD[4:]}</t></r></si></sst>"
    sheet = (
        '<worksheet><row><c t="s" r="B1"><v>0</v></c><c><f>A1&amp;"x7"</f></c></row></worksheet>'
    )
    extract = read(
        a_package({"xl/worksheets/sheet1.xml": sheet, "xl/sharedStrings.xml": strings}), XLSX
    )
    assert shows_card(extract)
    assert any('A1&"x7"' in text for text in extract.texts)
    book = openpyxl.Workbook()
    book.worksheets[0]["A1"].comment = Comment(CARD, "x")
    out = io.BytesIO()
    book.save(out)
    assert shows_card(read(out.getvalue(), XLSX))


BOMB = "<w:p>" + " " * (20 * 2**20) + "</w:p>"
LAUGHS = f'<!DOCTYPE x [<!ENTITY a "{CARD}">]>' + document_xml("<w:p>&a;</w:p>")
FAR = '<!DOCTYPE x SYSTEM "http://example.com/x.dtd">' + document_xml("<w:p/>")
SHAPE = f'<a:custGeom xmlns:a="{A}"/>'
STYLE = f'<w:styles xmlns:w="{document_xml("")[24:84]}"><w:style><w:vanish/></w:style></w:styles>'


def encrypted() -> bytes:
    data = bytearray(a_docx("Hello"))
    for place in (data.find(b"PK\x03\x04") + 6, data.find(b"PK\x01\x02") + 8):
        data[place] |= 1
    return bytes(data)


def with_bytes_before_a_part() -> bytes:
    data = a_body_part("<w:p/>")
    directory = data.find(b"PK\x01\x02")
    hidden = b"jane.doe@example-mail.com is here"
    moved = bytearray(data[:directory] + hidden + data[directory:])
    struct.pack_into("<I", moved, len(moved) - 6, directory + len(hidden))
    return bytes(moved)


def named_twice() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("word/document.xml", document_xml("<w:p/>"))
        archive.writestr("word/Document.xml", document_xml("<w:p/>"))
    return out.getvalue()


def with_comment() -> bytes:
    out = io.BytesIO(a_body_part("<w:p/>"))
    with zipfile.ZipFile(out, "a") as archive:
        archive.comment = CARD.encode()
    return out.getvalue()


UNREAD = {
    "picture": (with_part(a_docx("x"), "word/media/image1.png", b"\x89PNG"), "image"),
    "macros": (with_part(a_docx("x"), "word/vbaProject.bin", b"\x01"), "file"),
    "embedded": (with_part(a_docx("x"), "word/embeddings/sheet1.xlsx", b"PK"), "file"),
    "other document": (with_part(a_docx("x"), "word/afchunk.mht", b"hello"), "file"),
    "drawn by hand": (a_body_part(SHAPE), "image"),
    "hidden by a style": (
        with_part(a_docx("x"), "word/styles2.xml", "<s><style><vanish/></style></s>"), "file",
    ),
    "bomb": (a_body_part(BOMB), "too_long"),
    "many parts": (a_package({f"x{n}.xml": "<x/>" for n in range(1_001)}), "too_long"),
    "entities of its own": (a_package({"word/document.xml": LAUGHS}), "file"),
    "document type elsewhere": (a_package({"word/document.xml": FAR}), "file"),
    "UTF-16": (
        a_package({"word/document.xml": document_xml("<w:p/>").encode("utf-16")}), "undecodable",
    ),
    "UTF-7": (
        a_package({"a.xml": '<?xml version="1.0" encoding="utf-7"?><a>+ADQ-111</a>'}),
        "undecodable",
    ),
    "no XML": (a_package({"word/document.xml": "hello"}), "undecodable"),
    "broken": (a_docx("x")[:-40], "undecodable"),
    "encrypted part": (encrypted(), "encrypted"),
    "named twice": (named_twice(), "undecodable"),
    "comment of the container": (with_comment(), "file"),
    "bytes behind it": (a_body_part("<w:p/>") + CARD.encode(), "file"),
    "bytes between its parts": (with_bytes_before_a_part(), "file"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "reason"), UNREAD.values(), ids=UNREAD.keys())
def test_what_is_no_text_leaves_the_file_unread(data: bytes, reason: str) -> None:
    assert read(data).reason is UnscannableReason(reason)


def test_text_beside_a_picture_is_inspected_all_the_same() -> None:
    extract = read(with_part(a_docx(CARD), "word/media/image1.png", b"\x89PNG"))
    assert extract.reason is UnscannableReason.IMAGE
    assert shows_card(extract)
