"""Presidio's phone recognizer, run only where a text has enough digits for a number.

It matches a text once for each of its regions; on prose that is most of the time of an inspection.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from presidio_analyzer import RecognizerResult
from presidio_analyzer.nlp_engine import NlpArtifacts
from presidio_analyzer.predefined_recognizers import PhoneRecognizer

#: A stretch that may hold a number: six digits or more with the marks that stand between them.
#: Source: the shortest national numbers of the regions in use have seven digits (ITU-T E.164).
_CANDIDATE: Final = re.compile(r"\d(?:[^\w\n]{0,4}(?:x|ext\.?)?[^\w\n]{0,2}\d){5,}", re.I)

#: How people write a number: no lists of numbers, no formulas, no decimals.
_WRITTEN: Final = re.compile(
    r"(?!\d{1,3}\.\d{6,}$)[+(]{0,2}[\d\s().\-/]{6,40}(?:\s?(?:x|ext\.?|#)\s?\d{1,6})?", re.I
)

#: What the matcher looks at before and after a number.
_MARGIN_CHARS: Final = 24


class GatedPhoneRecognizer(PhoneRecognizer):
    """Looks for phone numbers around the stretches of a text that hold digits enough."""

    def analyze(
        self,
        text: str,
        entities: list[str],
        nlp_artifacts: NlpArtifacts = None,  # type: ignore[assignment]
    ) -> list[RecognizerResult]:
        """Find phone numbers; see Presidio's `EntityRecognizer.analyze`."""
        found: list[RecognizerResult] = []
        for start, end in _stretches(text):
            for result in super().analyze(text[start:end], entities, nlp_artifacts):
                result.start += start
                result.end += start
                if _WRITTEN.fullmatch(text[result.start : result.end]):
                    found.append(result)
        return found


def _stretches(text: str) -> Iterator[tuple[int, int]]:
    begin = end = -1
    for match in _CANDIDATE.finditer(text):
        start = max(match.start() - _MARGIN_CHARS, 0)
        stop = min(match.end() + _MARGIN_CHARS, len(text))
        if begin >= 0 and start <= end:
            end = stop
            continue
        if begin >= 0:
            yield begin, end
        begin, end = start, stop
    if begin >= 0:
        yield begin, end
