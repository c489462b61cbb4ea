"""`ringfence evaluate --rungs`: several cloud models as a chain, and as a plan under a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from proxy.errors import SettingsError
from proxy.routing.artifact import weights_digest
from proxy.routing.calibration import CURVE_SHARES, PROMPT_FORM
from proxy.routing.chain import MAX_RUNGS, Chain, within_range
from proxy.routing.curve import curve
from proxy.routing.drift import spread_of
from proxy.routing.evaluation import Arm, interval
from proxy.routing.goals import Goal
from proxy.routing.ladder import Climb, Ladder, Thresholds, choose, climb, frontier, within
from proxy.routing.planner import asked_once, assign, expected_usd, predict
from proxy.routing.signals import SIGNALS
from proxy.settings import Settings

#: Budgets of the table, as shares of what asking the last model everything costs.
SHARES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True, slots=True)
class Parts:
    """A ladder in three parts: thresholds are found on one, tested on one, told of the last."""

    seen: Ladder
    tested: Ladder
    held_out: Ladder

    def only(self, models: Sequence[int]) -> Parts:
        """The parts of these models only."""
        return Parts(*(one.only(models) for one in (self.seen, self.tested, self.held_out)))

    @property
    def known(self) -> Ladder:
        """The rows whose answers may be looked at: all but those held out."""
        first, second = self.seen, self.tested
        return Ladder(
            first.names,
            *(
                np.concatenate([getattr(first, name), getattr(second, name)])
                for name in Ladder.__slots__[1:]
            ),
        )


@dataclass(frozen=True, slots=True)
class AtBudget:
    """Accuracy and dollars of each way at one budget; dollars are those really spent.

    ``planned`` and ``hindsight`` (a plan that knows every grade) are None where none was wanted.
    """

    budget_usd: float
    two: Climb
    rungs: Climb
    planned: Climb | None
    hindsight: Climb | None


def alone(ladder: Ladder) -> tuple[Arm, ...]:
    """Every model alone, asked everything."""
    return tuple(
        arm_of(
            name,
            Climb(
                np.full(len(ladder), model),
                ladder.right[:, model],
                ladder.cost_usd[:, model],
                ladder.elapsed_ms[:, model],
            ),
        )
        for model, name in enumerate(ladder.names)
    )


@dataclass(frozen=True, slots=True)
class Way:
    """Models in turn, with thresholds that keep a goal, and what they brought on held-out rows."""

    arm: Arm
    thresholds: Thresholds


def at_goal(parts: Parts, goal: Goal, error_rate: float) -> tuple[Way, ...]:
    """The two-tier hybrid and the whole chain, each with thresholds that keep ``goal``.

    A way that cannot be shown to keep it is left out.
    """
    last = len(parts.held_out.names) - 1
    ways = [parts.only((0, last))] + ([parts] if last > 1 else [])
    kept = []
    for way in ways:
        found = choose(goal, way.seen, way.tested, error_rate)
        if found is not None:
            told = climb(way.held_out, found)
            kept.append(Way(arm_of(way_name(way.held_out, found), told), found))
    return tuple(kept)


def chain_of(
    settings: Settings,
    parts: Parts,
    thresholds: Thresholds,
    wish: tuple[str, Goal, float],
    data_digest: str,
) -> Chain:
    """The artifact of a chain; its figures are those of the rows that tested it.

    Args:
        settings: for the local model and the estimator.
        parts: the rows; the models' names are those of the chain.
        thresholds: what `at_goal` found for the whole chain.
        wish: the goal in words, the goal, and the error rate.
        data_digest: digest of the file of the rows.

    Raises:
        SettingsError: these models make no chain.
    """
    tested, (words, goal, error_rate) = parts.tested, wish
    clouds = tested.names[1:]
    if len(clouds) > MAX_RUNGS or settings.local_model in clouds:
        raise SettingsError(
            f"--rungs-out: at most {MAX_RUNGS} cloud models, none named as the local one"
        )
    signal = SIGNALS[settings.estimator]
    held_to = tuple(within_range(one, signal) for one in thresholds)
    told, home = climb(tested, held_to), tested.score[:, 0]
    ordered = curve(np.where(np.isnan(home), np.inf, home), tested.right[:, 0], tested.right[:, -1])
    bounds, spread = spread_of([None if np.isnan(one) else float(one) for one in home])
    return Chain(
        model=settings.local_model,
        model_digest=weights_digest(settings),
        prompt_form=PROMPT_FORM,
        estimator=settings.estimator,
        threshold=held_to[0],
        goal=words,
        bound=goal.bound,
        delta=error_rate,
        num_rows=len(tested),
        data_digest=data_digest,
        expected_share=float(told.sent.mean()),
        expected_accuracy=float(told.right.mean()),
        curve=tuple((share, ordered.at(share)) for share in CURVE_SHARES),
        spread_bounds=bounds,
        spread_shares=spread,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        clouds=clouds,
        thresholds=held_to[1:],
        ends=tuple(float((told.at == model).mean()) for model in range(len(tested.names))),
        expected_usd=float(told.cost_usd.mean()),
    )


def at_budgets(parts: Parts, budgets: Sequence[float], *, plan: bool) -> list[AtBudget]:
    """Both rules, and with ``plan`` the planner, on the held-out rows at the same budgets.

    A rule gets the thresholds that were most accurate within the budget on the other rows; a plan
    sees what it costs in expectation. Both can therefore come out a little above or below.
    """
    known, asked = parts.known, parts.held_out
    last = len(asked.names) - 1
    two, whole = frontier(known.only((0, last))), frontier(known)
    probability = predict(known, asked) if plan else None
    expected = expected_usd(known, asked) if plan else None
    rows = []
    for budget in budgets:
        mean = budget / len(asked)
        planned = hindsight = None
        if probability is not None and expected is not None:
            planned = asked_once(asked, assign(probability, expected, budget))
            best = assign(asked.right.astype(np.float64), asked.cost_usd, budget)
            hindsight = asked_once(asked, best)
        rows.append(
            AtBudget(
                budget,
                climb(asked.only((0, last)), within(two, mean).thresholds),
                climb(asked, within(whole, mean).thresholds),
                planned,
                hindsight,
            )
        )
    return rows


def budgets_of(ladder: Ladder) -> list[float]:
    """The budgets of the table: `SHARES` of what asking the last model everything costs."""
    whole = float(ladder.cost_usd[:, -1].sum())
    return [share * whole for share in SHARES]


def arm_of(name: str, told: Climb) -> Arm:
    """A climb as a row of the table."""
    low, high = interval(int(told.right.sum()), len(told.right))
    return Arm(
        name=name,
        accuracy=float(told.right.mean()),
        low=low,
        high=high,
        sent=float(told.sent.mean()),
        cost_usd=float(told.cost_usd.sum()),
        mean_ms=float(told.elapsed_ms.mean()),
        median_ms=float(np.median(told.elapsed_ms)),
    )


def way_name(ladder: Ladder, thresholds: Thresholds) -> str:
    """The chain in words: each model and the threshold below which it is left."""
    steps = [
        f"{name} < {threshold:.3g}"
        for name, threshold in zip(ladder.names[:-1], thresholds, strict=True)
    ]
    return " > ".join((*steps, ladder.names[-1]))


def budget_rows(told: Sequence[AtBudget]) -> list[tuple[str, ...]]:
    """The cells of the table by budget, a heading first."""
    has_plan = bool(told) and told[0].planned is not None
    planned = ("plan", "spent", "in hindsight") if has_plan else ()
    rows: list[tuple[str, ...]] = [("budget", "two tiers", "spent", "rungs", "spent", *planned)]
    for one in told:
        ways = [one.two, one.rungs, *((one.planned,) if one.planned else ())]
        cells = [
            cell
            for way in ways
            for cell in (f"{way.right.mean():.1%}", f"${way.cost_usd.sum():.4f}")
        ]
        if one.hindsight is not None:
            cells.append(f"{one.hindsight.right.mean():.1%}")
        rows.append((f"${one.budget_usd:.4f}", *cells))
    return rows


def write_plot(path: Path, told: Sequence[AtBudget], arms: Sequence[Arm]) -> Path:
    """Accuracy over dollars spent, one line a way, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    ways = {"two tiers": "two", "rungs": "rungs", "plan": "planned"}
    for name, field in ways.items():
        climbs = [way for one in told if (way := getattr(one, field)) is not None]
        if climbs:
            spent = [float(way.cost_usd.sum()) for way in climbs]
            axes.plot(spent, [float(way.right.mean()) * 100 for way in climbs], "o-", label=name)
    for arm in arms:
        axes.plot(arm.cost_usd or 0.0, arm.accuracy * 100, "s", label=f"{arm.name} alone")
    axes.grid(alpha=0.3)
    axes.set(xlabel="cloud cost (US dollars)", ylabel="right answers (%)")
    axes.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path
