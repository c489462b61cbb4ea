"""Cuts the ways in which a library may call out, before any of them is imported.

A detector that fetches a list, a model or an update is a leak and a stall. Call `cut` first thing
in every process that imports Presidio, spaCy, transformers, torch or onnxruntime.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Final

_ENVIRONMENT: Final = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    # From 1.29 on it tells Microsoft about each process that loads it, and keeps what it could not
    # send, with an id of the machine, in the user's cache. Source: microsoft/onnxruntime#27379.
    "ORT_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Presidio's e-mail recognizer would fetch the public suffix list at first use.
    "TLDEXTRACT_PUBLIC_SUFFIX_LIST_URLS": "",
    # A pattern that runs longer than this is a failure, not "nothing found" (see presidio.py).
    "REGEX_TIMEOUT_SECONDS": "5",
}

#: One thread a process: detector processes are as many as there are cores, and they are forked.
_ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

#: Presidio and spaCy import these when they are there, and use neither: 7 s and 280 MB.
_HEAVY: Final = ("torch", "transformers")


def cut() -> None:
    """Set the offline switches of every library in use, over whatever the environment says."""
    os.environ.update(_ENVIRONMENT)
    for name in _ONE_THREAD:
        os.environ.setdefault(name, "1")


@contextlib.contextmanager
def without_torch() -> Iterator[None]:
    """Imports in this block do not find torch, unless it is there already; later ones do again."""
    absent = [name for name in _HEAVY if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None: "not found"
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
