"""A draft is given up only where its route is settled: whatever follows, it escalates."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.routing.doom import EarlyExit, doom_of
from proxy.routing.signals import SIGNALS
from tests.factories import a_draft, a_request
from tests.fakes import FakeLocal

BOUNDED = ("mean_logprob", "min", "quantile_05", "quantile_10", "quantile_25")
MOST = 40


def score_of(name: str, logprobs: list[float]) -> float | None:
    return SIGNALS[name].score(a_request(), a_draft("x", tuple(logprobs)))


def given_up_at(name: str, threshold: float, logprobs: list[float], most: int = MOST) -> int | None:
    doomed = doom_of(name, threshold, {"max_tokens": most})
    assert doomed is not None
    return next((n for n, one in enumerate(logprobs, 1) if doomed(one)), None)


@pytest.mark.parametrize("name", BOUNDED)
def test_two_thousand_drafts_take_the_same_routes_with_and_without(name: str) -> None:
    chance = random.Random(7)  # noqa: S311  (a test)
    num_cut = 0
    for _ in range(2000):
        mean = chance.choice([0.05, 0.3, 1.0, 3.0])
        logprobs = [-chance.expovariate(1 / mean) for _ in range(chance.randint(1, MOST))]
        threshold = -chance.uniform(0.05, 4.0)
        at = given_up_at(name, threshold, logprobs)
        if at is not None:
            num_cut += 1
            for part in (logprobs, logprobs[:at]):
                score = score_of(name, part)
                assert score is not None
                assert score < threshold
    assert num_cut > 200


@given(
    st.sampled_from(BOUNDED),
    st.lists(st.floats(-20, 0), min_size=1, max_size=MOST),
    st.integers(0, MOST),
    st.floats(-10, -0.001),
)
@settings(max_examples=300)
def test_no_end_however_sure_would_have_stayed(
    name: str, logprobs: list[float], more: int, threshold: float
) -> None:
    at = given_up_at(name, threshold, logprobs)
    if at is not None:
        sure = logprobs[:at] + [0.0] * min(more, MOST - at)
        score = score_of(name, sure)
        assert score is not None
        assert score < threshold


def test_it_is_given_up_as_soon_as_that_can_be_known() -> None:
    # ten tokens at most, a mean of at least -1: a sum below -10 is lost
    assert given_up_at("mean_logprob", -1.0, [-3.0, -3.5, -3.4, -0.2], most=10) == 4
    assert given_up_at("mean_logprob", -1.0, [-3.0, -3.5, -3.4], most=10) is None
    assert given_up_at("min", -2.0, [-0.1, -2.5], most=10) == 2


def test_what_might_be_unknown_is_not_given_up() -> None:
    """Constant log-probabilities are no evidence; such a draft stays at home."""
    assert given_up_at("mean_logprob", -1.0, [-9.0] * 20) is None
    assert score_of("mean_logprob", [-9.0] * 20) is None
    assert given_up_at("mean_logprob", -1.0, [-9.0] * 20 + [-8.0]) == 21


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("mean_logprob", {}),
        ("mean_logprob", {"max_tokens": "x"}),
        ("mean_logprob", {"max_tokens": 5, "max_completion_tokens": "x"}),
        ("quantile_05", {"max_tokens": None}),
        ("tail_window", {"max_tokens": 5}),
        ("entropy", {"max_tokens": 5}),
        ("p_true", {"max_tokens": 5}),
        ("learned", {"max_tokens": 5}),
    ],
)
def test_where_nothing_bounds_the_score_nothing_is_watched(
    name: str, body: dict[str, object]
) -> None:
    assert doom_of(name, -1.0, body) is None  # type: ignore[arg-type]


def test_the_larger_of_two_limits_counts_and_min_needs_none() -> None:
    doomed = doom_of("mean_logprob", -1.0, {"max_tokens": 2, "max_completion_tokens": 9})
    assert doomed is not None
    assert [doomed(-4.0), doomed(-4.5)] == [False, False]
    assert doom_of("min", -1.0, {}) is not None


def test_a_budget_that_runs_low_makes_it_wait_longer() -> None:
    class Watched(FakeLocal):
        async def generate_until(self, request: object, doomed: object) -> object:
            raise AssertionError

    early = EarlyExit(Watched(), "mean_logprob", -1.0)  # type: ignore[arg-type]
    rich, poor = (early.doom({"max_tokens": 2}, left) for left in (1.0, 0.25))
    assert rich is not None
    assert poor is not None
    between = -2 * (1.0 + math.log(2)) + 0.1  # a mean between the two thresholds
    assert [(rich(one), poor(one)) for one in (-0.1, between + 0.1)] == [
        (False, False),
        (True, False),
    ]
