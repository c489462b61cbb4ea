"""The values that are to be masked, and where they stand in a text.

A finding names one place. Its value is looked for in every text, as a word of its own and whatever
its case, and so are the words of a name; places that overlap become one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from proxy.egress.placeholders import WORD
from proxy.types import Finding, Inspection, Mask, MaskWith, Origin, Segment

#: A value with fewer letters and fewer signs is replaced only where it was found: it stands in too
#: many words and numbers that have nothing to do with it.
MIN_SPREAD_LETTERS: Final = 3
MIN_SPREAD_SIGNS: Final = 5

#: Views whose findings name the very characters of the text.
_EXACT_VIEWS: Final = frozenset({"raw", "fold"})

_NAME_PART: Final = re.compile(r"(?<!\w)[^\W\d_][\w'\u2019-]+")

#: Words of letters alone: "Doe" in "Doe's" and "jane_doe"; and several of them that a sign joins.
_LETTERS: Final = re.compile(r"(?<![^\W_])[^\W\d_]{3,}(?![^\W_])")
_JOINED: Final = re.compile(r"(?<![^\W_])[^\W\d_]{3,}(?:[._-][^\W\d_]{3,})+(?![^\W_])")


class Unmaskable(Exception):
    """A value stands where it cannot be replaced. It holds no text."""


@dataclass(frozen=True, slots=True)
class Span:
    """``[start, end)`` of a text, a value of ``entity`` to be replaced ``by`` something."""

    start: int
    end: int
    entity: str
    by: MaskWith = MaskWith.PLACEHOLDER


@dataclass(frozen=True, slots=True)
class _Value:
    """A folded value; its first word begins at ``offset``."""

    text: str = field(repr=False)
    offset: int
    entity: str
    by: MaskWith


@dataclass(frozen=True, slots=True)
class Values:
    """What to mask: spans where they were found, and values wherever they stand.

    ``spans`` are by path and text of the string they were found in; ``values`` are folded, by
    their first word; ``parts`` are the words of names, as they are written, and what replaces
    them.
    """

    spans: dict[tuple[str, str], list[Span]] = field(repr=False)
    values: dict[str, list[_Value]] = field(repr=False)
    parts: dict[str, MaskWith] = field(repr=False)

    @classmethod
    def of(cls, inspection: Inspection, masks: Sequence[Mask]) -> Values:
        """The values that the findings of ``masks`` point at.

        Raises:
            Unmaskable: one of them stands where nothing can be replaced.
        """
        spans: dict[tuple[str, str], list[Span]] = defaultdict(list)
        values: dict[str, tuple[str, MaskWith]] = {}
        parts: dict[str, MaskWith] = {}
        segments = {segment.index: segment for segment in inspection.segments}
        exact = [mask.finding for mask in masks if mask.finding.view in _EXACT_VIEWS]
        if not _covers(exact, (mask.finding for mask in masks)):
            raise Unmaskable
        for mask in masks:
            segment = segments[mask.finding.segment]
            text = _replaceable(segment)
            span = _trimmed(text, mask)
            spans[segment.path, text].append(span)
            value = text[span.start : span.end]
            if _spreads(value):
                entity, by = values.get(fold(value), (span.entity, span.by))
                values[fold(value)] = entity, _stricter(by, span.by)
            if span.entity == "PERSON":
                for word in filter(_is_part, _NAME_PART.finditer(value)):
                    known = parts.get(word.group(), span.by)
                    parts[word.group()] = _stricter(known, span.by)
        return cls(dict(spans), _by_first_word(values), parts)

    def found_in(self, path: str, text: str) -> list[Span]:
        """The spans of ``text`` to replace, merged where they overlap."""
        spans = list(self.spans.get((path, text), ()))
        spans += _places(fold(text), self.values)
        if self.parts:
            spans += self._parts_in(text)
        return _merged(spans)

    def _parts_in(self, text: str) -> Iterator[Span]:
        """Where words of names stand: as written, in capitals, or two and more in a handle."""
        known = self.parts | {part.upper(): by for part, by in self.parts.items()}
        for pattern in (_NAME_PART, _LETTERS):
            for word in pattern.finditer(text):
                if word.group() in known:
                    yield Span(*word.span(), "PERSON", known[word.group()])
        low = {fold(part): by for part, by in self.parts.items()}
        for handle in _JOINED.finditer(fold(text)):
            ways = [low[word] for word in re.split("[._-]", handle.group()) if word in low]
            if len(ways) > 1:
                strictest = max(ways, key=lambda way: way.strictness)
                yield Span(*handle.span(), "PERSON", strictest)


def fold(text: str) -> str:
    """``text`` without case, character for character: offsets stay what they are."""
    low = text.lower()
    if len(low) != len(text):
        low = "".join(char.lower() if len(char.lower()) == 1 else char for char in text)
    return low.replace("\u03c2", "\u03c3")  # a sigma at the end of a word is a sigma


def _replaceable(segment: Segment) -> str:
    """The text of a segment that is a string of the body, or of JSON within one."""
    if segment.text is None or segment.origin not in (Origin.VALUE, Origin.EMBEDDED):
        raise Unmaskable
    return segment.text


def _trimmed(text: str, mask: Mask) -> Span:
    """The span of a finding without blanks at its ends."""
    finding = mask.finding
    found = text[finding.start : finding.end]
    start = finding.start + len(found) - len(found.lstrip())
    end = finding.end - (len(found) - len(found.rstrip()))
    if start >= end:
        raise Unmaskable
    return Span(start, end, finding.entity, mask.by)


def _covers(exact: Iterable[Finding], others: Iterable[Finding]) -> bool:
    """Whether all that any reading of the text showed lies in spans that are replaced."""
    spans = defaultdict(list)
    for finding in exact:
        spans[finding.segment].append((finding.start, finding.end))
    return all(
        any(start <= other.start and other.end <= end for start, end in spans[other.segment])
        for other in others
    )


def _spreads(value: str) -> bool:
    """Whether a value is telling enough to be replaced wherever it stands."""
    if '"' in value or "\\" in value:
        return False  # it may be a piece of JSON; what it means is found in the JSON itself
    letters = sum(char.isalpha() for char in value)
    signs = sum(not char.isspace() for char in value)
    return letters >= MIN_SPREAD_LETTERS or signs >= MIN_SPREAD_SIGNS


def _is_part(word: re.Match[str]) -> bool:
    return word.group()[0].isupper() and len(word.group()) >= MIN_SPREAD_LETTERS


def _by_first_word(values: Mapping[str, tuple[str, MaskWith]]) -> dict[str, list[_Value]]:
    """Folded values and their entities, to be looked up by their first word."""
    found: dict[str, list[_Value]] = defaultdict(list)
    for text, kind in values.items():
        if word := WORD.search(text):
            found[word.group()].append(_Value(text, word.start(), *kind))
    return dict(found)


def _places(folded: str, values: Mapping[str, list[_Value]]) -> Iterator[Span]:
    """Where values stand in ``folded`` as words of their own; places may overlap."""
    if not values:
        return
    for word in WORD.finditer(folded):
        for value in values.get(word.group(), ()):
            start = word.start() - value.offset
            end = start + len(value.text)
            if start >= 0 and folded.startswith(value.text, start) and not _joins(folded, end):
                yield Span(start, end, value.entity, value.by)


def _joins(text: str, border: int) -> bool:
    """Whether the characters on both sides of a border belong to one word."""
    return 0 < border < len(text) and text[border - 1].isalnum() and text[border].isalnum()


def _stricter(one: MaskWith, other: MaskWith) -> MaskWith:
    return max(one, other, key=lambda way: way.strictness)


def _merged(spans: list[Span]) -> list[Span]:
    """Spans in order, those that overlap as one, called after the longest of them."""
    merged: list[Span] = []
    longest = 0
    for span in sorted(spans, key=lambda s: (s.start, -s.end)):
        if merged and span.start < merged[-1].end:
            last = merged[-1]
            entity = span.entity if span.end - span.start > longest else last.entity
            longest = max(longest, span.end - span.start)
            by = _stricter(last.by, span.by)
            merged[-1] = Span(last.start, max(last.end, span.end), entity, by)
        else:
            merged.append(span)
            longest = span.end - span.start
    return merged
