"""Thrift: the less of a budget is left, the less sure a draft must be to stay at home.

While at least half of the tightest budget is left, the threshold is the one in force. From there
on the confidence that it asks for, as a probability, falls in proportion to what is left; at
nothing, nothing leaves.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from proxy.types import Confidence

#: Share of a budget down to which nothing is saved. Source: our choice.
AMPLE: Final = 0.5

#: Least share that counts: with less the threshold might be no number any more.
_LEAST: Final = 1e-9


def thrifty(confidence: Confidence, score_range: tuple[float, float], left: float) -> Confidence:
    """``confidence`` against the threshold for a budget of which the share ``left`` is left.

    Args:
        confidence: the draft's, against the threshold in force.
        score_range: the least and the most that its estimator's score can be.
        left: in [0, 1].
    """
    kept = min(max(left, _LEAST) / AMPLE, 1.0) if left > 0.0 else 0.0
    if kept >= 1.0 or kept <= 0.0:
        return confidence  # at nothing, the budget itself keeps the request at home
    threshold = lowered(confidence.threshold, score_range, kept)
    return replace(confidence, threshold=threshold, full_threshold=confidence.threshold)


def lowered(threshold: float, score_range: tuple[float, float], kept: float) -> float:
    """``threshold`` with ``kept`` in (0, 1] of the confidence it asks for.

    A score in [low, high] keeps that share of its way above low. A log-probability (or minus an
    entropy) is lowered by ``-ln kept``, which is the same for the probability; minus a perplexity,
    the inverse of a probability, is divided.
    """
    low, high = score_range
    if math.isfinite(low):
        return low + kept * (threshold - low)
    return threshold / kept if high < 0.0 else threshold + math.log(kept)
