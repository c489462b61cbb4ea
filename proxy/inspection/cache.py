"""Remembers readings, so that a conversation pays for its newest turn only.

Keys are keyed digests, readings hold places and no text: the cache tells nobody what it has seen.
It lives and dies with its process.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
from collections import OrderedDict
from typing import Final

from proxy.inspection.reading import Reading
from proxy.types import Segment, UnscannableReason

#: Readings plus findings kept; about 300 bytes each.
MAX_WEIGHT: Final = 50_000

#: What another try may read.
_PASSING: Final = frozenset({UnscannableReason.DETECTOR_FAILED, UnscannableReason.DETECTOR_TIMEOUT})


class ReadingCache:
    """Readings by content; the one that was used longest ago goes first. Safe across threads."""

    def __init__(self, max_weight: int = MAX_WEIGHT) -> None:
        self._key = secrets.token_bytes(32)
        self._max_weight = max_weight
        self._weight = 0
        self._readings: OrderedDict[bytes, Reading] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._readings)

    def digest(self, segment: Segment, versions: str) -> bytes:
        """The key of a text segment, for detectors of these ``versions``.

        Where a text stands may tell a detector what it is, so the place is part of the key; its
        position in a list is not, as conversations are cut at the front.
        """
        shape = re.sub(r"\[\d+\]", "[]", segment.path)
        hasher = hashlib.blake2b(key=self._key, digest_size=16)
        for part in (versions, shape, segment.role.value, segment.origin.value, segment.text or ""):
            data = part.encode("utf-8", "surrogatepass")
            hasher.update(len(data).to_bytes(8, "big") + data)
        return hasher.digest()

    def get(self, digest: bytes) -> Reading | None:
        """The reading kept under ``digest``, if any."""
        with self._lock:
            reading = self._readings.get(digest)
            if reading is not None:
                self._readings.move_to_end(digest)
            return reading

    def put(self, digest: bytes, reading: Reading) -> None:
        """Keep a reading, unless it is one of a failure that may pass."""
        if reading.reason in _PASSING:
            return
        with self._lock:
            if digest in self._readings:
                return
            self._readings[digest] = reading
            self._weight += _weight(reading)
            while self._weight > self._max_weight and self._readings:
                _, oldest = self._readings.popitem(last=False)
                self._weight -= _weight(oldest)


def _weight(reading: Reading) -> int:
    return 1 + len(reading.findings)
