"""The plan for a batch: against every plan there is, where there are few."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from proxy.errors import SettingsError
from proxy.routing.planner import asked_once, assign, assign_by_price, expected_usd, predict
from tests.proxy.routing.tables import a_ladder


def test_no_assignment_within_the_budget_is_better() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        probability = random.random((6, 3))
        cost = np.column_stack([np.zeros(6), random.random(6), 3 * random.random(6)])
        budget = float(random.uniform(0.0, 4.0))
        every = np.arange(6)
        best = max(
            float(probability[every, list(plan)].sum())
            for plan in itertools.product(range(3), repeat=6)
            if cost[every, list(plan)].sum() <= budget
        )
        found = assign(probability, cost, budget)
        assert cost[every, found].sum() <= budget + 1e-6
        assert probability[every, found].sum() == pytest.approx(best, rel=2e-4)


def test_a_plan_by_a_price_misses_the_best_by_less_than_one_question() -> None:
    random = np.random.default_rng(1)
    for rows in (1, 7, 60, 300):
        for _ in range(5):
            probability = random.random((rows, 3))
            probability[random.random(rows) < 0.2, 2] = -1.0  # may not go there
            cost = np.column_stack([np.zeros(rows), random.random(rows), 3 * random.random(rows)])
            budget = float(random.uniform(0.0, rows))
            every = np.arange(rows)
            best = probability[every, assign(probability, cost, budget)].sum()
            found = assign_by_price(probability, cost, budget)
            assert cost[every, found].sum() <= budget + 1e-9
            assert probability[every, found].sum() > best - 1.0
            assert (probability[every, found] >= 0).all()


def test_of_many_questions_that_are_alike_as_many_go_as_the_budget_bears() -> None:
    rows = 10_000
    probability, cost = np.tile([0.2, 0.6, 0.9], (rows, 1)), np.tile([0.0, 1.0, 10.0], (rows, 1))
    for budget in (0.0, 0.5, 1.0, 77.0, 5_000.5):
        found = assign(probability, cost, budget)
        assert (found == 1).sum() == int(budget)
        assert (found == 2).sum() == 0
    assert (assign(probability, cost, 1e6) == 2).all()
    assert (assign(probability, np.zeros((rows, 3)), 0.0) == 2).all()


def test_without_money_everything_stays_at_home() -> None:
    probability = np.array([[0.1, 0.9], [0.2, 0.9]])
    assert assign(probability, np.array([[0.0, 1.0], [0.0, 1.0]]), 0.0).tolist() == [0, 0]
    with pytest.raises(SettingsError, match="--budget"):
        assign(probability, np.zeros((2, 2)), -1.0)
    with pytest.raises(SettingsError, match="--budget"):
        assign(probability, np.zeros((2, 2)), float("nan"))


def test_a_plan_keeps_its_budget_and_beats_asking_at_random() -> None:
    known, asked = a_ladder(1000, seed=1), a_ladder(1000, seed=2)
    expected = expected_usd(known, asked)
    budget = 0.3 * float(asked.cost_usd[:, 2].sum())
    told = asked_once(asked, assign(predict(known, asked), expected, budget))
    assert told.cost_usd.sum() == pytest.approx(budget, rel=0.02)  # every model costs the same
    share = budget / asked.cost_usd[:, 2].sum()
    at_random = share * asked.right[:, 2].mean() + (1 - share) * asked.right[:, 0].mean()
    assert told.right.mean() > at_random + 0.05


def test_predictions_are_calibrated_on_rows_not_seen() -> None:
    known, asked = a_ladder(2000, seed=1), a_ladder(2000, seed=2)
    probability = predict(known, asked)
    assert probability.shape == (2000, 3)
    assert probability.mean(axis=0) == pytest.approx(asked.right.mean(axis=0), abs=0.03)
    sure = probability[:, 0] > 0.8
    assert asked.right[sure, 0].mean() == pytest.approx(probability[sure, 0].mean(), abs=0.05)


def test_what_the_completion_costs_is_not_looked_up() -> None:
    known, asked = a_ladder(100, seed=1), a_ladder(100, seed=2)
    doubled = asked.take(np.arange(100))
    doubled.cost_usd[:] *= 2
    assert (expected_usd(known, doubled) == expected_usd(known, asked)).all()
