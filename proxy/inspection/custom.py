"""Reads texts with the recognizers of a policy, like every other detector does.

They run in the same processes and over the same views of a text. A process without the set of the
policy in force fails on its texts, and never finds "nothing".
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final

from proxy.inspection.checksums import check_by_name
from proxy.inspection.detector import Detector
from proxy.inspection.linear import compile_linear
from proxy.inspection.recognizers import CUSTOM, Recognizer, Recognizers
from proxy.inspection.terms import TermTable
from proxy.types import Finding, Segment

#: Sets that a process keeps ready: the old and the new policy of a reload, and staged ones.
MAX_SETS: Final = 4


class CustomDetector:
    """Finds what the recognizers of one choice of languages describe."""

    name = CUSTOM

    def __init__(
        self, recognizers: Sequence[Recognizer], version: str, languages: tuple[str, ...] = ()
    ) -> None:
        """Compile ``recognizers``, all of which ask for ``languages``."""
        self.version = version
        self.languages = frozenset(languages)
        self._all = tuple(recognizers)
        numbered = list(enumerate(recognizers))
        # One by one: a set of patterns that nobody of us has seen may run out of memory.
        self._patterns = [(i, compile_linear(r.pattern)) for i, r in numbered if r.pattern]
        self._terms = TermTable((i, term) for i, r in numbered for term in r.terms)
        self._contexts = [TermTable((0, word) for word in r.context_words) for r in recognizers]

    def detect(self, segments: Sequence[Segment]) -> tuple[Finding, ...]:
        """Find what the policy describes; see `Detector`."""
        return tuple(
            finding
            for segment in segments
            if segment.text
            for finding in self._in_text(segment.index, segment.text)
        )

    def _in_text(self, index: int, text: str) -> Iterator[Finding]:
        contexts: dict[int, list[tuple[int, int]]] = {}
        for number, start, end in self._spans(text):
            one = self._all[number]
            if number not in contexts:
                found = self._contexts[number].find(text)
                contexts[number] = sorted((begin, stop) for _, begin, stop in found)
            score = min(one.score + _boost(one, contexts[number], start, end), 1.0)
            yield Finding(one.entity, one.category, index, start, end, score, CUSTOM)

    def _spans(self, text: str) -> Iterator[tuple[int, int, int]]:
        for number, pattern in self._patterns:
            for match in pattern.finditer(text):
                start, end = _value_of(match)
                if start < end and _is_valid(self._all[number], text[start:end]):
                    yield number, start, end
        yield from self._terms.find(text)


def _value_of(match: Any) -> tuple[int, int]:
    """Group 1 where it took part, or else the whole match."""
    start, end = match.span(1) if match.re.groups else (0, 0)
    return (start, end) if start < end else match.span()


def _is_valid(recognizer: Recognizer, value: str) -> bool:
    if recognizer.check is None:
        return True
    is_valid = check_by_name(recognizer.check)
    try:
        return is_valid(value)
    except Exception:  # noqa: BLE001  (the boundary: a check that cannot tell clears nothing)
        return True


def _boost(recognizer: Recognizer, contexts: list[tuple[int, int]], start: int, end: int) -> float:
    """What the context words around a span add to its score."""
    first, last = start - recognizer.context_window, end + recognizer.context_window
    for at in range(bisect_left(contexts, (first, 0)), len(contexts)):
        begin, stop = contexts[at]
        if begin > last:
            break
        if stop <= last and (stop <= start or begin >= end):
            return recognizer.context_boost
    return 0.0


def build_custom(recognizers: Recognizers) -> tuple[Detector, ...]:
    """The detectors of a set: one for each choice of languages."""
    grouped: dict[tuple[str, ...], list[Recognizer]] = defaultdict(list)
    for recognizer in recognizers.all:
        grouped[recognizer.languages].append(recognizer)
    version = recognizers.version
    return tuple(CustomDetector(some, version, tongues) for tongues, some in grouped.items())


class CustomSets:
    """The sets that a process has ready, by version; the one used longest ago goes first."""

    def __init__(self) -> None:
        self._sets: OrderedDict[str, tuple[Detector, ...]] = OrderedDict()

    def detectors(self, version: str, recognizers: Recognizers | None) -> tuple[Detector, ...]:
        """The detectors of the set ``version``, made of ``recognizers`` where they are given.

        A set that is not there, or cannot be made, is a detector that fails.
        """
        if not version:
            return ()
        if recognizers is not None:
            self._sets[version] = _built(recognizers, version)
        found = self._sets.pop(version, None)
        if found is None:
            return (_Missing(version),)
        self._sets[version] = found
        while len(self._sets) > MAX_SETS:
            self._sets.popitem(last=False)
        return found


def _built(recognizers: Recognizers, version: str) -> tuple[Detector, ...]:
    try:
        return build_custom(recognizers)
    except Exception:  # noqa: BLE001  (the boundary: what cannot be made fails on every text)
        return (_Missing(version),)


class _Missing:
    """Stands where a set should be, and fails."""

    name = CUSTOM

    def __init__(self, version: str) -> None:
        self.version = version

    def detect(self, segments: Sequence[Segment]) -> tuple[Finding, ...]:
        """Fail; see `Detector`."""
        raise LookupError("the recognizers of the policy are not here")
