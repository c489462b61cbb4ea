"""What the fork server loads once, so that each detector process starts with the models in memory.

The one module that works at import time, and only in the fork server: it reads the languages from
the environment that the proxy set for it.
"""

from __future__ import annotations

import multiprocessing
import os
from typing import Final

from proxy.inspection import offline
from proxy.inspection.detector import Detector
from proxy.inspection.reading import read_segments
from proxy.inspection.registry import build_detectors
from proxy.types import Origin, Role, Segment

LANGUAGES_VARIABLE: Final = "_RINGFENCE_PRELOAD_LANGUAGES"

_SAMPLE: Final = Segment(
    0,
    "sample",
    Role.USER,
    Origin.VALUE,
    text="Ask Anna Berg, caf\u00e9 owner, at +1 212 555 0100 or anna dot berg at example dot com.",
)

_loaded: dict[tuple[str, ...], tuple[Detector, ...]] = {}


def detectors_for(languages: tuple[str, ...]) -> tuple[Detector, ...]:
    """The detectors for ``languages``, from memory where the fork server has loaded them."""
    if languages not in _loaded:
        offline.cut()
        detectors = build_detectors(languages)
        read_segments([_SAMPLE], detectors, languages)  # compiles every pattern, fills every table
        _loaded[languages] = detectors
    return _loaded[languages]


if multiprocessing.current_process().name == "MainProcess" and (
    named := os.environ.get(LANGUAGES_VARIABLE)
):
    detectors_for(tuple(named.split(",")))
