"""A chain of models: where a question ends, what that costs, and thresholds that keep a goal."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from proxy.errors import SettingsError
from proxy.prices import Price, Prices
from proxy.routing.goals import read_goal
from proxy.routing.ladder import Ladder, choose, climb, frontier, ladder_of, parts_of, within
from proxy.routing.rows import Graded, Item
from proxy.routing.signals import SIGNALS
from tests.proxy.routing.tables import a_ladder

SURE, UNSURE, UNKNOWN = -0.1, -2.0, np.nan


def chain(*rows: tuple[float, float]) -> Ladder:
    """Rows of the local and the cheap cloud's score; the models cost 0, 1 and 10."""
    score = np.array([[local, cheap, SURE] for local, cheap in rows])
    flags = np.zeros(score.shape, dtype=bool)
    costs = np.tile([0.0, 1.0, 10.0], (len(rows), 1))
    right = flags | np.array([False, False, True])
    return Ladder(
        ("local", "cheap", "dear"), score, flags, right, costs, costs * 0, costs * 100, costs
    )


def test_a_question_climbs_while_the_answer_in_hand_is_unsure() -> None:
    told = climb(chain((SURE, UNSURE), (UNSURE, SURE), (UNSURE, UNSURE)), (-1.0, -1.0))
    assert told.at.tolist() == [0, 1, 2]
    assert told.cost_usd.tolist() == [0.0, 1.0, 11.0]
    assert told.elapsed_ms.tolist() == [0.0, 100.0, 1100.0]
    assert told.right.tolist() == [False, False, True]
    assert told.sent.tolist() == [False, True, True]


def test_an_unknown_score_stays_at_home_and_goes_on_behind_the_first_egress() -> None:
    told = climb(chain((UNKNOWN, UNSURE), (UNSURE, UNKNOWN)), (np.inf, -np.inf))
    assert told.at.tolist() == [0, 2]


def test_doubts_go_on_whatever_the_score() -> None:
    rows = chain((SURE, SURE), (UNKNOWN, SURE))
    doubts = np.array([[True, False, False], [True, False, False]])
    assert climb(replace(rows, doubts=doubts), (-1.0, -1.0)).at.tolist() == [1, 0]


def test_with_one_cloud_it_is_the_rule_of_two_tiers() -> None:
    ladder = a_ladder(500)
    told = climb(ladder.only((0, 2)), (-0.4,))
    sent = ladder.score[:, 0] < -0.4
    assert (told.sent == sent).all()
    assert (told.right == np.where(sent, ladder.right[:, 2], ladder.right[:, 0])).all()
    assert told.cost_usd.sum() == pytest.approx(ladder.cost_usd[sent, 2].sum())


def test_no_point_of_the_frontier_is_beaten_by_another() -> None:
    ladder = a_ladder(600)
    points = frontier(ladder)
    costs, accuracies = zip(*((p.mean_usd, p.accuracy) for p in points), strict=True)
    assert list(costs) == sorted(set(costs))
    assert list(accuracies) == sorted(set(accuracies))
    assert points[0].mean_usd == 0.0
    for point in points:
        told = climb(ladder, point.thresholds)
        assert told.right.mean() == pytest.approx(point.accuracy)
    dearest = within(points, 1e9)
    assert dearest == points[-1]
    assert within(points, points[1].mean_usd) == points[1]
    assert within(points[1:], 0.0) == points[1]  # nothing is cheap enough: the cheapest


def test_a_cheap_model_that_knows_when_it_is_right_beats_two_tiers_at_the_same_cost() -> None:
    known, held_out = a_ladder(2000, seed=1), a_ladder(2000, seed=2)
    two, whole = frontier(known.only((0, 2))), frontier(known)
    budget = 0.3 * held_out.cost_usd[:, 2].mean()
    by_two = climb(held_out.only((0, 2)), within(two, budget).thresholds)
    by_rungs = climb(held_out, within(whole, budget).thresholds)
    assert by_rungs.right.mean() > by_two.right.mean() + 0.03
    assert by_rungs.cost_usd.mean() < 1.05 * budget


@pytest.mark.parametrize(
    "words", ["within 5% of cloud", "accuracy at least 80%", "cloud share at most 30%"]
)
def test_the_goal_is_missed_no_more_often_than_the_error_rate_says(words: str) -> None:
    goal = read_goal(words)
    truth = a_ladder(4000, seed=9)
    random = np.random.default_rng(4)
    missed = 0
    for _ in range(20):
        seen, tested = (truth.take(random.integers(0, len(truth), 300)) for _ in range(2))
        found = choose(goal, seen, tested, 0.1)
        if found is None:
            continue
        told = climb(truth, found)
        losses = goal.losses_of(told.right, truth.right[:, -1], told.sent, told.cost_usd)
        missed += float(losses.mean()) > goal.limit
    assert missed <= 6  # of 20 at 10 %: more has a probability of 0.2 %


def test_a_goal_in_dollars_counts_every_model_that_was_asked() -> None:
    goal = read_goal("cost at most $1 a day", requests_per_day=100, max_cost_usd=0.011)
    ladder = a_ladder(400)
    found = choose(goal, ladder, a_ladder(400, seed=3), 0.05)
    assert found is not None
    assert climb(ladder, found).cost_usd.mean() < 0.01
    tight = replace(goal, max_cost_usd=0.0105)  # the dear one alone costs 0.01
    with pytest.raises(SettingsError, match="--max-cost"):
        choose(tight, ladder, a_ladder(400, seed=3), 0.05)


def test_a_goal_that_no_thresholds_can_be_shown_to_keep_has_none() -> None:
    goal = read_goal("accuracy at least 99%")
    assert choose(goal, a_ladder(200), a_ladder(200, seed=1), 0.05) is None


def test_the_parts_share_no_row_and_miss_none() -> None:
    parts = parts_of([f"q{n}" for n in range(1000)])
    rows = np.concatenate(parts)
    assert sorted(rows.tolist()) == list(range(1000))
    for part, share in zip(parts, (0.25, 0.25, 0.5), strict=True):
        assert len(part) / 1000 == pytest.approx(share, abs=0.05)


def an_item(**cheap: object) -> Item:
    known = {"model": "cheap", "answer": "yes", "cost_usd": 0.5, **cheap}
    dear = {"model": "dear", "answer": "no", "cost_usd": 2}
    return Item("q1", "?", ("yes",), cloud=dear, clouds=(known,))


HOME = Graded("q1", -0.3, False, True, local_ms=7.0)
MEAN = SIGNALS["mean_logprob"]


def test_the_ladder_is_read_from_answers_on_record() -> None:
    logprobs = {"content": [{"token": "y", "logprob": -0.5}, {"token": "es", "logprob": -0.1}]}
    item = an_item(logprobs=logprobs, elapsed_ms=40)
    ladder = ladder_of([item], [HOME], ["cheap", "dear"], Prices(), MEAN)
    assert ladder.names == ("local", "cheap", "dear")
    assert ladder.right.tolist() == [[True, True, False]]
    assert ladder.cost_usd.tolist() == [[0.0, 0.5, 2.0]]
    assert ladder.elapsed_ms.tolist() == [[7.0, 40.0, 0.0]]
    assert ladder.score[0, :2] == pytest.approx([-0.3, -0.3])
    assert np.isnan(ladder.score[0, 2])  # no log-probabilities: unknown


def test_tokens_are_priced_and_the_prompt_is_known_beforehand() -> None:
    prices = Prices({"there": {"cheap": Price(input=Decimal("0.1"), output=Decimal("0.2"))}})
    item = an_item(cost_usd=None, prompt_tokens=1000, completion_tokens=500)
    ladder = ladder_of([item], [HOME], ["cheap"], prices, MEAN)
    assert ladder.cost_usd.tolist() == [[0.0, pytest.approx(0.2)]]
    assert ladder.prompt_usd.tolist() == [[0.0, pytest.approx(0.1)]]


def test_what_is_not_on_record_is_said() -> None:
    with pytest.raises(SettingsError, match="no answer of this model"):
        ladder_of([an_item()], [HOME], ["cheap", "other"], Prices(), MEAN)
    with pytest.raises(SettingsError, match="nobody knows what cheap cost"):
        ladder_of([an_item(cost_usd=None)], [HOME], ["cheap"], Prices(), MEAN)
    with pytest.raises(SettingsError, match="once"):
        ladder_of([an_item()], [HOME], ["cheap", "cheap"], Prices(), MEAN)
