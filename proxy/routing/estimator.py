"""The contract of a confidence estimator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from proxy.routing.doubts import doubts_of
from proxy.types import Confidence, Draft, Request

#: Scores a draft by itself and the question: pure, no I/O, no clock, no settings. Higher is surer;
#: None where it is unknown.
Score = Callable[[Request, Draft], float | None]


class ConfidenceEstimator(Protocol):
    """Says how far a draft is to be trusted."""

    async def estimate(self, request: Request, draft: Draft, *, may_ask: bool) -> Confidence:
        """Score ``draft``; ``score`` is None when it is unknown.

        Args:
            request: what was asked.
            draft: the local answer to it.
            may_ask: whether further calls of the local model are worth it; they are not where the
                route does not depend on the score. An estimator that needs them says unknown then.
        """
        ...


@dataclass(frozen=True, slots=True)
class PureEstimator:
    """The estimator around a pure score; it never waits."""

    name: str
    score: Score
    threshold: float
    calibration_id: str | None = None

    async def estimate(self, request: Request, draft: Draft, *, may_ask: bool) -> Confidence:
        """Score ``draft``; see `ConfidenceEstimator`."""
        return Confidence(
            score=self.score(request, draft),
            threshold=self.threshold,
            estimator=self.name,
            calibration_id=self.calibration_id,
            doubts=doubts_of(draft),
        )
