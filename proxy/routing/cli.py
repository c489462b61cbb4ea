"""`ringfence calibrate` and `ringfence evaluate`: a threshold with a guarantee, and its worth."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table as RichTable

from proxy.errors import SettingsError
from proxy.prices import load_prices
from proxy.routing.artifact import weights_digest
from proxy.routing.calibration import CURVE_SHARES, PROMPT_FORM, Calibration
from proxy.routing.catalog import LEARNED, range_of, threshold_of
from proxy.routing.chain import calibration_in_force
from proxy.routing.collect import Progress as Kept
from proxy.routing.committing import commit as commit_to
from proxy.routing.committing import read_commitment, refuse_if_unscorable
from proxy.routing.curve import auroc, curve
from proxy.routing.drift import spread_of
from proxy.routing.evaluation import Arm, Errors, arms, errors
from proxy.routing.features import FEATURES
from proxy.routing.foreseeing import Promise, learn, split
from proxy.routing.goals import Goal, read_goal, threshold_for
from proxy.routing.grades import (
    Questions,
    encoded,
    grade_items,
    kept_beside,
    progress_file,
    read_questions,
)
from proxy.routing.guarantee import grid
from proxy.routing.ladder import ladder_of, parts_of
from proxy.routing.learned import LearnedModel, read_model
from proxy.routing.plan import plan_of
from proxy.routing.prerouter import read_foresight
from proxy.routing.report import PAGE, error_lines, table_rows, write_report
from proxy.routing.rows import Graded, Item, Table, table_of
from proxy.routing.rungs import (
    Parts,
    alone,
    at_budgets,
    at_goal,
    budget_rows,
    budgets_of,
    chain_of,
    write_plot,
)
from proxy.routing.signals import SIGNALS
from proxy.settings import Settings, load_settings

#: Rows that each part of a chain's data needs, so that there is something to learn and to tell.
_LEAST_ROWS = 20

#: Options that `calibrate` and `evaluate` share.
DataFile = Annotated[Path, typer.Option(help="JSONL of questions; see docs/routing.md.")]
ErrorRate = Annotated[
    float, typer.Option(min=0.001, max=0.5, help="Chance that the goal is missed.")
]
RequestsPerDay = Annotated[float, typer.Option(help="For a goal in dollars a day.")]
MaxCost = Annotated[float, typer.Option(help="Most one request can cost, in dollars.")]
Recorded = Annotated[bool, typer.Option(help="Use the answers on record, ask nobody.")]
JudgedBy = Annotated[
    str, typer.Option(help="Model of the local endpoint that grades what is in words.")
]

Ahead = Annotated[
    float | None,
    typer.Option(min=0.001, max=0.5, help="Learn what to send undrafted, so much of it in vain."),
]
Commit = Annotated[
    float | None,
    typer.Option(min=0.001, max=0.5, help="Learn when to tell a draft early, so much wrongly."),
]

app = typer.Typer()


@app.command("calibrate")
def calibrate_command(
    data: DataFile,
    goal: Annotated[str, typer.Option(help='"within 1% of cloud", "cloud share at most 38%" …')],
    out: Annotated[Path, typer.Option(help="Where to put the artifact.")] = Path(
        "calibration.json"
    ),
    error_rate: ErrorRate = 0.05,
    requests_per_day: RequestsPerDay = 0.0,
    max_cost: MaxCost = 0.0,
    recorded: Recorded = False,
    judge: JudgedBy = "",
    ahead: Ahead = None,
    commit: Commit = None,
) -> None:
    """Pick the threshold that keeps a goal, with a guarantee, and write the artifact.

    Asks the local model where the data hold no answer of it, and nobody else; resumes where it
    stopped. With --ahead 0.02, a pre-router is learned too, on a third of the rows: it sends at
    most 2 % of the requests to the cloud that their draft would have kept. It needs the encoder.
    With --commit 0.02, tested on a third of the rows as well, streams may be told early: at most
    2 % of the requests are told a draft that would have escalated.
    """
    _require_extra()
    settings = load_settings()
    if commit is not None:
        refuse_if_unscorable(settings.estimator)
    wanted = read_goal(goal, requests_per_day=requests_per_day, max_cost_usd=max_cost)
    told = _read(data)
    kept = kept_beside(out, settings, told.digest, recorded=recorded, judge=judge)
    graded = grade_items(settings, told.items, kept, recorded=recorded, judge=judge)
    graded, fresh = (graded, []) if ahead is None and commit is None else split(graded)
    learned, graded = _learn(settings.estimator, graded)
    table = table_of(graded)
    thresholds = grid(*range_of(settings.estimator))
    threshold = threshold_for(wanted, table, thresholds, error_rate)
    if threshold is None:
        raise SettingsError(too_hard(wanted, table, error_rate))
    made = _artifact(settings, (goal, wanted, error_rate), table, threshold, told.digest)
    made = replace(made, learned=learned)
    if ahead is not None:
        if learned is not None:
            fresh = _scored(read_model(learned), fresh)
        made = replace(
            made, foresight=_foreseen(settings, told.items, made, (graded, fresh), ahead)
        )
    if commit is not None:
        made = replace(made, commitment=_committed(made, fresh, commit))
    made.save(out)
    progress_file(out).unlink(missing_ok=True)
    _say(made, table, out)


@app.command("evaluate")
def evaluate_command(
    data: DataFile,
    out: Annotated[
        Path | None, typer.Option(help="Folder for plots (PNG) and one HTML page.")
    ] = None,
    recorded: Recorded = False,
    judge: JudgedBy = "",
    rungs: Annotated[
        str, typer.Option(help="Cloud models on record, the cheapest first: a chain.")
    ] = "",
    rungs_out: Annotated[
        Path | None, typer.Option(help="Where to put the chain, for RINGFENCE_RUNGS_FILE.")
    ] = None,
    goal: Annotated[str, typer.Option(help="With --rungs: as for calibrate.")] = (
        "within 1% of cloud"
    ),
    error_rate: ErrorRate = 0.05,
    requests_per_day: RequestsPerDay = 0.0,
    max_cost: MaxCost = 0.0,
    plan: Annotated[
        bool, typer.Option("--plan", help="With --rungs: a plan for all questions at once, too.")
    ] = False,
    budget: Annotated[
        float | None, typer.Option(help="Dollars for the held-out questions; else a table.")
    ] = None,
    plan_out: Annotated[
        Path | None, typer.Option(help="Where to put the plan, for RINGFENCE_PLAN_FILE.")
    ] = None,
) -> None:
    """Compare cloud-only, local-only and the hybrid of the settings, and say what went wrong.

    The threshold is the one in force; cloud times are those on record, costs too, or by the price
    table from the tokens on record. With --rungs: a chain of models, with thresholds that keep the
    goal, beside the two-tier hybrid, on rows held out.
    """
    _require_extra()
    if rungs:
        if judge:
            raise SettingsError("--judge grades two tiers: with --rungs, record the grades")
        if (budget is not None or plan_out is not None) and not plan:
            raise SettingsError("--budget and --plan-out need --plan")
        wanted = read_goal(goal, requests_per_day=requests_per_day, max_cost_usd=max_cost)
        names = tuple(name.strip() for name in rungs.split(","))
        wish = RungsWish(names, goal, wanted, error_rate, plan, budget)
        _evaluate_rungs(data, wish, (out, rungs_out, plan_out), recorded=recorded)
        return
    if plan or any(one is not None for one in (budget, rungs_out, plan_out)):
        raise SettingsError("--plan, --budget, --rungs-out and --plan-out need --rungs")
    _evaluate_two_tiers(data, out, recorded=recorded, judge=judge)


def _evaluate_two_tiers(data: Path, out: Path | None, *, recorded: bool, judge: str) -> None:
    settings = load_settings()
    made = calibration_in_force(settings)
    given = made.threshold if made else settings.confidence_threshold
    threshold = threshold_of(settings.estimator, given)
    asked = _read(data)
    if made is not None and made.data_digest == asked.digest:
        Console(stderr=True, highlight=False).print(
            "the threshold was chosen on these very questions: others tell its worth",
            soft_wrap=True,
        )
    kept = Kept(None, "")
    if out is not None:
        kept = kept_beside(out / PAGE, settings, asked.digest, recorded=recorded, judge=judge)
    graded = grade_items(settings, asked.items, kept, recorded=recorded, judge=judge)
    if settings.estimator == LEARNED and made is not None:
        graded = _scored(read_model(made.learned), graded)
    table = table_of(graded)
    told = (arms(table, threshold), errors(table, threshold))
    title = f"{settings.estimator} below {threshold:g} escalates; {len(table):,} questions"
    _say_evaluation(title, told)
    if out is not None:
        page, *_ = write_report(out, table, told, title)
        progress_file(page).unlink(missing_ok=True)
        Console(highlight=False).print(f"{page}", soft_wrap=True)


def _read(data: Path) -> Questions:
    told = read_questions(data)
    if told.notice:
        Console(stderr=True, highlight=False).print(told.notice, soft_wrap=True)
    return told


@dataclass(frozen=True, slots=True)
class RungsWish:
    """What `ringfence evaluate --rungs` was asked for."""

    models: tuple[str, ...]
    words: str
    goal: Goal
    error_rate: float
    plan: bool
    budget_usd: float | None


def _evaluate_rungs(
    data: Path, wish: RungsWish, outs: tuple[Path | None, ...], *, recorded: bool
) -> None:
    settings, told_rows, (out, rungs_out, plan_out) = load_settings(), _read(data), outs
    items = told_rows.items
    if settings.estimator not in SIGNALS:
        raise SettingsError("--rungs: the estimator must be one that scores any model's answer")
    graded = grade_items(settings, items, Kept(None, ""), recorded=recorded)
    signal, prices = SIGNALS[settings.estimator], load_prices(settings.prices_file)
    ladder = ladder_of(items, graded, wish.models, prices, signal)
    parts = Parts(*(ladder.take(rows) for rows in parts_of([item.id for item in items])))
    sizes = [len(one) for one in (parts.seen, parts.tested, parts.held_out)]
    if min(sizes) < _LEAST_ROWS:
        raise SettingsError(f"{len(items)} rows are too few for --rungs")
    each = alone(parts.held_out)
    chosen = at_goal(parts, wish.goal, wish.error_rate)
    budgets = budgets_of(parts.held_out) if wish.budget_usd is None else [wish.budget_usd]
    told = at_budgets(parts, budgets, plan=wish.plan)
    console = Console(highlight=False)
    title = f"{settings.estimator}; {sizes[0]:,} rows to choose, {sizes[1]:,} to test, "
    arms = (*each, *(way.arm for way in chosen))
    _show(table_rows(arms), f"{title}{sizes[2]:,} held out; {wish.words}")
    if not chosen:
        console.print("no thresholds can be shown to keep this goal on these rows")
    _show(budget_rows(told), "at the same budget")
    if out is not None:
        console.print(f"{write_plot(out / 'rungs.png', told, each)}", soft_wrap=True)
    if plan_out is not None:
        plan = plan_of(settings, parts.known, told_rows.digest)
        plan.save(plan_out)
        console.print(
            f"{plan.id} in {plan_out}; use it with RINGFENCE_PLAN_FILE={plan_out}", soft_wrap=True
        )
    if rungs_out is not None:
        kept = [way.thresholds for way in chosen if len(way.thresholds) == len(wish.models)]
        if not kept:
            raise SettingsError(f"{rungs_out} is not written: no chain is shown to keep the goal")
        why = (wish.words, wish.goal, wish.error_rate)
        made = chain_of(settings, parts, kept[0], why, told_rows.digest)
        made.save(rungs_out)
        use = f"{made.id} in {rungs_out}; use it with {made.SETTING}={rungs_out}"
        console.print(use, soft_wrap=True)


def _show(rows: Sequence[tuple[str, ...]], title: str) -> None:
    head, *body = rows
    shown = RichTable(*head, box=None, pad_edge=False, title=title, title_justify="left")
    for row in body:
        shown.add_row(*row)
    Console(highlight=False).print(shown)


def _say_evaluation(title: str, told: tuple[Sequence[Arm], Errors]) -> None:
    console = Console(highlight=False)
    _show(table_rows(told[0]), title)
    for line in error_lines(told[1]):
        console.print(line)


def _learn(estimator: str, graded: list[Graded]) -> tuple[dict[str, Any] | None, list[Graded]]:
    """For `LEARNED`: a model of one half of the rows, and the other half with its scores.

    The threshold is then tested on rows that the model never saw, as the guarantee asks.
    """
    if estimator != LEARNED:
        return None, graded
    from proxy.routing.training import NUM_FOLDS, out_of_fold, train

    halves: tuple[list[Graded], list[Graded]] = ([], [])
    for row in graded:
        halves[hashlib.sha256(row.id.encode()).digest()[0] % 2].append(row)
    known = [row for row in halves[0] if row.features is not None]
    if len({row.local_correct for row in known}) < 2:
        raise SettingsError("to learn, the data must hold right and wrong drafts with a score")
    values = np.array([row.features for row in known], dtype=np.float64)
    correct = np.array([row.local_correct for row in known])
    model = train(FEATURES, values, correct)
    if min(correct.sum(), (~correct).sum()) >= NUM_FOLDS:
        found = auroc(out_of_fold(FEATURES, values, correct, "logistic"), correct)
        plain = auroc(values[:, FEATURES.index("mean_logprob")], correct)
        Console(highlight=False).print(
            f"learned ranks right drafts above wrong ones in {found:.1%} of pairs, mean_logprob in "
            f"{plain:.1%} ({NUM_FOLDS} folds of the {len(known)} rows that it learns from)",
            soft_wrap=True,
        )
    return asdict(model), _scored(model, halves[1])


def _foreseen(
    settings: Settings,
    items: list[Item],
    made: Calibration,
    parts: tuple[list[Graded], list[Graded]],
    in_vain: float,
) -> dict[str, Any]:
    """What to send undrafted; see `proxy.routing.foreseeing.learn`."""
    promise, features = Promise(in_vain, made.delta), encoded(settings, items)
    return learn(features, parts, made.threshold, promise, settings.embedding_model).as_json()


def _committed(made: Calibration, fresh: list[Graded], at_most: float) -> dict[str, Any]:
    """When a draft is committed to, tested on rows that the threshold was not chosen on."""
    begun = np.array([np.nan if r.begun is None else r.begun for r in fresh], dtype=np.float64)
    escalates = table_of(fresh).escalates(made.threshold)
    return commit_to(begun, escalates, made.estimator, at_most, made.delta).as_json()


def _scored(model: LearnedModel, graded: list[Graded]) -> list[Graded]:
    return [
        replace(row, score=model.probability(row.features) if row.features else None)
        for row in graded
    ]


def _require_extra() -> None:
    """Say which packages are missing before hours are spent.

    Raises:
        SettingsError: the extra ``calibrate`` is not installed.
    """
    if any(find_spec(name) is None for name in ("matplotlib", "scipy", "sklearn")):
        raise SettingsError('this needs the extra packages: pip install "ringfence[calibrate]"')


def too_hard(goal: Goal, table: Table, error_rate: float) -> str:
    """Why no threshold keeps the goal, as far as the data tell."""
    safest = np.inf if goal.prefers_cloud else -np.inf
    reached = float(goal.losses(table, safest).mean())
    if reached > goal.limit:
        unknown = float(np.isnan(table.score).mean())
        return "no threshold meets this goal on these data, not even the safest" + (
            f"; {unknown:.1%} of the rows have no usable log-probabilities" if unknown else ""
        )
    return (
        f"{len(table)} rows cannot show this goal with an error rate of {error_rate:g}: "
        "give more rows, a looser goal or a higher error rate"
    )


def _artifact(
    settings: Settings,
    wish: tuple[str, Goal, float],
    table: Table,
    threshold: float,
    data_digest: str,
) -> Calibration:
    words, goal, error_rate = wish
    sent = table.escalates(threshold)
    known = ~np.isnan(table.score)
    whole = curve(np.where(known, table.score, np.inf), table.local, table.cloud)
    bounds, spread = spread_of([None if np.isnan(s) else float(s) for s in table.score])
    return Calibration(
        model=settings.local_model,
        model_digest=weights_digest(settings),
        prompt_form=PROMPT_FORM,
        estimator=settings.estimator,
        threshold=threshold,
        goal=words,
        bound=goal.bound,
        delta=error_rate,
        num_rows=len(table),
        data_digest=data_digest,
        expected_share=float(sent.mean()),
        expected_accuracy=float(np.where(sent, table.cloud, table.local).mean()),
        curve=tuple((share, whole.at(share)) for share in CURVE_SHARES),
        spread_bounds=bounds,
        spread_shares=spread,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _say(made: Calibration, table: Table, out: Path) -> None:
    console = Console(highlight=False)
    console.print(
        f"{made.estimator} below {made.threshold:g} escalates: {made.goal}, "
        f"{1 - made.delta:.0%} sure, from {made.num_rows} rows",
        soft_wrap=True,
    )
    unknown = float(np.isnan(table.score).mean())
    console.print(
        f"on these rows: {made.expected_share:.1%} sent, {made.expected_accuracy:.1%} right"
        + (f"; {unknown:.1%} had no usable log-probabilities" if unknown else "")
    )
    if made.foresight is not None:
        told = read_foresight(made.foresight)
        console.print(
            f"sent without a draft: {told.ahead:.1%} of {told.num_rows} other rows, at most "
            f"{told.in_vain:.1%} of all in vain; switch it on with RINGFENCE_PRE_ROUTER=true"
        )
    if made.commitment is not None:
        begun = read_commitment(made.commitment)
        console.print(
            f"told early: {begun.committed:.1%} of {begun.num_rows} other rows, whose first "
            f"{begun.after_tokens} tokens score {begun.threshold:g} or more, at most "
            f"{begun.at_most:.1%} of all wrongly; switch it on with RINGFENCE_EARLY_COMMIT=true"
        )
    use = f"{made.id} in {out}; use it with RINGFENCE_CALIBRATION_FILE={out}"
    console.print(use, soft_wrap=True)
