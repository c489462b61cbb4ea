"""Every estimator by its name, against one draft that it can score and one that it cannot."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from proxy.errors import SettingsError
from proxy.routing.catalog import ESTIMATORS, LEARNED, build_estimator, threshold_of
from proxy.types import Confidence, Draft
from tests.factories import a_draft, a_request
from tests.fakes import FakeLocal

TOP = (("True", math.log(0.6)), ("False", math.log(0.2)))
DRAFT = replace(a_draft(), top_logprobs=(TOP, TOP))


async def estimate(
    name: str, draft: Draft, threshold: float | None = None, *, may_ask: bool = True
) -> Confidence:
    estimator = build_estimator(name, threshold, FakeLocal(DRAFT))
    return await estimator.estimate(a_request(), draft, may_ask=may_ask)


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != LEARNED])
async def test_an_estimator_scores_a_draft_under_its_name_and_start_threshold(name: str) -> None:
    confidence = await estimate(name, DRAFT)
    assert confidence.score is not None
    assert (confidence.estimator, confidence.threshold) == (name, threshold_of(name, None))


async def test_a_draft_below_the_threshold_is_low() -> None:
    assert (await estimate("mean_logprob", a_draft(logprobs=(-0.7,)), -0.6)).is_low
    assert not (await estimate("mean_logprob", a_draft(logprobs=(-0.6,)), -0.6)).is_low
    assert not (await estimate("mean_logprob", a_draft(logprobs=()), -0.6)).is_low


async def test_hedging_escalates_whatever_the_score_and_no_word_of_the_draft_is_told() -> None:
    confidence = await estimate("mean_logprob", a_draft("Zanzibar? I don't know."), -0.6)
    assert confidence.is_low
    assert confidence.score == pytest.approx(-0.2)
    assert confidence.doubts == ("hedge:i don't know",)


@pytest.mark.parametrize("name", ["p_true", "self_consistency"])
async def test_an_estimator_that_must_ask_and_may_not_is_unknown(name: str) -> None:
    assert (await estimate(name, DRAFT, may_ask=False)).score is None


@pytest.mark.parametrize(
    ("name", "threshold"),
    [("mean_logprob", 0.1), ("first_margin", -0.1), ("p_true", 1.1), ("min", math.nan)],
)
def test_a_threshold_no_score_can_reach_is_refused(name: str, threshold: float) -> None:
    with pytest.raises(SettingsError, match="CONFIDENCE_THRESHOLD"):
        threshold_of(name, threshold)


def test_an_unknown_estimator_is_refused_with_those_there_are() -> None:
    with pytest.raises(SettingsError, match="mean_logprob, min"):
        threshold_of("vibes", None)


def test_the_learned_estimator_needs_a_calibration() -> None:
    with pytest.raises(SettingsError, match="CALIBRATION_FILE"):
        build_estimator(LEARNED, None, FakeLocal())
