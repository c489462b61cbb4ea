"""Reads one XML part of an Office file whole: text, attributes, comments; nothing is passed over.

It parses as a stream, takes no document type (so no entity can grow or fetch), and knows which
text is hidden, deleted or inserted, since a value may be split by what is not shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final
from xml.parsers import expat

from proxy.inspection.files.extract import Unreadable
from proxy.inspection.shipped import read_lines
from proxy.types import UnscannableReason

#: What elements stand for in the text (ECMA-376 part 1, sections 17.3.3 and 21.1.2).
_AT_START: Final = {"br": "\n", "cr": "\n", "tab": "\t", "ptab": "\t", "noBreakHyphen": "-"}
_AT_END: Final = {"p": "\n", "tc": "\t", "tr": "\n", "si": "\n"}

#: Elements whose text runs on into that of the next one.
_RUNNING: Final = frozenset({"t", "delText", "instrText", "delInstrText"})

#: Shapes of one's own drawing: they can draw letters.
_DRAWN: Final = frozenset({"custGeom", "polyline", "curve", "ink", "contentPart"})

#: Marks of a run that is not shown.
_HIDING: Final = frozenset({"vanish", "webHidden", "specVanish"})
_OFF: Final = frozenset({"0", "false", "off"})
_MAX_TINY_HALF_POINTS: Final = 4

#: Attribute values that say nothing: sizes, colors, revision marks, relation ids, GUIDs, languages,
#: places of cells, names of parts and of schemas.
_PLAIN_VALUE: Final = re.compile(
    r"-?\d{0,8}(?:\.\d{1,6})?(?:%|[a-z]{2})?|[0-9A-Fa-f]{3,8}|(?:rId|R)[0-9a-f]{1,16}"
    r"|\{?[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}?"
    r"|[a-z]{2,3}(?:-[A-Z][A-Za-z]{1,3}){0,2}"
    r"|\$?[A-Z]{1,3}\$?\d{1,7}(?::\$?[A-Z]{1,3}\$?\d{1,7})?|2147483\d{3}"
    r"|(?:\.\./|/)?(?:[A-Za-z_]{2,20}/){0,3}[A-Za-z_]{2,20}\d{0,3}\.(?:xml|rels|vml)"
    r"|(?:http://schemas\.(?:openxmlformats\.org|microsoft\.com)/|application/vnd\.)"
    r"(?:[A-Za-z/.+-]|\d{1,4}(?!\d)){1,120}"
)

#: Attributes whose numbers are shown or carry data of the author, and are read whatever they hold.
_TELLING: Final = frozenset({"author", "initials", "descr", "title", "alias", "tag", "default"})

#: Elements within each other; a document has a dozen or two.
MAX_DEPTH: Final = 200

NAMESPACE_MARK: Final = " "


@dataclass(frozen=True, slots=True)
class Run:
    """Some text, and whether a reader of the page sees it."""

    text: str = field(repr=False)
    is_hidden: bool = False
    is_deleted: bool = False
    is_inserted: bool = False


class Part:
    """What stands in one XML part; filled by `read`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.runs: list[Run] = []
        self.values: dict[str, None] = {}
        self.reason: UnscannableReason | None = None
        self._open: list[str] = []
        self._data: list[str] = []
        self._run_hidden = False

    def read(self, data: bytes) -> None:
        """Parse the part.

        Raises:
            Unreadable: it is no XML in UTF-8, or has a document type.
        """
        parser = expat.ParserCreate(namespace_separator=NAMESPACE_MARK)
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._data.append
        parser.CommentHandler = self._aside
        parser.ProcessingInstructionHandler = lambda _, text: self._aside(text)
        parser.XmlDeclHandler = _check_declaration
        parser.StartDoctypeDeclHandler = _refuse
        try:
            data.decode("utf-8")
            parser.Parse(data, True)
        except (UnicodeDecodeError, expat.ExpatError):
            raise Unreadable(UnscannableReason.UNDECODABLE) from None

    def text(self, shows: Callable[[Run], bool] = lambda run: True) -> str:
        """The text of the runs that ``shows`` takes."""
        return "".join(run.text for run in self.runs if shows(run))

    def on_text(self, element: str, text: str) -> None:
        """Text of an element that stands for itself: the element's name says what it is."""
        line = f"{element}: {text.strip()}"
        if line not in office_words():
            self._add(f"{line}\n")

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._flush()
        if len(self._open) >= MAX_DEPTH:
            raise Unreadable(UnscannableReason.TOO_LONG)
        local = name.rpartition(NAMESPACE_MARK)[2]
        if local in _DRAWN or (local == "shape" and "path" in attributes):
            self.reason = UnscannableReason.IMAGE
        if local == "r":
            self._run_hidden = False
        self._note_hiding(local, attributes)
        for attribute, value in attributes.items():
            if local != "creationId":  # a random number for each slide
                self._note_value(attribute.rpartition(NAMESPACE_MARK)[2], value)
        self.on_start(local, attributes)
        self._open.append(local)
        if local == "sym":
            self._add(_symbol(attributes))
        elif local in _AT_START and "tabs" not in self._open:
            self._add(_AT_START[local])

    def on_start(self, element: str, attributes: Mapping[str, str]) -> None:
        """An element begins; for parts with a form of their own."""

    def on_end(self, element: str) -> None:
        """An element ends; for parts with a form of their own."""

    def _end(self, _: str) -> None:
        self._flush()
        local = self._open.pop()
        self.on_end(local)
        if local in _AT_END:
            self.runs.append(Run(_AT_END[local]))

    def _flush(self) -> None:
        text = "".join(self._data)
        self._data.clear()
        element = self._open[-1] if self._open else ""
        if element in _RUNNING:
            self._add(text)
        elif text.strip():
            self.on_text(element, text)

    def _add(self, text: str) -> None:
        if text:
            deleted = "del" in self._open or "moveFrom" in self._open
            inserted = "ins" in self._open or "moveTo" in self._open
            self.runs.append(Run(text, self._run_hidden, deleted, inserted))

    def _aside(self, text: str) -> None:
        self._flush()
        if text.strip():
            self.values[text] = None

    def _note_hiding(self, element: str, attributes: Mapping[str, str]) -> None:
        value = next((v for k, v in attributes.items() if k.endswith(f"{NAMESPACE_MARK}val")), "")
        tiny = element == "sz" and value.isdigit() and int(value) <= _MAX_TINY_HALF_POINTS
        white = element == "color" and value.upper() == "FFFFFF"
        hiding = element in _HIDING and value not in _OFF
        if "r" in self._open and (tiny or white or hiding):
            self._run_hidden = True
        elif "style" in self._open and hiding:  # nobody here can tell which text has it
            self.reason = self.reason or UnscannableReason.FILE

    def _note_value(self, attribute: str, value: str) -> None:
        known = value in office_words()
        told = attribute in _TELLING or not _PLAIN_VALUE.fullmatch(value)
        if value.strip() and told and not known:
            self.values[value] = None


@cache
def office_words() -> frozenset[str]:
    """Values and lines of the templates that programs start from: fixed, public words."""
    return frozenset(read_lines("office_words.txt"))


def _symbol(attributes: Mapping[str, str]) -> str:
    """The character of a ``w:sym``; symbol fonts keep theirs at F000 (ECMA-376 17.3.3.30)."""
    named = {k.rpartition(NAMESPACE_MARK)[2]: v for k, v in attributes.items()}
    code = int(named.get("char", "20"), 16)
    return chr(code - 0xF000 if 0xF000 <= code <= 0xF0FF else code)


def _check_declaration(version: str, encoding: str | None, standalone: int) -> None:
    del version, standalone
    if encoding is not None and encoding.lower() not in ("utf-8", "us-ascii", "ascii"):
        raise Unreadable(UnscannableReason.UNDECODABLE)


def _refuse(*_: object) -> None:
    raise Unreadable(UnscannableReason.FILE)
