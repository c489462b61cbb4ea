"""The curve by which a threshold falls with what is left of a budget."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.routing.catalog import ESTIMATORS, range_of
from proxy.routing.thrift import thrifty
from proxy.types import Confidence
from tests.factories import a_confidence

LOGPROB = (-math.inf, 0.0)


@pytest.mark.parametrize(
    ("left", "threshold"),
    [(1.0, -0.6), (0.5, -0.6), (0.25, -0.6 + math.log(0.5)), (0.05, -0.6 + math.log(0.1))],
)
def test_the_curve_of_the_guide(left: float, threshold: float) -> None:
    assert thrifty(a_confidence(), LOGPROB, left).threshold == pytest.approx(threshold)


def test_other_ranges_fall_alike() -> None:
    shares = Confidence(0.3, 0.8, "p_true")
    assert thrifty(shares, (0.0, 1.0), 0.25).threshold == pytest.approx(0.4)
    inverse = Confidence(-3.0, -2.0, "answer_perplexity")
    assert thrifty(inverse, (-math.inf, -1.0), 0.25).threshold == pytest.approx(-4.0)


def test_a_draft_that_stays_for_thrift_alone_says_so() -> None:
    spared = thrifty(a_confidence(-0.9), LOGPROB, 0.25)
    assert (spared.is_low, spared.is_spared, spared.full_threshold) == (False, True, -0.6)
    assert not thrifty(a_confidence(-0.9), LOGPROB, 0.5).is_spared
    assert not thrifty(a_confidence(-0.2), LOGPROB, 0.25).is_spared  # it was sure anyway
    assert not thrifty(a_confidence(None), LOGPROB, 0.25).is_spared
    doubtful = Confidence(-0.9, -0.6, "mean_logprob", doubts=("hedge:i think",))
    assert thrifty(doubtful, LOGPROB, 0.25).is_low


@given(st.sampled_from(ESTIMATORS), st.floats(0, 1), st.floats(0, 1), st.floats(-20, 1))
def test_less_money_never_sends_more(name: str, one: float, other: float, score: float) -> None:
    low, high = range_of(name)
    threshold = high - 0.5
    less, more = sorted((one, other))
    given_ = Confidence(min(max(score, low), high), threshold, name)
    poor, rich = (thrifty(given_, (low, high), left) for left in (less, more))
    assert math.isfinite(poor.threshold)
    assert less == 0.0 or poor.threshold <= rich.threshold <= threshold
    assert less == 0.0 or not poor.is_low or rich.is_low
