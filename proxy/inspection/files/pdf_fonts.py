"""Tells whether what a PDF's font shows can be told from the codes in the text."""

from __future__ import annotations

from typing import Any, Final

from pypdf.generic import DictionaryObject

from proxy.inspection.files.pdf_members import value_of

#: Encodings whose codes name characters (ISO 32000-1, annex D).
_ENCODINGS: Final = frozenset(
    {"/WinAnsiEncoding", "/MacRomanEncoding", "/StandardEncoding", "/PDFDocEncoding"}
)

#: The standard fonts that hold letters (ISO 32000-1, section 9.6.2.2).
_STANDARD: Final = ("/Helvetica", "/Times", "/Courier", "/Arial")


def is_readable_font(font: Any) -> bool:
    """Whether every code that ``font`` shows has a character that is known.

    A font that draws its letters itself has none, nor has one with codes of its own and no map.
    """
    if not isinstance(font, DictionaryObject) or value_of(font, "/Subtype") == "/Type3":
        return False
    if "/ToUnicode" in font:
        return True
    if value_of(font, "/Subtype") not in ("/Type1", "/TrueType", "/MMType1"):
        return False
    encoding = value_of(font, "/Encoding")
    if isinstance(encoding, DictionaryObject):
        return _names_characters(encoding, font)
    return encoding in _ENCODINGS or (encoding is None and _is_standard(font))


def _names_characters(encoding: DictionaryObject, font: DictionaryObject) -> bool:
    from pypdf._codecs.adobe_glyphs import adobe_glyphs

    base = value_of(encoding, "/BaseEncoding")
    if base not in _ENCODINGS and not (base is None and _is_standard(font)):
        return False
    differences = value_of(encoding, "/Differences") or ()
    names = [entry for entry in differences if isinstance(entry, str)]
    return all(name in adobe_glyphs or name == "/.notdef" for name in names)


def _is_standard(font: DictionaryObject) -> bool:
    embedded = "/FontDescriptor" in font
    return not embedded and str(value_of(font, "/BaseFont")).startswith(_STANDARD)
