"""The detectors of a process, loaded once; a process that was forked finds them in memory."""

from __future__ import annotations

from typing import Final

from proxy.inspection import offline
from proxy.inspection.detector import Detector
from proxy.inspection.files import Ocr, picture
from proxy.inspection.reading import read_segments
from proxy.inspection.registry import DetectorConfig, build_detectors
from proxy.types import Origin, Role, Segment

#: Tells the fork server what to load.
CONFIG_VARIABLE: Final = "_RINGFENCE_PRELOAD_DETECTORS"

_SAMPLE: Final = Segment(
    0,
    "sample",
    Role.USER,
    Origin.VALUE,
    text="Ask Anna Berg, caf\u00e9 owner, at +1 212 555 0100 or anna dot berg at example dot com.",
)

_loaded: dict[DetectorConfig, tuple[Detector, ...]] = {}


def detectors_for(config: DetectorConfig) -> tuple[Detector, ...]:
    """The detectors of ``config``, from memory where the fork server has loaded them."""
    if config not in _loaded:
        offline.cut()
        detectors = build_detectors(config)
        read_segments([_SAMPLE], detectors, config.languages)  # compiles patterns, fills tables
        if config.ocr is not Ocr.OFF:
            picture.load()
        _loaded[config] = detectors
    return _loaded[config]
