"""Drift: whether the drafts of today are still like those that the threshold was calibrated on.

It looks at the last drafts only through their scores: how they spread over the tenths of the
calibration, and how many would escalate. Nothing of a request or a caller is kept.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from proxy.metrics import Metrics
from proxy.types import Confidence

log = structlog.get_logger()

#: Drafts that are looked at together, the fewest that say something, and how often that is done.
WINDOW: Final = 500
FEWEST: Final = 200
EVERY: Final = 50

#: Population stability index from which on two spreads differ, and below which they agree again.
#: Source: Siddiqi, "Credit Risk Scorecards", 2006: below 0.1 none, from 0.25 on a real shift.
PSI_RAISE: Final = 0.25
PSI_CLEAR: Final = 0.1

#: Difference of the escalated share, likewise. 500 drafts tell a share within 0.022 (1 sd).
SHARE_RAISE: Final = 0.1
SHARE_CLEAR: Final = 0.05

#: How many standard deviations chance alone may reach: few rows tell a spread badly, and an alarm
#: that their draw alone gives would never end. It ends again at less than `_QUIET` of that.
_SURPRISING: Final = 3.5
_QUIET: Final = 0.75


@dataclass(frozen=True, slots=True)
class Expected:
    """What the calibration saw on ``num_rows`` rows: how scores spread, and the share escalated.

    ``bounds`` and ``shares`` are those of `spread_of`.
    """

    bounds: tuple[float, ...]
    shares: tuple[float, ...]
    escalated: float
    num_rows: int

    def above(self, threshold: float) -> Expected:
        """The same with all scores below ``threshold`` in one, since a cut draft tells no more."""
        below = sum(bound < threshold for bound in self.bounds)
        first = sum(self.shares[: below + 1])
        rest = (first, *self.shares[below + 1 :])
        return Expected(self.bounds[below:], rest, self.escalated, self.num_rows)


@dataclass(frozen=True, slots=True)
class Drift:
    """How far the last drafts are off: ``psi`` from 0 on, ``share`` in [-1, 1].

    ``psi_chance`` and ``share_chance`` are how far off chance alone may put each of them.
    """

    psi: float
    share: float
    psi_chance: float = 0.0
    share_chance: float = 0.0

    @property
    def is_far(self) -> bool:
        """Whether the calibration no longer fits."""
        far = abs(self.share) >= max(SHARE_RAISE, self.share_chance)
        return far or self.psi >= max(PSI_RAISE, self.psi_chance)

    @property
    def is_near(self) -> bool:
        """Whether it fits again; between the two nothing changes."""
        near = abs(self.share) < max(SHARE_CLEAR, _QUIET * self.share_chance)
        return near and self.psi < max(PSI_CLEAR, _QUIET * self.psi_chance)


class DriftWatch:
    """Watches the drafts of one process; says so once when they drift, and once when they fit."""

    def __init__(self, expected: Expected, metrics: Metrics) -> None:
        self._expected = expected
        self._metrics = metrics
        self._seen: deque[tuple[float | None, bool]] = deque(maxlen=WINDOW)
        self._num_seen = 0
        self.has_drifted = False
        metrics.drifted(0.0, 0.0, fits=True)

    def saw(self, confidence: Confidence) -> None:
        """Take in a draft that may escalate; a budget's lower threshold does not count."""
        full = confidence.full_threshold
        threshold = confidence.threshold if full is None else full
        score = confidence.score
        is_low = score is not None and (score < threshold or bool(confidence.doubts))
        self._seen.append((score, is_low))
        self._num_seen += 1
        if len(self._seen) >= FEWEST and self._num_seen % EVERY == 0:
            self._look()

    def _look(self) -> None:
        found = drift_of(self._expected, self._seen)
        if found.is_far and not self.has_drifted:
            self.has_drifted = True
            log.warning("confidence_drifted", psi=round(found.psi, 3), share=round(found.share, 3))
        elif found.is_near and self.has_drifted:
            self.has_drifted = False
            log.info("confidence_fits_again", psi=round(found.psi, 3), share=round(found.share, 3))
        self._metrics.drifted(found.psi, found.share, fits=not self.has_drifted)


def drift_of(expected: Expected, seen: Sequence[tuple[float | None, bool]]) -> Drift:
    """How far drafts are off.

    Args:
        expected: what the calibration saw.
        seen: score (None: unknown) and whether it would escalate, of each draft; at least one.
    """
    found = Counter(_bin(expected.bounds, score) for score, _ in seen)
    num_seen, num_bins, psi = len(seen), len(expected.shares), 0.0
    for index, share in enumerate(expected.shares):
        # half a draft more in each bin, so that an empty one is rare and not impossible
        was = (share * num_seen + 0.5) / (num_seen + 0.5 * num_bins)
        now = (found[index] + 0.5) / (num_seen + 0.5 * num_bins)
        psi += (now - was) * math.log(now / was)
    share = sum(is_low for _, is_low in seen) / num_seen - expected.escalated
    return Drift(psi, share, *_by_chance(expected, num_seen))


def _by_chance(expected: Expected, num_seen: int) -> tuple[float, float]:
    """How far off the index and the share may be by the draw of rows and drafts alone.

    Between two samples of one distribution the index is nearly ``1/n + 1/m`` times a chi-squared
    variable of one degree less than there are bins (Yurdakul, "Statistical Properties of Population
    Stability Index", 2018), and the share's variance is ``p (1 - p) (1/n + 1/m)``.
    """
    room = 1.0 / max(expected.num_rows, 1) + 1.0 / num_seen
    degrees = max(sum(share > 0 for share in expected.shares) - 1, 1)
    p = min(max(expected.escalated, 0.5 / num_seen), 1.0 - 0.5 / num_seen)
    return (
        room * (degrees + _SURPRISING * math.sqrt(2.0 * degrees)),
        _SURPRISING * math.sqrt(p * (1.0 - p) * room),
    )


def spread_of(scores: Sequence[float | None]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """How scores (None: unknown) spread: bounds of tenths, and the share of all that each holds.

    Equal bounds are one, where many scores are the same; the last share is that of the unknown.
    """
    known = sorted(score for score in scores if score is not None)
    bounds = sorted({known[len(known) * tenth // 10] for tenth in range(1, 10)} if known else ())
    found = Counter(_bin(bounds, score) for score in scores)
    return tuple(bounds), tuple(found[index] / len(scores) for index in range(len(bounds) + 2))


def _bin(bounds: Sequence[float], score: float | None) -> int:
    return len(bounds) + 1 if score is None else bisect_right(bounds, score)
