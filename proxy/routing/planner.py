"""Which model is asked what, for a batch under a budget: a plan in place of a rule.

All questions are known beforehand, so the money can go where it is predicted to help most. For
each question and model a probability of being right is predicted from the local draft (every
signal, and the form of the question), and the assignment with the greatest sum within the budget
is found as an integer program: one model a question, costs at most the budget. Source: Liu, Zhang,
Miao, Le, Li, "OptLLM", arXiv 2405.15130, sections 3 and 4; solved by HiGHS (scipy) in place of its
heuristic, since one goal under one bound is a knapsack with choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from proxy.errors import SettingsError
from proxy.routing.ladder import Climb, Ladder
from proxy.routing.learned import LearnedModel
from proxy.routing.rows import Flags, Floats
from proxy.routing.training import train

_TIME_LIMIT_S: Final = 120.0
_GAP: Final = 1e-4

#: Questions that the solver plans one by one within its time; measured on one core.
_MANY: Final = 2_000

#: Of the interval that the price lies in: to the last bits of a double.
_HALVINGS: Final = 80

#: Five folds with a right and a wrong answer each.
_MIN_OF_EACH: Final = 5


def predict(seen: Ladder, asked: Ladder) -> Floats:
    """The probability that each model is right, shape ``(num_rows, num_models)``, of ``asked``.

    Learned from ``seen``: a model of trees for each, calibrated by Platt's method. Where all or
    none of a model's answers in ``seen`` are right, their share.
    """
    names = [str(number) for number in range(seen.features.shape[1])]
    learned = learn(seen.features, seen.right, names)
    columns = []
    for model, found in enumerate(learned):
        if found is None:
            columns.append(np.full(len(asked), float(seen.right[:, model].mean())))
            continue
        told = asked.features[:, [int(name) for name in found.features]]
        columns.append(np.array([found.probability(row) for row in told.tolist()]))
    return np.stack(columns, axis=1)


def learn(features: Floats, right: Flags, names: Sequence[str]) -> list[LearnedModel | None]:
    """A model of "the answer is right" for each column of ``right``, over the features that vary.

    Args:
        features: shape ``(num_rows, num_features)``, NaN: missing.
        right: shape ``(num_rows, num_models)``.
        names: of the features.

    Returns:
        None for a model of whose answers all or none are right, but for a few.
    """
    told = _telling(features)
    found: list[LearnedModel | None] = []
    for column in right.T:
        few = min(column.sum(), (~column).sum()) < _MIN_OF_EACH
        named = [names[place] for place in told]
        found.append(None if few else train(named, features[:, told], column, "boosting"))
    return found


def expected_usd(seen: Ladder, asked: Ladder) -> Floats:
    """What each answer is expected to cost, in US dollars, shape ``(num_rows, num_models)``.

    The prompt's part is known; for the rest stands the model's mean over ``seen``.
    """
    rest = (seen.cost_usd - seen.prompt_usd).mean(axis=0)
    return np.asarray(asked.prompt_usd + rest)


def assign(
    probability: Floats, cost_usd: Floats, budget_usd: float, time_limit_s: float = _TIME_LIMIT_S
) -> NDArray[np.int64]:
    """The model of each question, shape ``(num_rows,)``: most right answers within the budget.

    Args:
        probability: of being right, shape ``(num_rows, num_models)``.
        cost_usd: the cost of asking, same shape; the first model is free.
        budget_usd: for all questions together.
        time_limit_s: for the solver.

    Beyond `_MANY` questions, and where the solver finds nothing better in time, it is the plan by
    a price (`assign_by_price`), which misses the best by less than one question.

    Raises:
        SettingsError: the budget is below 0.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array, eye_array, kron

    if not budget_usd >= 0.0:
        raise SettingsError("--budget: a sum of 0 dollars or more")
    rows, models = probability.shape
    by_price = assign_by_price(probability, cost_usd, budget_usd)
    if rows > _MANY:
        return by_price
    one_each = kron(eye_array(rows), np.ones((1, models)), format="csr")
    scale = float(cost_usd.max()) or 1.0  # so that the solver's tolerance is not in dollars
    found = milp(
        -probability.ravel(),
        constraints=[
            LinearConstraint(one_each, 1.0, 1.0),
            LinearConstraint(
                csr_array(cost_usd.reshape(1, -1) / scale), -np.inf, budget_usd / scale
            ),
        ],
        integrality=np.ones(rows * models),
        bounds=Bounds(0.0, 1.0),
        options={"time_limit": time_limit_s, "mip_rel_gap": _GAP},
    )
    if found.x is None:
        return by_price
    solved = np.asarray(found.x.reshape(rows, models).argmax(axis=1), dtype=np.int64)
    every = np.arange(rows)
    better = probability[every, solved].sum() > probability[every, by_price].sum()
    return solved if better else by_price


def assign_by_price(probability: Floats, cost_usd: Floats, budget_usd: float) -> NDArray[np.int64]:
    """As `assign`, by the price of a dollar: each question goes where probability less price times
    cost is greatest.

    The price is the least that keeps the budget; what it leaves over goes to the questions that are
    next in line, while there is enough. Source: Sinha and Zoltners, "The Multiple-Choice Knapsack
    Problem", Operations Research 27 (1979): but for one question, the solution of the linear
    relaxation is whole.
    """
    every = np.arange(len(probability))

    def at(price: float) -> NDArray[np.int64]:
        return np.asarray((probability - price * cost_usd).argmax(axis=1), dtype=np.int64)

    def spent(plan: NDArray[np.int64]) -> float:
        return float(cost_usd[every, plan].sum())

    beyond = at(0.0)
    if spent(beyond) <= budget_usd:
        return beyond
    low, high = 0.0, 2.0 / float(cost_usd[cost_usd > 0].min())
    within = at(high)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        plan = at(middle)
        if spent(plan) > budget_usd:
            low, beyond = middle, plan
        else:
            high, within = middle, plan
    gain = probability[every, beyond] - probability[every, within]
    more = cost_usd[every, beyond] - cost_usd[every, within]
    left = budget_usd - spent(within)
    for row in sorted(np.flatnonzero(more > 0).tolist(), key=lambda row: -gain[row] / more[row]):
        if more[row] <= left:
            within[row] = beyond[row]
            left -= more[row]
    return within


def asked_once(ladder: Ladder, at: NDArray[np.int64]) -> Climb:
    """What comes of a plan: every question has its draft, and at most one cloud is asked."""
    every = np.arange(len(ladder))
    waited = np.where(at > 0, ladder.elapsed_ms[every, at], 0.0)
    return Climb(
        at,
        ladder.right[every, at],
        ladder.cost_usd[every, at],
        ladder.elapsed_ms[:, 0] + waited,
    )


def _telling(features: Floats) -> list[int]:
    """The columns that vary, each once: signals of a one-token answer are all the same."""
    columns = {features[:, number].tobytes(): number for number in range(features.shape[1])}
    return sorted(n for n in columns.values() if np.unique(features[:, n]).size > 1)
