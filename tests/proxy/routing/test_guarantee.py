"""The stated error rate holds, over many draws from populations whose truth is known."""

from __future__ import annotations

import os

import numpy as np
import pytest

from proxy.routing.goals import read_goal, threshold_for
from proxy.routing.guarantee import choose_threshold, grid, p_value
from tests.proxy.routing.tables import a_table

NUM_DRAWS = int(os.environ.get("RINGFENCE_TEST_DRAWS", "200"))
GRID = grid(-np.inf, 0, num=60)


@pytest.mark.parametrize(
    ("values", "weights"),
    [((0.0, 1.0), (0.9, 0.1)), ((0.0, 0.5, 1.0), (0.05, 0.85, 0.1)), ((0.1, 0.3), (0.5, 0.5))],
    ids=["yes or no", "against the cloud", "costs"],
)
def test_a_mean_just_above_its_limit_is_rejected_no_more_often_than_stated(
    values: tuple[float, ...], weights: tuple[float, ...]
) -> None:
    random = np.random.default_rng(1)
    limit = float(np.dot(values, weights)) - 1e-9
    draws = random.choice(values, size=(2000, 150), p=weights)
    rejected = sum(p_value(draw, limit) <= 0.1 for draw in draws)
    assert rejected <= 2000 * 0.1 + 3 * (2000 * 0.1 * 0.9) ** 0.5


@pytest.mark.parametrize("values", [(0.0, 1.0), (0.0, 0.5, 1.0), (0.1, 0.3, 0.2)])
def test_a_mean_well_below_its_limit_is_found(values: tuple[float, ...]) -> None:
    losses = np.resize(np.array(values), 2000)
    assert p_value(losses, float(losses.mean()) + 0.1) < 0.01


@pytest.mark.parametrize(
    "losses", [[], [1.5, 0.0], [-0.1, 0.0], [float("nan"), 0.0]], ids=["none", "up", "down", "nan"]
)
def test_losses_that_are_none_show_nothing(losses: list[float]) -> None:
    assert p_value(np.array(losses, dtype=np.float64), 0.9) == 1.0


def test_the_walk_ends_at_the_first_that_cannot_be_rejected() -> None:
    losses = {3.0: 0.0, 2.0: 1.0, 1.0: 0.0}
    chosen = choose_threshold((3.0, 2.0, 1.0), lambda t: np.full(100, losses[t]), 0.2, 0.05)
    assert chosen == 3.0
    assert choose_threshold((2.0,), lambda t: np.full(100, losses[t]), 0.2, 0.05) is None


@pytest.mark.parametrize(("low", "high"), [(-np.inf, 0.0), (-np.inf, -1.0), (0.0, 1.0)])
def test_a_grid_ascends_over_its_range(low: float, high: float) -> None:
    points = grid(low, high)
    assert list(points) == sorted(set(points))
    assert points[-1] == high
    assert all(low <= point <= high for point in points)


@pytest.mark.parametrize(
    "goal", ["within 5% of cloud", "accuracy at least 85%", "cloud share at most 38%"]
)
def test_the_chosen_threshold_misses_its_goal_no_more_often_than_stated(goal: str) -> None:
    population, wanted, delta = a_table(20_000), read_goal(goal), 0.1
    random = np.random.default_rng(7)
    missed = chosen = 0
    for _ in range(NUM_DRAWS):
        drawn = population.take(random.integers(0, len(population), 500))
        threshold = threshold_for(wanted, drawn, GRID, delta)
        if threshold is not None:
            chosen += 1
            missed += float(wanted.losses(population, threshold).mean()) > wanted.limit
    assert chosen > NUM_DRAWS * 0.9
    assert missed <= NUM_DRAWS * delta + 3 * (NUM_DRAWS * delta * (1 - delta)) ** 0.5
