"""Inspection in this very process: for commands and tests, never for the server."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from proxy.inspection import offline
from proxy.inspection.custom import MAX_SETS, build_custom
from proxy.inspection.detector import Detector
from proxy.inspection.files import read_file
from proxy.inspection.plan import conclude, plan
from proxy.inspection.recognizers import NO_RECOGNIZERS, Recognizers
from proxy.inspection.registry import DetectorConfig, build_detectors
from proxy.inspection.surface import surface
from proxy.inspection.worker import run_detectors
from proxy.types import Inspection, JSONObject


class Inspect(Protocol):
    """Inspects a body as the proxy does, in this process; with the recognizers of a policy."""

    def __call__(
        self, body: JSONObject, recognizers: Recognizers = NO_RECOGNIZERS
    ) -> Inspection: ...


def inline_inspector(languages: Sequence[str], token_model: Path | None = None) -> Inspect:
    """Load the detectors for ``languages``; returns the function that inspects a body."""
    offline.cut()
    detectors = build_detectors(DetectorConfig(tuple(languages), token_model))

    @lru_cache(MAX_SETS)
    def custom(recognizers: Recognizers) -> tuple[Detector, ...]:
        return build_custom(recognizers)

    def inspect(body: JSONObject, recognizers: Recognizers = NO_RECOGNIZERS) -> Inspection:
        return inspect_with((*detectors, *custom(recognizers)), languages, body)

    return inspect


def inspect_with(
    detectors: Sequence[Detector], languages: Sequence[str], body: JSONObject
) -> Inspection:
    """Inspect ``body`` with ``detectors``, without a deadline."""
    found = surface(body)
    extracts = {file.index: read_file(file.blob or b"", file.media_type) for file in found.files}
    planned = plan(body, found, extracts)
    result = run_detectors(detectors, planned.texts, languages)
    readings = {
        text.index: reading for text, reading in zip(planned.texts, result.readings, strict=True)
    }
    versions = tuple(sorted({(detector.name, detector.version) for detector in detectors}))
    return conclude(planned, readings, languages=languages, detectors=versions)
