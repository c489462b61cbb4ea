"""A reading of a text that remembers where each of its characters came from.

People and attackers write one thing in many forms. A view is such a text with the form undone; what
a detector finds in it is mapped back to the original. An edit must never lose an offset.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

#: Marks of a view's characters: as in the original, made by an edit, or between two excerpts.
KEPT: Final = 0
CHANGED: Final = 1
GAP: Final = 2

#: Text kept on both sides of a change, so that context words are seen.
MARGIN_CHARS: Final = 80

#: What stands between two excerpts: a pattern or a name does not reach over it.
_GAP_TEXT: Final = "\n\n"


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace ``[start, end)`` of a text."""

    start: int
    end: int
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class View:
    """A text and its map: character ``i`` stems from ``[starts[i], ends[i])`` of the original.

    ``starts``, ``ends`` and ``marks`` have shape ``(len(text),)``; the first two never fall.
    """

    name: str
    text: str = field(repr=False)
    starts: array[int] = field(repr=False)
    ends: array[int] = field(repr=False)
    marks: bytes = field(repr=False)

    @property
    def is_changed(self) -> bool:
        """Whether any edit touched it."""
        return CHANGED in self.marks

    def origin_of(self, start: int, end: int) -> tuple[int, int]:
        """The span of the original that ``[start, end)`` of the view stems from."""
        return self.starts[start], max(self.ends[start:end])

    def touches_change(self, start: int, end: int) -> bool:
        """Whether a span holds something that an edit made."""
        return CHANGED in self.marks[start:end]

    def crosses_gap(self, start: int, end: int) -> bool:
        """Whether a span reaches over the place between two excerpts."""
        return GAP in self.marks[start:end]


def identity(text: str) -> View:
    """The text as it is."""
    size = len(text)
    return View("raw", text, array("I", range(size)), array("I", range(1, size + 1)), bytes(size))


def apply(view: View, edits: Iterable[Edit]) -> View:
    """Make ``edits`` (sorted, not overlapping) in a view.

    What an edit removes without a trace is marked at its neighbors, so that a span over the place
    still counts as changed.
    """
    texts: list[str] = []
    starts, ends, marks = array("I"), array("I"), bytearray()
    done = 0
    trace = False
    for edit in edits:
        texts += (view.text[done : edit.start], edit.text)
        starts += view.starts[done : edit.start]
        ends += view.ends[done : edit.start]
        kept = bytearray(view.marks[done : edit.start])
        if trace and kept:
            kept[0] = max(kept[0], CHANGED)
        marks += kept
        first, last = _source(view, edit)
        if edit.text:
            starts.extend([first] * len(edit.text))
            ends.extend([last] * len(edit.text))
            marks += bytes([CHANGED]) * len(edit.text)
        elif marks:
            marks[-1] = max(marks[-1], CHANGED)
        trace = not edit.text
        done = edit.end
    rest = bytearray(view.marks[done:])
    if trace and rest:
        rest[0] = max(rest[0], CHANGED)
    return View(
        view.name,
        "".join(texts) + view.text[done:],
        starts + view.starts[done:],
        ends + view.ends[done:],
        bytes(marks + rest),
    )


def _source(view: View, edit: Edit) -> tuple[int, int]:
    """Where the replaced text stems from; an insertion stems from its left neighbor."""
    if edit.end > edit.start:
        return view.origin_of(edit.start, edit.end)
    near = min(max(edit.start - 1, 0), len(view.text) - 1)
    return view.starts[near], view.ends[near]


def substitute(
    view: View, pattern: re.Pattern[str], replace: Callable[[re.Match[str]], str | None]
) -> View:
    """Replace what ``pattern`` matches by what ``replace`` says; None leaves it as it is."""
    edits = edits_by(view, pattern, replace)
    return apply(view, edits) if edits else view


def edits_by(
    view: View, pattern: re.Pattern[str], replace: Callable[[re.Match[str]], str | None]
) -> list[Edit]:
    """The edits that `substitute` makes."""
    return [
        Edit(match.start(), match.end(), text)
        for match in pattern.finditer(view.text)
        if (text := replace(match)) is not None and text != match.group()
    ]


def excerpt(view: View, name: str, margin: int = MARGIN_CHARS) -> View:
    """Only what an edit touched, with some text around it: the rest was read as it is."""
    texts: list[str] = []
    starts, ends, marks = array("I"), array("I"), bytearray()
    for start, end in _neighborhoods(view.marks, margin):
        if texts:
            texts.append(_GAP_TEXT)
            starts.extend([ends[-1] - 1] * len(_GAP_TEXT))
            ends.extend([ends[-1]] * len(_GAP_TEXT))
            marks += bytes([GAP]) * len(_GAP_TEXT)
        texts.append(view.text[start:end])
        starts += view.starts[start:end]
        ends += view.ends[start:end]
        marks += view.marks[start:end]
    return View(name, "".join(texts), starts, ends, bytes(marks))


def _neighborhoods(marks: bytes, margin: int) -> Iterator[tuple[int, int]]:
    begin = end = -1
    for run in re.finditer(rb"\x01+", marks):
        start, stop = max(run.start() - margin, 0), min(run.end() + margin, len(marks))
        if begin >= 0 and start <= end:
            end = stop
            continue
        if begin >= 0:
            yield begin, end
        begin, end = start, stop
    if begin >= 0:
        yield begin, end
