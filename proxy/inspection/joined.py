"""Neighboring texts read as one: a value split over parts, messages, fields or a list.

Only places that could hold a split value are joined, in short stretches, so that a conversation
does not pay for its whole history twice.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from proxy.canonical import parse_object
from proxy.errors import RequestError
from proxy.inspection.paths import child_path
from proxy.inspection.reading import GUESSED
from proxy.inspection.structural import is_structural, number_text
from proxy.inspection.views.layout import passes_luhn
from proxy.types import JSON, Finding, JSONObject, Origin, Role, Segment

#: A stretch reaches this far to both sides of a border.
REACH_CHARS: Final = 120

#: Short neighbors that are passed over on one side of a border; a card has 19 digits at most.
MAX_NEIGHBORS: Final = 20

#: A longer member of an object or list is no fragment.
MAX_MEMBER_CHARS: Final = 300

#: A longer member of a list is no fragment of a value.
MAX_FRAGMENT_CHARS: Final = 24

#: Two neighbors of a key with fewer digits than this are no value that was cut in two.
MIN_DIGITS: Final = 6

#: Members that are read as one stretch.
MAX_MEMBERS: Final = 40

#: More stretches than this in one request are not read; the request is too long then.
MAX_STRETCHES: Final = 4_000

_DIGITISH: Final = re.compile(
    r"\d|\b(?:zero|oh|one|two|three|four|five|six|seven|eight|nine)\b", re.I
)


_CARD: Final = re.compile(r"[2-6]\d{12,18}")
#: Source: ISO 13616, the structure of an IBAN.
_ACCOUNT: Final = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")
_ADDRESS: Final = re.compile(r"\w@\w|^@\w|\w@$")


@dataclass(frozen=True, slots=True)
class Part:
    """``[start, end)`` of a stretch is text of segment ``segment`` from ``offset`` on.

    ``segment`` is None for a word or number that is no segment of its own.
    """

    start: int
    end: int
    segment: int | None
    offset: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """Neighboring texts as one. ``with_context``: keys and values, where one part is enough."""

    text: str = field(repr=False)
    parts: tuple[Part, ...]
    role: Role
    with_context: bool = False

    def as_segment(self, index: int) -> Segment:
        """The stretch as a segment to read."""
        return Segment(index, "", self.role, Origin.JOINED, text=self.text)

    def place(self, finding: Finding, own_index: int) -> tuple[Finding, ...]:
        """A finding as findings in the segments it spans; none when it is no news.

        Args:
            finding: a finding in the text of the stretch.
            own_index: the segment to name where a part is none.
        """
        spanned = [p for p in self.parts if p.start < finding.end and finding.start < p.end]
        if finding.entity in GUESSED or (len(spanned) < 2 and not self.with_context):
            return ()
        placed = [_in_part(finding, part) for part in spanned if part.segment is not None]
        if placed:
            return tuple(placed)
        if not any(part.segment is None for part in spanned):
            return ()
        whole = (own_index, finding.start, finding.end)
        return (_moved(finding, *whole),)


def _in_part(finding: Finding, part: Part) -> Finding:
    shift = part.offset - part.start
    start, end = max(finding.start, part.start), min(finding.end, part.end)
    return _moved(finding, part.segment or 0, start + shift, end + shift)


def _moved(finding: Finding, segment: int, start: int, end: int) -> Finding:
    return Finding(
        finding.entity, finding.category, segment, start, end, finding.score, finding.detector,
        "joined",
    )  # fmt: skip


def stretches(body: JSONObject, segments: Sequence[Segment]) -> tuple[Stretch, ...]:
    """Every stretch of a request worth reading."""
    places = {
        (segment.path, segment.origin): segment.index
        for segment in segments
        if segment.text is not None
    }
    found: list[Stretch] = []
    _walk(body, "", places, found)
    texts = [s for s in segments if s.origin is Origin.VALUE and s.text]
    room = MAX_STRETCHES + 1
    found.extend(islice(_over_borders(texts), room))
    for role in (Role.USER, Role.ASSISTANT, Role.TOOL):
        said = [segment for segment in texts if segment.role is role]
        if len(said) != len(texts):
            found.extend(islice(_over_borders(said), room))
    found.extend(islice(_over_keys(segments), room))
    found.extend(islice(_over_embedded(segments), room))
    return tuple(dict.fromkeys(found))


def _walk(
    value: JSON, path: str, places: dict[tuple[str, Origin], int], found: list[Stretch]
) -> None:
    todo: list[tuple[JSON, str]] = [(value, path)]
    while todo and len(found) <= MAX_STRETCHES:
        item, place = todo.pop()
        if isinstance(item, dict):
            members = [(key, child, child_path(place, key)) for key, child in item.items()]
            found.extend(islice(_over_members(members, places), MAX_STRETCHES))
            todo.extend((child, where) for _, child, where in members if _holds(child))
        elif isinstance(item, list):
            found.extend(islice(_over_list(item, place, places), MAX_STRETCHES))
            todo.extend((c, f"{place}[{index}]") for index, c in enumerate(item) if _holds(c))


def _over_members(
    members: Sequence[tuple[str, JSON, str]], places: dict[tuple[str, Origin], int]
) -> Iterator[Stretch]:
    """Keys and values as lines: a key says what a bare number is."""
    lines = [
        (key, text, where)
        for key, child, where in members
        if (text := _scalar(child)) is not None and key not in ("role", "type", "content")
    ]
    if not any(not is_structural(key) and not is_structural(text) for key, text, _ in lines):
        return
    for first in range(0, len(lines), MAX_MEMBERS):
        text, parts = "", []
        for key, value, where in lines[first : first + MAX_MEMBERS]:
            text += re.sub(r"[_\W]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", key)) + ": "
            parts.append(Part(len(text), len(text) + len(value), _find(places, where), 0))
            text += value + "\n"
        yield Stretch(text, tuple(parts), Role.NONE, with_context=True)


def _over_list(
    items: Sequence[JSON], place: str, places: dict[tuple[str, Origin], int]
) -> Iterator[Stretch]:
    """A list of numbers or fragments as one text; what overlaps is read twice."""
    step, size = 4 * MAX_MEMBERS, 5 * MAX_MEMBERS
    for first in range(0, len(items), step):
        fragments = [
            (text, f"{place}[{first + index}]")
            for index, item in enumerate(items[first : first + size])
            if (text := _scalar(item)) is not None and len(text) <= MAX_FRAGMENT_CHARS
        ]
        if len(fragments) < 2 or sum(c.isdigit() for text, _ in fragments for c in text) < 6:
            continue
        for glue in (" ", ""):
            text, parts = "", []
            for fragment, where in fragments:
                parts.append(Part(len(text), len(text) + len(fragment), _find(places, where), 0))
                text += fragment + glue
            yield Stretch(text, tuple(parts), Role.NONE)


def _holds(value: JSON) -> bool:
    return isinstance(value, dict | list)


def _find(places: dict[tuple[str, Origin], int], where: str) -> int | None:
    found = places.get((where, Origin.VALUE))
    return places.get((where, Origin.NUMBER)) if found is None else found


def _scalar(value: JSON) -> str | None:
    if isinstance(value, str):
        return value if 0 < len(value) <= MAX_MEMBER_CHARS else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return number_text(value)


def _over_borders(segments: Sequence[Segment]) -> Iterator[Stretch]:
    for border in range(1, len(segments)):
        left, right = segments[border - 1].text or "", segments[border].text or ""
        digits = _DIGITISH.search(left[-40:]) and _DIGITISH.search(right[:40])
        glued = _glued(segments[border - 1], segments[border])
        whole = not left[-1:].isspace() and not right[:1].isspace()
        if whole and re.search(r"[@\d]|://", glued):
            yield _around(segments, border, "")
        if digits:
            yield _around(segments, border, "\n")


def _over_keys(segments: Sequence[Segment]) -> Iterator[Stretch]:
    """Keys and what stands beside them: a value, a key below, the next key, a number."""
    row = [s for s in segments if s.text and s.origin in (Origin.KEY, Origin.VALUE, Origin.NUMBER)]
    keys = [segment for segment in row if segment.origin is Origin.KEY]
    numbers = [segment for segment in row if segment.origin is Origin.NUMBER]
    for these in (row, keys, numbers):
        for border in range(1, len(these)):
            left, right = these[border - 1], these[border]
            if left.origin is Origin.VALUE and right.origin is Origin.VALUE:
                continue
            glued = _glued(left, right)
            if "@" in glued or sum(char.isdigit() for char in glued) >= MIN_DIGITS:
                yield _around(these, border, "")
                yield _pair(left, right)


def _over_embedded(segments: Sequence[Segment]) -> Iterator[Stretch]:
    """Neighbors in the JSON that stands in strings, as arguments of tool calls do.

    Results of tools hold thousands of numbers: so only what could be a value is read.
    """
    leaves = [leaf for segment in segments for leaf in _leaves_within(segment, segments)]
    keys = [segment for segment, is_key in leaves if is_key]
    values = [segment for segment, is_key in leaves if not is_key]
    for these in ([segment for segment, _ in leaves], keys, values):
        for border in range(1, len(these)):
            glued = _glued(these[border - 1], these[border])
            if _ADDRESS.search(glued):
                yield _around(these, border, "")
            elif _ACCOUNT.fullmatch(glued) or (_CARD.fullmatch(glued) and passes_luhn(glued)):
                yield _pair(these[border - 1], these[border])


def _leaves_within(segment: Segment, segments: Sequence[Segment]) -> Iterator[tuple[Segment, bool]]:
    """The segments that were read within a JSON string, in its order, and whether each is a key."""
    text = segment.text or ""
    if segment.origin is not Origin.VALUE or text.lstrip()[:1] not in ("{", "["):
        return
    try:
        document = parse_object(f'{{"":{text}}}'.encode("utf-8", "surrogatepass"))[""]
    except RequestError:
        return  # `surface` has said so
    within = itertools.takewhile(
        lambda one: one.origin is Origin.EMBEDDED, segments[segment.index + 1 :]
    )
    places = {one.text: one for one in within}
    todo: list[tuple[JSON, bool]] = [(document, False)]
    while todo:
        value, is_key = todo.pop()
        if isinstance(value, dict):
            members: list[tuple[JSON, bool]] = []
            for key, member in value.items():
                members += [(key, True), (member, False)]
            todo += reversed(members)
        elif isinstance(value, list):
            todo += [(member, False) for member in reversed(value)]
        elif (text := _scalar(value) or "") in places:
            yield places[text], is_key


def _glued(left: Segment, right: Segment) -> str:
    """The last word of one text and the first of the next, as one."""
    return f"{(left.text or '')[-64:].split(' ')[-1]}{(right.text or '')[:64].split(' ')[0]}"


def _pair(left: Segment, right: Segment) -> Stretch:
    """The end of one text and the beginning of the next, and nothing else."""
    tail, head = (left.text or "")[-64:], (right.text or "")[:64]
    before = Part(0, len(tail), left.index, len(left.text or "") - len(tail))
    behind = Part(len(tail), len(tail) + len(head), right.index, 0)
    return Stretch(tail + head, (before, behind), right.role)


def _around(segments: Sequence[Segment], border: int, glue: str) -> Stretch:
    """The text around the border before ``segments[border]``; short neighbors are passed over."""
    chosen: list[tuple[Segment, int, int]] = []
    need, index = REACH_CHARS, border - 1
    while need > 0 and index >= 0 and border - index <= MAX_NEIGHBORS:
        size = len(segments[index].text or "")
        chosen.insert(0, (segments[index], max(size - need, 0), size))
        need, index = need - size, index - 1
    need, index = REACH_CHARS, border
    while need > 0 and index < len(segments) and index - border < MAX_NEIGHBORS:
        size = len(segments[index].text or "")
        chosen.append((segments[index], 0, min(size, need)))
        need, index = need - size, index + 1
    text, parts = "", []
    for segment, start, end in chosen:
        fragment = (segment.text or "")[start:end]
        parts.append(Part(len(text), len(text) + len(fragment), segment.index, start))
        text += fragment + glue
    return Stretch(text, tuple(parts), segments[border].role)
