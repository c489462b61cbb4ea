"""Drift: drafts like those of the calibration never alarm, others do, once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from structlog.testing import capture_logs

from proxy.metrics import Metrics
from proxy.routing.drift import WINDOW, Drift, DriftWatch, Expected, drift_of, spread_of
from proxy.types import Confidence
from tests.factories import a_confidence

RANDOM = np.random.default_rng(7)


def drafts(number: int, scale: float = 0.5, unknown: float = 0.0) -> list[Confidence]:
    scores = -RANDOM.exponential(scale, number)
    known = RANDOM.random(number) >= unknown
    return [a_confidence(float(s) if k else None) for s, k in zip(scores, known, strict=True)]


def expected(sample: list[Confidence]) -> Expected:
    share = sum(one.is_low for one in sample) / len(sample)
    return Expected(*spread_of([one.score for one in sample]), share, len(sample))


EXPECTED = expected(drafts(1000))


def watched(watch: DriftWatch, seen: list[Confidence]) -> list[object]:
    """The events that ``seen`` leads to."""
    with capture_logs() as logs:
        for one in seen:
            watch.saw(one)
    return [line["event"] for line in logs]


def test_the_spread_adds_up_and_knows_repeated_and_unknown_scores() -> None:
    bounds, shares = spread_of([0.0, 0.25, 0.25, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0, None])
    assert bounds == (0.0, 0.25, 0.5, 1.0)
    assert shares == pytest.approx((0.0, 0.1, 0.2, 0.3, 0.3, 0.1))
    assert spread_of([None, None]) == ((), (0.0, 1.0))
    same = Expected(*spread_of([0.5] * 300), 0.0, 300)
    assert drift_of(same, [(0.5, False)] * 300).psi == pytest.approx(0.0, abs=1e-9)


def test_drafts_like_the_calibrations_never_alarm() -> None:
    watch = DriftWatch(EXPECTED, Metrics())
    assert watched(watch, drafts(20_000)) == []


@pytest.mark.parametrize("num_rows", [40, 80, 150])
def test_a_calibration_of_few_rows_alarms_no_oftener_and_still_alarms(num_rows: int) -> None:
    """Its own draw is off by more than an index of 0.25, at half of all draws of 80 rows."""
    alarmed = [
        watched(DriftWatch(expected(drafts(num_rows)), Metrics()), drafts(2000)) != []
        for _ in range(20)
    ]
    assert sum(alarmed) <= 2
    for _ in range(5):
        watch = DriftWatch(expected(drafts(num_rows)), Metrics())
        assert "confidence_drifted" in watched(watch, drafts(WINDOW, 3.0))


@pytest.mark.parametrize(
    "seen",
    [drafts(WINDOW, 1.0), drafts(WINDOW, 0.2), drafts(WINDOW, unknown=0.4)],
    ids=["less sure", "surer", "unknown"],
)
def test_other_drafts_alarm_once_and_others_again_end_it(seen: list[Confidence]) -> None:
    metrics = Metrics()
    watch = DriftWatch(EXPECTED, metrics)
    assert watched(watch, seen) == ["confidence_drifted"]
    told = metrics.exposition()
    assert b"ringfence_calibration_fits 0.0" in told
    assert watched(watch, drafts(WINDOW)) == ["confidence_fits_again"]
    assert b"ringfence_calibration_fits 1.0" in metrics.exposition()


def test_nothing_is_said_of_a_few_drafts() -> None:
    assert watched(DriftWatch(EXPECTED, Metrics()), drafts(199, 9.0)) == []


def test_between_the_two_bounds_nothing_changes() -> None:
    assert Drift(0.3, 0.0).is_far
    assert Drift(0.0, -0.1).is_far
    for between in (Drift(0.2, 0.0), Drift(0.0, 0.07)):
        assert (between.is_far, between.is_near) == (False, False)


def test_a_threshold_that_a_budget_lowered_does_not_count() -> None:
    thrifty = [replace(one, threshold=-9.0, full_threshold=-0.6) for one in drafts(WINDOW)]
    assert watched(DriftWatch(EXPECTED, Metrics()), thrifty) == []


def test_the_beginning_of_a_draft_counts_as_what_it_is_below_the_threshold() -> None:
    """A cut draft's score is not the one it would have had, but on the same side of it."""
    coarse = EXPECTED.above(-0.6)
    assert sum(coarse.shares) == pytest.approx(1.0)
    assert len(coarse.shares) == len(coarse.bounds) + 2
    assert all(bound >= -0.6 for bound in coarse.bounds)
    seen = [
        replace(one, score=-9.0) if one.is_low and one.score is not None else one
        for one in drafts(WINDOW)
    ]
    assert watched(DriftWatch(coarse, Metrics()), seen) == []
    assert watched(DriftWatch(EXPECTED, Metrics()), seen) == ["confidence_drifted"]
