"""Reads segments with all detectors: in overlapping windows, in every view, mapped back.

The pure heart of the inspection: worker processes and commands run the same. What a detector failed
on, or what no detector could read, is said to be unscannable; nothing here holds a matched text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from proxy.inspection.detector import Detector
from proxy.inspection.language import foreign_language
from proxy.inspection.recognizers import CUSTOM
from proxy.inspection.views import View, other_views
from proxy.inspection.views.decode import opaque_run
from proxy.types import Finding, Segment, UnscannableReason

#: A longer text is read in windows. Models slow down, and some truncate, on longer ones.
WINDOW_CHARS: Final = 12_000

#: Two windows share this much, so that a value at a border is whole in one of them.
OVERLAP_CHARS: Final = 1_000

#: What names models find. In a view they count only where the view changed the text: a view is cut
#: to excerpts, and models guess at the edges.
GUESSED: Final = frozenset(
    {"PERSON", "LOCATION", "NRP", "ORGANIZATION", "DATE_TIME", "URL", "HIGH_ENTROPY_SECRET"}
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of one segment. ``findings`` have segment 0: the place is the caller's to fill."""

    findings: tuple[Finding, ...] = ()
    reason: UnscannableReason | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True)
class _Piece:
    """A window of a view of one segment; ``place`` is the segment's position in the batch."""

    place: int
    offset: int
    text: str = field(repr=False)
    view: View | None


def read_segments(
    segments: Sequence[Segment], detectors: Sequence[Detector], languages: Sequence[str]
) -> tuple[tuple[Reading, ...], tuple[str, ...]]:
    """Read text segments with every detector.

    Args:
        segments: segments with text.
        detectors: all are run, in order; of those with a ``language``, the one that speaks a
            segment's, or else the first. One with ``languages`` is not run over a text that is
            surely in another one.
        languages: the languages whose names the detectors know; the first one is assumed where a
            text is too short to tell.

    Returns:
        One reading for each segment, and the names of the detectors that failed. When one failed,
        every segment it was given has the reason DETECTOR_FAILED.
    """
    pieces = [piece for place, one in enumerate(segments) for piece in _pieces(place, one)]
    tongues = [foreign_language(segment.text or "", languages) for segment in segments]
    reasons = [_reason(one, tongues[place], languages) for place, one in enumerate(segments)]
    found: list[list[Finding]] = [[] for _ in segments]
    failed: list[str] = []
    spoken = [one for one in (getattr(d, "language", None) for d in detectors) if one is not None]
    for detector in detectors:
        chosen = [
            index
            for index, piece in enumerate(pieces)
            if _reads(detector, tongues[piece.place], spoken)
        ]
        findings = _run(detector, [_as_segment(k, pieces[k], segments) for k in chosen])
        if findings is None:
            failed.append(detector.name)
            for index in chosen:
                reasons[pieces[index].place] = UnscannableReason.DETECTOR_FAILED
            continue
        for finding in findings:
            piece = pieces[finding.segment]
            if (placed := _in_original(finding, piece)) is not None:
                found[piece.place].append(placed)
    readings = tuple(
        Reading(_distinct(findings), reason, tongue)
        for findings, reason, tongue in zip(found, reasons, tongues, strict=True)
    )
    return readings, tuple(failed)


def _reads(detector: Detector, language: str | None, spoken: Sequence[str]) -> bool:
    """Whether a detector is for texts of ``language``; None: no sign of another than ours."""
    tongue = getattr(detector, "language", None)
    if tongue is not None and tongue != (language if language in spoken else spoken[0]):
        return False
    tongues = getattr(detector, "languages", None)
    return not tongues or language is None or language in tongues


def _run(detector: Detector, segments: list[Segment]) -> tuple[Finding, ...] | None:
    """The findings of one detector, or None when it failed or broke its contract."""
    if not segments:
        return ()
    sizes = {segment.index: len(segment.text or "") for segment in segments}
    try:
        findings = tuple(detector.detect(segments))
        sound = all(0 <= f.start < f.end <= sizes[f.segment] for f in findings)
    except Exception:  # noqa: BLE001  (the boundary: a failure makes its segments unscannable)
        return None
    return findings if sound else None


def _pieces(place: int, segment: Segment) -> Iterator[_Piece]:
    text = segment.text or ""
    for offset, part in windows(text):
        yield _Piece(place, offset, part, None)
    for view in other_views(text):
        for offset, part in windows(view.text):
            yield _Piece(place, offset, part, view)


def windows(text: str) -> Iterator[tuple[int, str]]:
    """Overlapping windows of a text, with their offsets; a short text is its own."""
    start = 0
    while len(text) - start > WINDOW_CHARS:
        yield start, text[start : start + WINDOW_CHARS]
        start += WINDOW_CHARS - OVERLAP_CHARS
    yield start, text[start:]


def _as_segment(index: int, piece: _Piece, segments: Sequence[Segment]) -> Segment:
    return replace(segments[piece.place], index=index, text=piece.text)


def _in_original(finding: Finding, piece: _Piece) -> Finding | None:
    """A finding with its place in the segment's own text, or None when the view made it up."""
    start, end = finding.start + piece.offset, finding.end + piece.offset
    view = piece.view
    if view is None:
        return replace(finding, segment=0, start=start, end=end)
    if view.crosses_gap(start, end):
        return None
    if finding.entity in GUESSED and finding.detector != CUSTOM:
        made_up = view.name == "layout" and finding.entity != "PERSON"
        if made_up or not view.touches_change(start, end):
            return None
    start, end = view.origin_of(start, end)
    return replace(finding, segment=0, start=start, end=end, view=view.name)


def _distinct(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """One finding for each entity, place and detector: the surest, of the plainest view."""
    best: dict[tuple[str, int, int, str], Finding] = {}
    for finding in findings:
        key = (finding.entity, finding.start, finding.end, finding.detector)
        if key not in best or finding.score > best[key].score:
            best[key] = finding
    return tuple(sorted(best.values(), key=lambda f: (f.start, f.end, f.entity, f.detector)))


def _reason(
    segment: Segment, language: str | None, languages: Sequence[str]
) -> UnscannableReason | None:
    if opaque_run(segment.text or "") is not None:
        return UnscannableReason.UNDECODABLE
    if language is not None and language not in languages:
        return UnscannableReason.LANGUAGE
    return None
