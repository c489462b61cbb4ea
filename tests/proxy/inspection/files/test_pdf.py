"""PDF files: all text of them is read, and what could show more leaves them unread."""

from __future__ import annotations

import binascii
import io
import zlib

import pypdf
import pytest
from reportlab.pdfgen.canvas import Canvas

from proxy.inspection.files import Extract, read_file
from proxy.inspection.files.pdf import MAX_CURVES, MAX_PAGES
from proxy.types import UnscannableReason
from tests.proxy.inspection.files.builders import CATALOG, a_pdf, a_stream, shown

CARD = "4111111111111111"
HELLO = shown("Hello there.")


def read(data: bytes) -> Extract:
    return read_file(data, "application/pdf")


def shows_card(extract: Extract) -> bool:
    return any(CARD in text.replace(" ", "") for text in extract.texts)


def test_reads_the_text_of_a_page() -> None:
    extract = read(a_pdf(HELLO))
    assert extract.reason is None
    assert extract.texts == ("Hello there.",)


def inserted(hidden: str) -> bytes:
    """A PDF with something put in behind its last object."""
    data = a_pdf(HELLO)
    place = data.find(b"xref\n0")
    moved = data[:place] + hidden.encode() + data[place:]
    old, new = f"startxref\n{place}", f"startxref\n{place + len(hidden)}"
    return moved.replace(old.encode(), new.encode())


def packed(*values: str, rest: str = "") -> bytes:
    """A stream of objects, which no table of the file lists."""
    head = " ".join(f"{90 + n} {sum(map(len, values[:n]))}" for n in range(len(values))) + " "
    more = f"/Type/ObjStm/N {len(values)}/First {len(head)}"
    return a_stream(head + "".join(values) + rest, more)


def drawn_backwards() -> str:
    places = range(len(CARD) - 1, -1, -1)
    return "".join(f"BT /F 12 Tf {50 + 7 * n} 700 Td ({CARD[n]}) Tj ET\n" for n in places)


INFO = "/Info 6 0 R"
XMP = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'><x:by note='{CARD}'>Hello</x:by></x:xmpmeta>"
FORM = "/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</Font<</F 5 0 R>>>>"
WHERE = {
    "a page": a_pdf(shown(CARD)),
    "in pieces": a_pdf("BT /F 12 Tf 50 700 Td [(4111) -20 (1111) 20 (11111111)] TJ ET"),
    "in octal": a_pdf(shown("".join(f"\\{ord(digit):03o}" for digit in CARD))),
    "in hex": a_pdf(f"BT /F 12 Tf 50 700 Td <{CARD.encode().hex()}> Tj ET"),
    "drawn backwards": a_pdf(drawn_backwards()),
    "off the page": a_pdf(shown(CARD, -900)),
    "white": a_pdf(f"1 1 1 rg {shown(CARD)}"),
    "marked content": a_pdf(f"/Span <</ActualText ({CARD})>> BDC {HELLO} EMC"),
    "a form": a_pdf("/X Do", a_stream(shown(CARD), FORM), resources="/XObject<</X 6 0 R>>"),
    "properties": a_pdf(HELLO, f"<</Author ({CARD})>>", trailer=INFO),
    "a key of the properties": a_pdf(HELLO, f"<</{CARD} (x)>>", trailer=INFO),
    "UTF-16": a_pdf(
        HELLO, f"<</Author <FEFF{CARD.encode('utf-16-be').hex()}>>>", trailer=INFO
    ),
    "metadata": a_pdf(
        HELLO,
        a_stream(XMP, "/Type/Metadata/Subtype/XML"),
        catalog="<</Type/Catalog/Pages 2 0 R/Metadata 6 0 R>>",
    ),
    "a bookmark": a_pdf(
        HELLO, f"<</Title ({CARD})>>", catalog="<</Type/Catalog/Pages 2 0 R/Outlines 6 0 R>>"
    ),
    "a link": a_pdf(
        HELLO, page=f"/Annots[<</Subtype/Link/Rect[0 0 9 9]/A<</S/URI/URI(x:{CARD})>>>>]"
    ),
    "an object that nothing points at": a_pdf(HELLO, f"({CARD})"),
    "a comment between objects": inserted(f"% {CARD}\n"),
    "a comment in an object": a_pdf(HELLO, f"<</X 1 % {CARD}\n>>"),
    "a comment in the trailer": a_pdf(HELLO, trailer=f"\n% {CARD}\n"),
    "a packed object": a_pdf(HELLO, packed(f"({CARD})")),
    "the trailer": a_pdf(HELLO, trailer=f"/X ({CARD})"),
}  # fmt: skip


@pytest.mark.parametrize("data", WHERE.values(), ids=WHERE.keys())
def test_reads_every_place(data: bytes) -> None:
    extract = read(data)
    assert shows_card(extract)
    assert extract.reason is None


def compressed(*filters: str, content: bytes) -> bytes:
    return a_pdf(a_stream(content, f"/Filter[{' '.join(filters)}]"))


def rewritten(change: object = None, **more: object) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(a_pdf(HELLO)))
    if callable(change):
        change(writer)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def updated() -> bytes:
    """A PDF whose text was replaced by an update, which leaves the old one in it."""
    old = a_pdf(shown(CARD))
    start = len(old)
    new = b"4 0 obj\n" + a_stream(HELLO) + b"\nendobj\n"
    xref = f"xref\n4 1\n{start:010} 00000 n \ntrailer\n<</Size 6/Root 1 0 R/Prev "
    prev = old[old.rfind(b"startxref") + 10 :].split()[0]
    place = str(start + len(new)).encode()
    return old + new + xref.encode() + prev + b">>\nstartxref\n" + place + b"\n%%EOF\n"


CURVES = "0 0 m " + "1 1 2 2 3 3 c " * (MAX_CURVES + 1) + "S"
CMAP, TYPE = "begincmap endcmap", "/Type/CMap"
INLINE = "BI /W 1 /H 1 /BPC 8 /CS /G ID x EI\n"


def test_reads_what_is_compressed_twice() -> None:
    letters = binascii.hexlify(zlib.compress(shown(CARD).encode())) + b">"
    assert shows_card(read(compressed("/ASCIIHexDecode", "/FlateDecode", content=letters)))


UNREAD = {
    "comment that is no text": (inserted("%" + "\x07" * 40 + "\n"), "file"),
    "inline image": (a_pdf(INLINE + HELLO), "image"),
    "image": (
        a_pdf(HELLO, a_stream("x", "/Type/XObject/Subtype/Image/Width 1/Height 1")), "image",
    ),
    "image, said elsewhere": (
        a_pdf(HELLO, a_stream("x", "/Type/XObject/Subtype 7 0 R/Width 1/Height 1"), "/Image"),
        "image",
    ),
    "note, said elsewhere": (
        a_pdf(HELLO, "[7 0 R]", "<</Subtype 8 0 R/Rect[0 0 9 9]>>", "/Stamp", page="/Annots 6 0 R"),
        "file",
    ),
    "script, said elsewhere": (a_pdf(HELLO, "<</S 7 0 R>>", "/JavaScript"), "file"),
    "drawn letters": (a_pdf(HELLO + CURVES), "image"),
    "hidden text": (a_pdf(f"3 Tr {HELLO}"), "file"),
    "note with a look of its own": (
        a_pdf(
            HELLO, a_stream("x"), page="/Annots[<</Subtype/Link/AP<</N 6 0 R>>/Rect[0 0 9 9]>>]"
        ),
        "file",
    ),
    "note": (a_pdf(HELLO, page="/Annots[<</Subtype/FreeText/Rect[0 0 9 9]>>]"), "file"),
    "form field": (a_pdf(HELLO, "<</FT/Tx/T(name)/V(x)>>"), "file"),
    "script": (a_pdf(HELLO, "<</S/JavaScript/JS(app.alert)>>"), "file"),
    "attachment": (a_pdf(HELLO, a_stream("x", "/Type/EmbeddedFile")), "file"),
    "stream that nobody knows": (a_pdf(HELLO, a_stream(CARD)), "file"),
    "pattern": (a_pdf(HELLO, a_stream(shown(CARD), "/PatternType 1")), "file"),
    "form that no page places": (a_pdf(HELLO, a_stream(shown(CARD), FORM)), "file"),
    "value behind a value": (a_pdf(HELLO, f"1 ({CARD})"), "file"),
    "value behind a stream": (a_pdf(HELLO, a_stream(CMAP, TYPE) + f" ({CARD})".encode()), "file"),
    "value behind packed ones": (a_pdf(HELLO, packed("1 ", "2", rest=f" ({CARD})")), "file"),
    "binary string": (a_pdf(HELLO, "<" + "9f" * 40 + ">"), "file"),
    "decoder of pictures": (compressed("/JBIG2Decode", content=b"x"), "undecodable"),
    "unknown filter": (compressed("/Crypt", content=b"x"), "undecodable"),
    "broken stream": (compressed("/FlateDecode", content=b"not deflated"), "undecodable"),
    "bomb": (compressed("/FlateDecode", content=zlib.compress(b" " * (40 * 2**20))), "too_long"),
    "update": (updated(), "file"),
    "object that is not listed": (inserted(f"9 0 obj\n({CARD})\nendobj\n"), "file"),
    "bytes behind it": (a_pdf(HELLO) + CARD.encode(), "file"),
    "archive behind it": (a_pdf(HELLO) + b"PK\x03\x04", "file"),
    "encrypted": (rewritten(lambda writer: writer.encrypt("secret")), "encrypted"),
    "many pages": (
        rewritten(lambda writer: [writer.add_blank_page(9, 9) for _ in range(MAX_PAGES)]),
        "too_long",
    ),
    "cut": (a_pdf(HELLO)[:-30], "undecodable"),
    "nothing": (b"%PDF-1.4\n", "undecodable"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "reason"), UNREAD.values(), ids=UNREAD.keys())
def test_what_could_show_more_leaves_the_file_unread(data: bytes, reason: str) -> None:
    assert read(data).reason is UnscannableReason(reason)


FONTS = {
    "that draws its letters": "<</Type/Font/Subtype/Type3/CharProcs<<>>/Encoding<<>>>>",
    "with codes of its own": "<</Type/Font/Subtype/Type0/BaseFont/X/Encoding/Identity-H>>",
    "with names of its own": "<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding"
    "<</BaseEncoding/WinAnsiEncoding/Differences[52/g12]>>>>",
    "said elsewhere": "<</Type/Font/Subtype 8 0 R/BaseFont/X>>",
    "of symbols": "<</Type/Font/Subtype/Type1/BaseFont/Symbol>>",
    "embedded, without an encoding": "<</Type/Font/Subtype/TrueType/BaseFont/Arial"
    "/FontDescriptor<<>>>>",
}


@pytest.mark.parametrize("font", FONTS.values(), ids=FONTS.keys())
def test_a_font_whose_letters_nobody_can_tell_leaves_the_file_unread(font: str) -> None:
    data = a_pdf(
        f"/X Do {HELLO}",
        font,
        a_stream(f"BT /G 12 Tf ({CARD}) Tj ET", FORM.replace("/F 5", "/G 6")),
        "/Type3",
        resources="/XObject<</X 7 0 R>>",
    )
    assert read(data).reason is UnscannableReason.UNDECODABLE


def test_reads_a_file_whose_objects_are_packed() -> None:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(a_pdf(shown(CARD))))
    writer.add_metadata({"/Author": "Jane Doe"})
    out = io.BytesIO()
    writer.write(out)
    extract = read(out.getvalue())
    assert shows_card(extract)
    assert "Jane Doe" in extract.texts[-1]
    assert extract.reason is None


def test_text_beside_a_picture_is_inspected_all_the_same() -> None:
    assert shows_card(read(a_pdf(INLINE + shown(CARD))))


def test_reads_what_a_common_library_writes() -> None:
    out = io.BytesIO()
    canvas = Canvas(out)
    canvas.drawString(72, 700, f"Card {CARD}")
    canvas.showPage()
    canvas.save()
    extract = read(out.getvalue())
    assert shows_card(extract)
    assert extract.reason is None


@pytest.mark.parametrize(
    "junk", [b"% " * 50_000, b">>stream\n" * 50_000, b"1 " * 50_000, b"<<" * 50_000, b"(" * 50_000]
)
def test_a_hostile_file_is_given_up_at_once(junk: bytes) -> None:
    for data in (b"%PDF-1.4\n" + junk + b"x", inserted(junk.decode()), a_pdf(HELLO, junk)):
        extract = read(data)
        assert extract.reason is not None or junk.startswith(b"%")


def test_a_catalog_says_nothing_of_its_own() -> None:
    assert "/Pages" in CATALOG
    assert read(a_pdf(HELLO, "<</Producer (Skia/PDF)>>", trailer=INFO)).texts == (
        "Hello there.",
        "Skia/PDF",
    )
