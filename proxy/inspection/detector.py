"""The contract of a detector, and of the inspector that runs them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from proxy.inspection.recognizers import NO_RECOGNIZERS, Recognizers
from proxy.types import Finding, Inspection, JSONObject, Segment


class Detector(Protocol):
    """Finds one family of sensitive data. Runs in a worker process, off the event loop.

    When it raises or is late, the segments it was given count as unscannable: pinned or blocked.
    """

    name: str
    version: str

    def detect(self, segments: Sequence[Segment]) -> tuple[Finding, ...]:
        """Find spans in text segments, given together so that models can batch them.

        Returns:
            Findings whose ``segment`` is the index of one of ``segments``.

        Raises:
            Exception: anything; no partial result is ever taken for a whole one.
        """
        ...


class Inspector(Protocol):
    """Inspects a whole request body."""

    async def inspect(
        self, body: JSONObject, recognizers: Recognizers = NO_RECOGNIZERS, caller: str = ""
    ) -> Inspection:
        """Inspect every string, long number and blob of ``body``.

        ``recognizers`` are those of the policy that decides about it. ``caller`` is the id of the
        key in whose turn it is read; it changes nothing about what is found.

        Raises:
            InspectionError: it could not run at all, or saw no text where the body has text.
        """
        ...
