"""The paper's rule over drafts."""

from __future__ import annotations

import math

import pytest

from proxy.routing.logprob import MeanLogprobEstimator, mean_logprob
from tests.factories import a_draft


@pytest.mark.parametrize(
    ("logprobs", "expected"),
    [
        ((-0.5, -1.5), -1.0),
        ((0.0,), 0.0),
        ((), None),
        ((0.0, 0.0, 0.0), None),
        ((-0.5, math.nan), None),
        ((-0.5, math.inf), None),
        ((-math.inf, -0.5), None),
        ((0.7, -0.5), None),
    ],
)
def test_mean_is_taken_of_log_probabilities_that_can_be_trusted(
    logprobs: tuple[float, ...], expected: float | None
) -> None:
    assert mean_logprob(logprobs) == expected


def test_a_draft_below_the_threshold_is_low() -> None:
    estimator = MeanLogprobEstimator(-0.6)
    assert estimator.estimate(a_draft(logprobs=(-0.7,))).is_low
    assert not estimator.estimate(a_draft(logprobs=(-0.6,))).is_low
    assert not estimator.estimate(a_draft(logprobs=())).is_low


@pytest.mark.parametrize(
    "text",
    [
        "I don't know who did that.",
        "I DON\u2019T KNOW",
        "Well, I\u02bcm not sure.",
        "It is unclear from the text.",
    ],
)
def test_hedging_escalates_whatever_the_score(text: str) -> None:
    confidence = MeanLogprobEstimator(-0.6).estimate(a_draft(text, (-0.01, -0.01)))
    assert confidence.is_low
    assert confidence.doubts[0].startswith("hedge:")


def test_an_unknown_token_escalates() -> None:
    confidence = MeanLogprobEstimator(-0.6).estimate(a_draft("The <unk> river", (-0.01, -0.01)))
    assert confidence.doubts == ("special_token:<unk>",)
    assert confidence.is_low


@pytest.mark.parametrize("text", ["As I knowingly said", "Mimi don't knowledge", "The Volga."])
def test_other_words_are_no_hedge(text: str) -> None:
    assert MeanLogprobEstimator(-0.6).estimate(a_draft(text)).doubts == ()


def test_reasons_hold_no_word_of_the_draft() -> None:
    confidence = MeanLogprobEstimator(-0.6).estimate(a_draft("Zanzibar? I don't know.", (-0.9,)))
    assert confidence.reasons == ("mean_logprob -0.900 < -0.600", "hedge:i don't know")
