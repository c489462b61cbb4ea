"""The contract of a confidence estimator."""

from __future__ import annotations

from typing import Protocol

from proxy.types import Confidence, Draft


class ConfidenceEstimator(Protocol):
    """Scores a draft. Pure: no I/O, no clock, no settings."""

    def estimate(self, draft: Draft) -> Confidence:
        """Say how far ``draft`` is to be trusted; ``score`` is None when that is unknown."""
        ...
