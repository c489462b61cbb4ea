"""What is to be read of a request, and what its inspection says once it was read.

Shared by the server's inspector and by commands; pure. An inspection that does not add up is an
error, never a pass.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from proxy.errors import InspectionError
from proxy.inspection.files.extract import Extract
from proxy.inspection.joined import MAX_STRETCHES, Stretch, stretches
from proxy.inspection.publicfigures import mark_public_figures
from proxy.inspection.publicquestions import clear_public_questions
from proxy.inspection.reading import Reading
from proxy.inspection.surface import Surface, with_files
from proxy.types import (
    Coverage,
    Finding,
    Inspection,
    JSONObject,
    Origin,
    Segment,
    Unscannable,
    UnscannableReason,
)

#: A longer text is not inspected in time on one core (about 40 µs a character).
MAX_SEGMENT_CHARS: Final = 250_000


@dataclass(frozen=True, slots=True)
class Plan:
    """The surface of a request, and the texts to read: its segments and what joins them.

    ``texts`` have distinct indices: those of the segments, then those of the stretches.
    """

    found: Surface
    stretches: tuple[Stretch, ...] = field(repr=False)
    texts: tuple[Segment, ...] = field(repr=False)
    unscannable: tuple[Unscannable, ...]


def plan(body: JSONObject, found: Surface, extracts: Mapping[int, Extract]) -> Plan:
    """Say what is to be read of ``body``.

    Args:
        body: a request.
        found: its surface.
        extracts: what came of the surface's files, by index.
    """
    found = with_files(found, extracts)
    joined = stretches(body, found.segments)
    unscannable = list(found.unscannable)
    if len(joined) > MAX_STRETCHES:
        joined = joined[:MAX_STRETCHES]
        last = found.segments[-1].index
        unscannable.append(Unscannable(last, UnscannableReason.TOO_LONG))
    texts: list[Segment] = []
    for segment in found.segments:
        if segment.text is None:
            continue
        if len(segment.text) > MAX_SEGMENT_CHARS:
            unscannable.append(Unscannable(segment.index, UnscannableReason.TOO_LONG))
        else:
            texts.append(segment)
    base = len(found.segments)
    texts += [stretch.as_segment(base + place) for place, stretch in enumerate(joined)]
    return Plan(found, joined, tuple(texts), tuple(unscannable))


def conclude(
    planned: Plan,
    readings: Mapping[int, Reading],
    *,
    languages: Sequence[str],
    detectors: tuple[tuple[str, str], ...],
) -> Inspection:
    """The inspection of a request whose texts were read.

    Args:
        planned: the plan of the request.
        readings: a reading for each of the plan's texts, by index.
        languages: the languages whose names the detectors know.
        detectors: names and versions.

    Raises:
        InspectionError: a string of the body is neither read nor structural nor unscannable.
    """
    base = len(planned.found.segments)
    findings: list[Finding] = []
    unscannable = list(planned.unscannable)
    extra: list[Segment] = []
    tongues: dict[int, str] = {}
    for text in planned.texts:
        reading = readings.get(text.index)
        if reading is None:
            raise InspectionError("The inspection did not read every string of the request.")
        if text.index < base:
            findings += [replace(finding, segment=text.index) for finding in reading.findings]
            tongues[text.index] = reading.language or languages[0]
        else:
            own = base + len(extra)
            placed = _place(planned.stretches[text.index - base], reading, own)
            findings += placed
            if any(finding.segment == own for finding in placed):
                extra.append(replace(text, index=own))
                tongues[own] = reading.language or languages[0]
        if reading.reason is not None:
            unscannable += _unread(planned, text, reading.reason)
    unscannable += _unread_files(planned.found, unscannable)
    segments = (*planned.found.segments, *extra)
    marked, unscannable = clear_public_questions(
        segments, mark_public_figures(segments, _distinct(findings), tongues), unscannable, tongues
    )
    return Inspection(
        segments=segments,
        findings=marked,
        unscannable=tuple(dict.fromkeys(unscannable)),
        coverage=account(planned.found, unscannable, readings),
        languages=tuple(sorted(set(tongues.values()))) or tuple(languages),
        detectors=detectors,
        elapsed_ms=(time.perf_counter() - planned.found.started_s) * 1000,
    )


def _place(stretch: Stretch, reading: Reading, own_index: int) -> list[Finding]:
    return [placed for finding in reading.findings for placed in stretch.place(finding, own_index)]


def _unread(planned: Plan, text: Segment, reason: UnscannableReason) -> list[Unscannable]:
    """The segments that count as not inspected when ``text`` could not be read."""
    base = len(planned.found.segments)
    if text.index < base:
        return [Unscannable(text.index, reason)]
    if reason in (UnscannableReason.LANGUAGE, UnscannableReason.UNDECODABLE):
        return []  # the parts of the stretch say so themselves, where it is true of them
    parts = [part.segment for part in planned.stretches[text.index - base].parts]
    named = [Unscannable(index, reason) for index in parts if index is not None]
    return named or [Unscannable(base - 1, reason)]


def _unread_files(found: Surface, unscannable: Sequence[Unscannable]) -> list[Unscannable]:
    """The files of which a text could not be read, for the reasons of their texts."""
    reasons: dict[int, list[UnscannableReason]] = {}
    for entry in unscannable:
        reasons.setdefault(entry.segment, []).append(entry.reason)
    return [
        Unscannable(file, reason)
        for file, texts in found.taken.items()
        for text in texts
        for reason in reasons.get(text, ())
    ]


def _distinct(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Each place and entity once, the plainest view first: a joined reading is often no news."""
    known: dict[tuple[int, int, int, str, str], Finding] = {}
    for finding in findings:
        place = (finding.segment, finding.start, finding.end, finding.entity, finding.detector)
        if place not in known or finding.score > known[place].score:
            known[place] = finding
    return tuple(known[place] for place in sorted(known))


def account(
    found: Surface, unscannable: Sequence[Unscannable], readings: Mapping[int, Reading]
) -> Coverage:
    """The coverage of an inspection, made to add up.

    Raises:
        InspectionError: strings of the body are neither inspected nor structural nor unscannable.
    """
    counted = [s for s in found.segments if s.origin not in (Origin.EMBEDDED, Origin.FILE)]
    lost = {entry.segment for entry in unscannable}
    read = {file for file, texts in found.taken.items() if all(text in readings for text in texts)}
    read.update(readings)
    num_unscannable = sum(1 for segment in counted if segment.index in lost)
    num_inspected = sum(1 for s in counted if s.index in read and s.index not in lost)
    if num_inspected + num_unscannable + found.num_structural != found.num_strings:
        raise InspectionError("The inspection did not see every string of the request.")
    return Coverage(found.num_strings, num_inspected, found.num_structural, num_unscannable)
