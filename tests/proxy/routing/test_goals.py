"""What an operator may wish, and what it means for a row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from proxy.errors import SettingsError
from proxy.routing.goals import GoalKind, read_goal, threshold_for
from proxy.routing.guarantee import grid
from proxy.routing.rows import Table
from tests.proxy.routing.tables import a_table

SURE, UNSURE, UNKNOWN = -0.1, -2.0, np.nan


def table(*rows: tuple[float, bool, bool]) -> Table:
    score, local, cloud = (np.array(column) for column in zip(*rows, strict=True))
    zeros = np.zeros(len(rows))
    return Table(score, zeros.astype(bool), local, cloud, zeros, zeros, zeros + 0.5)


ROWS = table(
    (SURE, True, False), (SURE, False, True), (UNSURE, False, True), (UNKNOWN, False, True)
)


@pytest.mark.parametrize(
    ("text", "kind", "bound"),
    [
        ("within 1% of cloud", GoalKind.WITHIN_CLOUD, 0.01),
        ("Within  0.5 % of the cloud", GoalKind.WITHIN_CLOUD, 0.005),
        ("accuracy at least 94%", GoalKind.ACCURACY, 0.94),
        ("cloud share at most 38%", GoalKind.CLOUD_SHARE, 0.38),
        ("cost at most $5 a day", GoalKind.DAILY_COST, 5.0),
    ],
)
def test_a_goal_is_read(text: str, kind: GoalKind, bound: float) -> None:
    goal = read_goal(text, requests_per_day=100, max_cost_usd=1)
    assert goal.kind is kind
    assert goal.bound == pytest.approx(bound)


@pytest.mark.parametrize(
    "text", ["as good as possible", "within 0% of cloud", "cloud share at most 100%", ""]
)
def test_what_is_no_goal_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        read_goal(text)


def test_a_cost_a_day_needs_the_traffic_and_holds_each_row_to_its_most() -> None:
    with pytest.raises(SettingsError, match="requests-per-day"):
        read_goal("cost at most $5 a day")
    goal = read_goal("cost at most $5 a day", requests_per_day=100, max_cost_usd=0.1)
    unknown = replace(a_table(), cost_usd=np.full(400, np.nan))
    with pytest.raises(SettingsError, match="no cost"):
        threshold_for(goal, unknown, [-1.0], 0.05)
    with pytest.raises(SettingsError, match="max-cost"):
        threshold_for(goal, ROWS, (-1.0,), 0.05)


@pytest.mark.parametrize(
    ("text", "losses"),
    [
        ("within 1% of cloud", [0.0, 1.0, 0.5, 1.0]),
        ("accuracy at least 94%", [0.0, 1.0, 0.0, 1.0]),
        ("cloud share at most 38%", [0.0, 0.0, 1.0, 1.0]),
        ("cost at most $5 a day", [0.0, 0.0, 0.5, 0.5]),
    ],
)
def test_a_row_loses_what_the_goal_says_and_an_unknown_one_counts_against_it(
    text: str, losses: list[float]
) -> None:
    goal = read_goal(text, requests_per_day=100, max_cost_usd=1)
    assert goal.losses(ROWS, -1.0).tolist() == losses


def test_a_doubt_escalates_whatever_the_threshold() -> None:
    doubted = Table(*(getattr(ROWS, name) for name in Table.__slots__))
    doubted.doubts[:] = True
    assert doubted.escalates(-np.inf).tolist() == [True, True, True, False]
    doubted.doubts[:] = False


def test_a_tighter_goal_sends_more_and_a_smaller_share_less() -> None:
    rows, points = a_table(2000), grid(-np.inf, 0)

    def sent(goal: str) -> float:
        threshold = threshold_for(read_goal(goal), rows, points, 0.05)
        assert threshold is not None
        return float(rows.escalates(threshold).mean())

    assert sent("within 2% of cloud") > sent("within 10% of cloud")
    assert sent("cloud share at most 20%") < sent("cloud share at most 40%") < 0.4


def test_no_threshold_comes_of_rows_without_a_known_confidence() -> None:
    rows, goal = a_table(1000), read_goal("cloud share at most 38%")
    none = replace(rows, score=np.full(1000, np.nan))
    with pytest.raises(SettingsError, match="no confidence to calibrate"):
        threshold_for(goal, none, grid(-np.inf, 0), 0.05)
    score = np.where(np.arange(1000) % 5 == 0, np.nan, rows.score)
    threshold = threshold_for(goal, replace(rows, score=score), grid(-np.inf, 0), 0.05)
    assert threshold is not None
    assert float(rows.escalates(threshold).mean()) < 0.38  # once all of them are known


def test_too_few_rows_show_nothing() -> None:
    assert (
        threshold_for(read_goal("within 1% of cloud"), a_table(20), grid(-np.inf, 0), 0.05) is None
    )
