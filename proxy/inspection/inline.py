"""Inspection in this very process: for commands and tests, never for the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from proxy.inspection import offline
from proxy.inspection.detector import Detector
from proxy.inspection.plan import conclude, plan
from proxy.inspection.registry import DetectorConfig, build_detectors
from proxy.inspection.worker import run_detectors
from proxy.types import Inspection, JSONObject


def inline_inspector(
    languages: Sequence[str], token_model: Path | None = None
) -> Callable[[JSONObject], Inspection]:
    """Load the detectors for ``languages``; returns the function that inspects a body."""
    offline.cut()
    detectors = build_detectors(DetectorConfig(tuple(languages), token_model))
    return lambda body: inspect_with(detectors, languages, body)


def inspect_with(
    detectors: Sequence[Detector], languages: Sequence[str], body: JSONObject
) -> Inspection:
    """Inspect ``body`` with ``detectors``, without a deadline."""
    planned = plan(body)
    result = run_detectors(detectors, planned.texts, languages)
    readings = {
        text.index: reading for text, reading in zip(planned.texts, result.readings, strict=True)
    }
    versions = tuple(sorted((detector.name, detector.version) for detector in detectors))
    return conclude(planned, readings, languages=languages, detectors=versions)
