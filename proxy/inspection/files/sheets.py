"""Reads the cells of a worksheet into rows, and the strings that the sheets of a file share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from proxy.inspection.files.extract import Unreadable
from proxy.inspection.files.markup import Part
from proxy.inspection.structural import number_text
from proxy.types import UnscannableReason

#: Source: ECMA-376 part 1, section 18.3.1.73; a cell beyond them is no cell.
_MAX_COLUMNS: Final = 16_384

_AFTER: Final = {"c": "\t", "row": "\n"}

#: Cells read of one sheet, empty ones before a value included.
MAX_CELLS: Final = 200_000


class SheetPart(Part):
    """A worksheet; ``rows`` has the text of its cells, each at its column."""

    def __init__(self, name: str, strings: Sequence[str]) -> None:
        super().__init__(name)
        self.rows: list[list[str]] = []
        self._strings = strings
        self._num_cells = 0
        self._kind = "n"

    def on_start(self, element: str, attributes: Mapping[str, str]) -> None:
        """A row or a cell begins."""
        if element == "row":
            self.rows.append([])
        elif element == "c" and self.rows:
            self._kind = attributes.get("t", "n")
            column = _column_of(attributes.get("r", ""), len(self.rows[-1]))
            missing = max(column + 1 - len(self.rows[-1]), 0)
            self._num_cells += missing
            if column >= _MAX_COLUMNS or self._num_cells > MAX_CELLS:
                raise Unreadable(UnscannableReason.TOO_LONG)
            self.rows[-1].extend([""] * missing)

    def on_text(self, element: str, text: str) -> None:
        """The value of a cell, its formula, or another text of the sheet."""
        if element != "v" or not self.rows or not self.rows[-1]:
            super().on_text(element, text)
            return
        value = self._value_of(text.strip())
        self.rows[-1][-1] += value
        self._add(value)

    def on_end(self, element: str) -> None:
        """A row ends, or a cell, or the text within a cell."""
        if element in _AFTER:
            self._add(_AFTER[element])
        elif element == "t" and self.rows and self.rows[-1] and self.runs:
            self.rows[-1][-1] += self.runs[-1].text

    def _value_of(self, text: str) -> str:
        if self._kind == "s":
            return self._strings[int(text)]
        if self._kind == "n" and "E" in text.upper():
            return number_text(float(text))
        return text


def shared_strings(data: bytes | None) -> list[str]:
    """The strings of a workbook, by index; none where it has none.

    Raises:
        Unreadable: the part is no XML in UTF-8.
    """
    part = _StringsPart("strings")
    if data is not None:
        part.read(data)
    return part.strings


class _StringsPart(Part):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.strings: list[str] = []
        self._first = 0

    def on_start(self, element: str, attributes: Mapping[str, str]) -> None:
        if element == "si":
            self._first = len(self.runs)

    def on_end(self, element: str) -> None:
        if element == "si":
            self.strings.append("".join(run.text for run in self.runs[self._first :]))


def _column_of(reference: str, following: int) -> int:
    """The column of a cell (``AB12`` is 27), or the one that follows where it names none."""
    letters = re.match(r"[A-Z]{1,4}", reference)
    if letters is None:
        return following
    column = 0
    for letter in letters.group():
        column = column * 26 + ord(letter) - ord("A") + 1
    return column - 1
