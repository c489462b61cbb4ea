"""What log-probabilities say, number by number; and what is no evidence is never certainty."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.routing.signals import SIGNALS, WINDOW_TOKENS, Top
from proxy.types import Draft
from tests.factories import a_draft


def top_of(*probabilities: float) -> Top:
    return tuple((f"t{n}", math.log(p)) for n, p in enumerate(probabilities))


def scored(logprobs: tuple[float, ...], tokens: tuple[str, ...] = (), *tops: Top) -> Draft:
    draft = a_draft(logprobs=logprobs)
    return replace(draft, tokens=tokens or ("x",) * len(logprobs), top_logprobs=tops)


TWO = scored((-0.5, -1.5), (), top_of(0.6, 0.2, 0.1), top_of(0.2, 0.2))


@pytest.mark.parametrize(
    ("name", "draft", "expected"),
    [
        ("mean_logprob", TWO, -1.0),
        ("mean_logprob", scored((0.0,)), 0.0),
        ("min", TWO, -1.5),
        ("quantile_05", scored(tuple(-float(n) for n in range(21))), -19.0),
        ("quantile_10", scored((-1.0, -2.0)), -1.9),
        ("quantile_25", scored((-4.0, -1.0, -2.0, -3.0, 0.0)), -3.0),
        ("answer_perplexity", TWO, -math.e),
        (
            "answer_perplexity",
            scored((-9.0, -9.5, -0.5), ("So the ", "answer is", " 7")),
            -(math.e**0.5),
        ),
        ("answer_perplexity", scored((-9.0, -0.5), ("Yes. Answer:", "")), -math.exp(4.75)),
        ("answer_perplexity", scored((-9.0, -1.0, -3.0), ("####", " ", "42")), -math.exp(3.0)),
        ("first_margin", TWO, 0.4),
        ("mean_margin", TWO, 0.2),
        ("worst_window", scored((-1.0,) * 40 + (-2.0,) * WINDOW_TOKENS + (-1.0,) * 40), -2.0),
        ("worst_window", TWO, -1.0),
        ("tail_window", scored((-9.0,) * 5 + (-1.0,) * WINDOW_TOKENS), -1.0),
    ],
)
def test_a_signal_is_the_number_it_says(name: str, draft: Draft, expected: float) -> None:
    assert SIGNALS[name].of(draft) == pytest.approx(expected)


def test_entropy_counts_the_missing_mass_as_one_bin() -> None:
    sure = scored((-0.1,), (), top_of(0.5, 0.25))
    expected = 0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25)
    assert SIGNALS["entropy"].of(sure) == pytest.approx(expected)


def test_entropy_of_certainty_is_zero_and_never_above() -> None:
    over = scored((-1e-9,), (), (("a", 1e-9), ("b", -30.0)))
    assert SIGNALS["entropy"].of(over) == pytest.approx(0, abs=1e-6)


def test_no_perplexity_outweighs_all_others() -> None:
    impossible = SIGNALS["answer_perplexity"].of(scored((-9999.0, -0.1), ()))
    assert impossible is not None
    assert -1e9 < impossible < -1e6


@pytest.mark.parametrize(
    "logprobs",
    [
        (),
        (0.0, 0.0, 0.0),
        (-1.5, -1.5),
        (-0.5, math.nan),
        (-0.5, math.inf),
        (-math.inf, -0.5),
        (0.7, -0.5),
    ],
    ids=["none", "zeros", "constant", "nan", "inf", "-inf", "above zero"],
)
@pytest.mark.parametrize("name", SIGNALS)
def test_what_is_no_evidence_is_unknown(name: str, logprobs: tuple[float, ...]) -> None:
    tops = [top_of(0.9, 0.05)] * len(logprobs)
    assert SIGNALS[name].of(scored(logprobs, (), *tops)) is None


@pytest.mark.parametrize(
    "tops",
    [[], [top_of(0.9, 0.05)], [top_of(0.9, 0.05), top_of(0.9)]],
    ids=["none", "too few places", "one alternative"],
)
@pytest.mark.parametrize("name", [s.name for s in SIGNALS.values() if s.needs_top])
def test_without_alternatives_their_signals_are_unknown(name: str, tops: list[Top]) -> None:
    assert SIGNALS[name].of(scored((-0.5, -1.5), (), *tops)) is None


_LOGPROBS = st.lists(st.floats(-50, 0), min_size=1, max_size=60).map(tuple)


@given(logprobs=_LOGPROBS, cut=st.floats(0.34, 0.98))
def test_every_signal_stays_in_its_range(logprobs: tuple[float, ...], cut: float) -> None:
    tops = [top_of(cut, (1 - cut) / 2)] * len(logprobs)
    for signal in SIGNALS.values():
        score = signal.of(scored(logprobs, (), *tops))
        assert score is None or signal.low <= score <= signal.high + 1e-9
        assert signal.low <= signal.default_threshold <= signal.high
