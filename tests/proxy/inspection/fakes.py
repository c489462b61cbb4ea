"""Detectors for tests: one that finds a word, and some that fail in the ways detectors fail."""

from __future__ import annotations

import re
from collections.abc import Sequence

from proxy.types import Category, Finding, Segment


class FakeDetector:
    """Finds every occurrence of a word."""

    name = "fake"
    version = "1"

    def __init__(self, word: str) -> None:
        self._word = word

    def detect(self, segments: Sequence[Segment]) -> tuple[Finding, ...]:
        return tuple(
            Finding("PASSWORD", Category.CREDENTIAL, one.index, m.start(), m.end(), 0.9, self.name)
            for one in segments
            for m in re.finditer(re.escape(self._word), one.text or "")
        )


class RaisingDetector:
    """Raises, with the text in the message, as libraries do."""

    name = "raising"
    version = "1"

    def detect(self, segments: Sequence[Segment]) -> tuple[Finding, ...]:
        raise ValueError(f"cannot read {segments[0].text}")


class LyingDetector:
    """Names a place that is not there."""

    name = "lying"
    version = "1"

    def detect(self, segments: Sequence[Segment]) -> tuple[Finding, ...]:
        return (Finding("PERSON", Category.IDENTITY, 0, 5, 10_000, 0.9, self.name),)
