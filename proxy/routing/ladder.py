"""A chain of models on record, each with a threshold of its own: local, a cheap cloud, a dear one.

A question climbs from one model to the next while the answer in hand is below that model's
threshold. Source: Chen, Zaharia, Zou, "FrugalGPT", arXiv 2305.05176, section 3 (LLM cascade), with
our estimators in place of its learned scorer.

How the thresholds are chosen, with a guarantee: one part of the rows gives the combinations that
none beats in accuracy and money at once; another part tests these, from the safest on, as
`proxy.routing.guarantee` does. Source: Angelopoulos et al., arXiv 2110.01052 (split fixed-sequence
testing); Laufer-Goldshtein et al., "Efficiently Controlling Multiple Risks with Pareto Testing",
arXiv 2210.07913.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from proxy.errors import SettingsError
from proxy.prices import Prices
from proxy.routing.collect import cost_of, graded_right, number_of, recorded_draft
from proxy.routing.doubts import doubts_of
from proxy.routing.features import FEATURES
from proxy.routing.goals import Goal, GoalKind
from proxy.routing.guarantee import choose_threshold
from proxy.routing.rows import Flags, Floats, Graded, Item
from proxy.routing.signals import Signal

#: One threshold for each model but the last.
Thresholds = tuple[float, ...]

#: Combinations of thresholds that are tried; more models get a coarser grid.
_MAX_COMBINATIONS: Final = 4096


@dataclass(frozen=True, slots=True)
class Ladder:
    """What each model made of each question; the columns are the models, the local one first.

    ``score``, ``doubts``, ``right``, ``cost_usd``, ``prompt_usd`` and ``elapsed_ms`` have shape
    ``(num_rows, num_models)``. A score that is unknown is NaN. ``prompt_usd`` is the part of the
    cost that is known before a model is asked, 0 where it is not known. ``features`` are what a
    prediction may look at before any cloud is asked, shape ``(num_rows, num_features)``, NaN:
    missing.
    """

    names: tuple[str, ...]
    score: Floats
    doubts: Flags
    right: Flags
    cost_usd: Floats
    prompt_usd: Floats
    elapsed_ms: Floats
    features: Floats

    def __len__(self) -> int:
        return len(self.right)

    def take(self, rows: NDArray[np.int64]) -> Ladder:
        """The ladder of these rows only."""
        return Ladder(self.names, *(getattr(self, name)[rows] for name in self.__slots__[1:]))

    def only(self, models: Sequence[int]) -> Ladder:
        """The ladder of these models only."""
        wide = {name: getattr(self, name)[:, list(models)] for name in self.__slots__[1:-1]}
        return replace(self, names=tuple(self.names[m] for m in models), **wide)


@dataclass(frozen=True, slots=True)
class Climb:
    """How far each question goes; all of shape ``(num_rows,)``. ``at`` is the model that answers.

    The cost and the time are those of every model that was asked on the way.
    """

    at: NDArray[np.int64]
    right: Flags
    cost_usd: Floats
    elapsed_ms: Floats

    @property
    def sent(self) -> Flags:
        """Which questions left at all."""
        return self.at > 0


def climb(ladder: Ladder, thresholds: Thresholds) -> Climb:
    """Where each question ends.

    An unknown score keeps a question at home, as the proxy does: unknown is not low. Behind the
    first egress it goes on: the text has left, and an answer that nobody can judge is not taken
    for a sure one.
    """
    rows, models = ladder.right.shape
    at = np.zeros(rows, dtype=np.int64)
    goes = np.ones(rows, dtype=bool)
    for model, threshold in zip(range(models - 1), thresholds, strict=True):
        score = ladder.score[:, model]
        unknown = np.isnan(score)
        low = (score < threshold) | ladder.doubts[:, model]
        goes &= np.where(unknown, model > 0, low)
        at[goes] = model + 1
    asked = np.arange(models) <= at[:, None]
    every = np.arange(rows)
    return Climb(
        at,
        ladder.right[every, at],
        np.where(asked, ladder.cost_usd, 0.0).sum(axis=1),
        np.where(asked, ladder.elapsed_ms, 0.0).sum(axis=1),
    )


@dataclass(frozen=True, slots=True)
class Point:
    """Thresholds and what they bring: dollars a question, and the accuracy."""

    thresholds: Thresholds
    mean_usd: float
    accuracy: float


def frontier(ladder: Ladder) -> tuple[Point, ...]:
    """The combinations that no other beats on these rows, from the cheapest to the dearest."""
    models = len(ladder.names)
    size = max(int(_MAX_COMBINATIONS ** (1 / (models - 1))), 4)
    grids = [_grid(ladder.score[:, model], min(size, 200)) for model in range(models - 1)]
    points = []
    for thresholds in itertools.product(*grids):
        told = climb(ladder, thresholds)
        points.append(Point(thresholds, float(told.cost_usd.mean()), float(told.right.mean())))
    points.sort(key=lambda point: (point.mean_usd, -point.accuracy))
    kept: list[Point] = []
    for point in points:
        if not kept or point.accuracy > kept[-1].accuracy:
            kept.append(point)
    return tuple(kept)


def within(points: Sequence[Point], mean_usd: float) -> Point:
    """The most accurate point that costs at most ``mean_usd`` a question, else the cheapest."""
    return max(
        (point for point in points if point.mean_usd <= mean_usd),
        key=lambda point: point.accuracy,
        default=points[0],
    )


def choose(goal: Goal, seen: Ladder, tested: Ladder, error_rate: float) -> Thresholds | None:
    """The cheapest thresholds of ``seen``'s frontier that ``tested`` shows to keep ``goal``.

    For a goal in money or in share they are the most accurate ones. They miss the goal with
    probability at most ``error_rate``, if the rows of ``tested`` are drawn like those to come.
    None: not even the safest can be shown to keep it.

    Raises:
        SettingsError: a question costs more than the goal says that one can.
    """
    if goal.kind is GoalKind.DAILY_COST and tested.cost_usd.sum(axis=1).max() > goal.max_cost_usd:
        raise SettingsError("--max-cost: a row of the data costs more, all models together")

    unknown = np.isnan(tested.score[:, 0]) & (not goal.prefers_cloud)  # counts as sent: `Goal`
    whole_usd = tested.cost_usd.sum(axis=1)

    def losses(thresholds: Thresholds) -> Floats:
        told = climb(tested, thresholds)
        cost_usd = np.where(unknown, whole_usd, told.cost_usd)
        return goal.losses_of(told.right, tested.right[:, -1], told.sent | unknown, cost_usd)

    ordered = [point.thresholds for point in frontier(seen)]
    if goal.prefers_cloud:
        ordered.reverse()
    return choose_threshold(ordered, losses, goal.limit, error_rate)


def _grid(score: Floats, size: int) -> tuple[float, ...]:
    """Never, always, and even steps through the scores that are there."""
    known = score[~np.isnan(score)]
    steps = np.quantile(known, np.linspace(0.0, 1.0, size - 1)) if known.size else np.zeros(0)
    return (-np.inf, *np.unique(steps).tolist(), np.inf)


def parts_of(ids: Sequence[str], salt: str = "") -> tuple[NDArray[np.int64], ...]:
    """Rows that choose, rows that test, rows held out: a quarter, a quarter, a half, by id."""
    side = np.array([hashlib.sha256(f"{salt}{name}".encode()).digest()[0] % 4 for name in ids])
    return tuple(np.flatnonzero(np.isin(side, part)) for part in ((0,), (1,), (2, 3)))


def ladder_of(
    items: Sequence[Item],
    graded: Sequence[Graded],
    models: Sequence[str],
    prices: Prices,
    signal: Signal,
) -> Ladder:
    """The ladder of the local answers, as graded, and of ``models`` on record, in this order.

    Args:
        items: the questions, with an answer of each model on record.
        graded: the same questions with the local answer's grade.
        models: cloud models, the cheapest first.
        prices: for answers with tokens and no cost on record.
        signal: what scores the clouds' answers.

    Raises:
        SettingsError: a row has no answer of a model, or nobody knows what one cost.
    """
    if len(set(models)) < len(models) or not models or not items:
        raise SettingsError("--rungs: name each cloud model once, and give rows")
    columns = [_column(items, model, prices, signal) for model in models]
    home = [(_known(g.score), g.has_doubts, g.local_correct, 0, 0, g.local_ms) for g in graded]
    table = np.stack([np.array(home, dtype=np.float64), *columns], axis=1)
    return Ladder(
        ("local", *models),
        score=table[:, :, 0],
        doubts=table[:, :, 1] > 0,
        right=table[:, :, 2] > 0,
        cost_usd=table[:, :, 3],
        prompt_usd=table[:, :, 4],
        elapsed_ms=table[:, :, 5],
        features=_features(items, graded),
    )


def _column(items: Sequence[Item], model: str, prices: Prices, signal: Signal) -> Floats:
    """Score, doubts, grade, cost, the prompt's part of it and ms, shape ``(num_rows, 6)``."""
    rows = []
    for item in items:
        record = item.answer_of(model)
        if record is None:
            raise SettingsError(f"{item.id}: no answer of this model on record: {model}")
        cost = cost_of(record, prices)
        if cost is None:
            raise SettingsError(
                f"{item.id}: nobody knows what {model} cost: record cost_usd, or tokens with "
                "RINGFENCE_PRICES_FILE"
            )
        prompt = cost_of({**record, "cost_usd": None, "completion_tokens": 0}, prices)
        draft = recorded_draft(record)
        rows.append(
            (
                _known(signal.of(draft)),
                float(bool(doubts_of(draft))),
                float(graded_right(record, draft.text, item)),
                cost,
                0.0 if record.get("cost_usd") is not None or prompt is None else prompt,
                number_of(record, "elapsed_ms"),
            )
        )
    return np.array(rows, dtype=np.float64)


def _features(items: Sequence[Item], graded: Sequence[Graded]) -> Floats:
    """The features of the draft and a column for each kind of question."""
    missing = (None,) * len(FEATURES)
    kinds = sorted({item.kind for item in items})
    return np.array(
        [
            [
                *(_known(value) for value in row.features or missing),
                *(float(item.kind == kind) for kind in kinds),
            ]
            for item, row in zip(items, graded, strict=True)
        ],
        dtype=np.float64,
    )


def _known(value: float | None) -> float:
    return np.nan if value is None else float(value)
