"""Measures routing on recorded answers of real models, and the cost of a decision.

Run: ``python -m bench.routing FOLDER``, where FOLDER holds ``router_mcq_logprob`` (13,950
multiple-choice questions, answered by 14 chat models, with the log-probability of the answer token;
github.com/bplaut/llm-calibration-and-correctness-prediction, MIT).
``--plot FILE.png`` draws curves.
The answer is one token, so its log-probability is the mean token log-probability. No row is shown.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import gzip
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from proxy.routing.catalog import build_estimator
from proxy.routing.curve import auroc, curve, perfect_curve, random_curve, reach
from proxy.routing.estimator import PureEstimator
from proxy.routing.features import FEATURES
from proxy.routing.goals import read_goal, threshold_for
from proxy.routing.guarantee import grid
from proxy.routing.rows import Flags, Floats, Table
from proxy.routing.signals import SIGNALS
from proxy.routing.training import out_of_fold, train
from proxy.types import Caller, Draft, Request

SETS = ("arc", "hellaswag", "truthfulqa", "winogrande")
CLOUD = "gpt-4-turbo"
LOCALS = ("Llama3-8b", "Llama-13b", "Mistral", "Solar", "Yi-6b")
NUM_DRAWS = 200
GOALS = (
    "within 2% of cloud",
    "within 5% of cloud",
    "accuracy at least 80%",
    "cloud share at most 38%",
)
GRID = grid(-math.inf, 0.0)


def read_rows(root: Path) -> list[dict[str, Any]]:
    """The questions with every model's grade and log-probability."""
    path = root / "router_mcq_logprob" / "data.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def one_token_draft(logprob: float) -> Draft:
    """A draft of one token, as a multiple-choice answer is."""
    return Draft("A", ("A",), (logprob,), "stop", "m", {}, 0, 1, 0.0)


def published(root: Path) -> Iterator[dict[str, str]]:
    """The published AUROCs over both halves, for the log-probability of the answer."""
    path = root / "router_mcq_logprob" / "published_confidence_intervals.csv"
    with path.open(encoding="utf-8") as file:
        yield from (row for row in csv.DictReader(file) if row["value"] == "norm_logits")


def show_published(root: Path, rows: list[dict[str, Any]]) -> None:
    """How far this half is from the published AUROCs, and how far a half must be by chance."""
    found = []
    for told in published(root):
        prompt = told["prompt"].removesuffix("_prompt")
        pairs = [
            row[prompt][told["model"]]
            for row in rows
            if row["dataset"] == told["dataset"] and told["model"] in row[prompt]
        ]
        pairs = [pair for pair in pairs if None not in pair]
        scores = [SIGNALS["mean_logprob"].of(one_token_draft(pair[1])) for pair in pairs]
        ours = auroc(np.array(scores, dtype=np.float64), np.array([p[0] for p in pairs], bool))
        theirs, low, high = (float(told[k]) for k in ("sample_auroc", "ci_lb", "ci_ub"))
        found.append((ours - theirs, (high - low) / 3.92, low <= ours <= high))
    gaps, errors, inside = (np.array(column) for column in zip(*found, strict=True))
    print(f"published AUROCs: {len(gaps)}; of this half within their 95 %: {inside.mean():.0%}")
    print(f"  mean gap {gaps.mean():+.4f}, root mean square {np.sqrt((gaps**2).mean()):.4f};")
    print(f"  a half differs by chance by the standard error of the whole, {errors.mean():.4f}")


def pair_of(rows: list[dict[str, Any]], local: str) -> tuple[Table, Floats, Flags]:
    """A local model against the cloud: its table, its other phrasing's score, and the sets."""
    kept = [
        (row, row["first"].get(local), row["first"].get(CLOUD), row["second"].get(local))
        for row in rows
        if row["dataset"] in SETS
    ]
    kept = [k for k in kept if k[1] and k[2] and None not in k[1] and k[2][0] is not None]
    zeros = np.zeros(len(kept))
    table = Table(
        score=np.array([k[1][1] for k in kept], dtype=np.float64),
        doubts=zeros.astype(bool),
        local=np.array([bool(k[1][0]) for k in kept]),
        cloud=np.array([bool(k[2][0]) for k in kept]),
        local_ms=zeros,
        cloud_ms=zeros,
        cost_usd=zeros,
    )
    other = np.array(
        [k[3][1] if k[3] and None not in k[3] else np.nan for k in kept], dtype=np.float64
    )
    sets = np.array([[k[0]["dataset"] == name for name in SETS] for k in kept])
    return table, other, sets


def log_odds(logprob: Floats) -> Floats:
    """Log-odds of a probability given as its logarithm; NaN stays."""
    share = np.clip(np.exp(np.minimum(logprob, 0.0)), 1e-9, 1 - 1e-9)
    return np.asarray(np.log(share) - np.log1p(-share))


def learned_scores(table: Table, sets: Flags, columns: list[Floats]) -> Floats:
    """Out of fold: P(local right) less P(cloud right), from log-odds, sets and their products."""
    odds = [log_odds(column) for column in columns]
    parts = [sets.astype(np.float64), *(one[:, None] for one in (*columns, *odds))]
    parts += [sets * one[:, None] for one in odds]
    values = np.column_stack(parts)
    names = [str(n) for n in range(values.shape[1])]
    local, cloud = (out_of_fold(names, values, y, "logistic") for y in (table.local, table.cloud))
    return np.asarray(local - cloud)


def show_orderings(rows: list[dict[str, Any]]) -> None:
    """How far of the way from random to perfect each ordering goes, pooled and set by set."""
    print(f"\nreach: from random (0) to perfect ordering (1); cloud {CLOUD}, 5-fold")
    print(
        f"{'local model':<12}{'set':<12}{'rows':>6}{'AUROC':>8}{'mean':>8}{'learned':>9}"
        f"{'+ 2nd phrasing':>16}{'at 38 %: mean, learned':>26}"
    )
    for local in LOCALS:
        table, other, sets = pair_of(rows, local)
        one = learned_scores(table, sets, [table.score])
        two = learned_scores(table, sets, [table.score, other])
        everything = np.ones(len(table), dtype=bool)
        for name, mask in (("all four", everything), *zip(SETS, sets.T, strict=True)):
            part = table.take(np.flatnonzero(mask))
            reached = [reach(s[mask], part.local, part.cloud) for s in (table.score, one, two)]
            at = [curve(s[mask], part.local, part.cloud).at(0.38) for s in (table.score, one)]
            print(
                f"{local:<12}{name:<12}{len(part):>6}{auroc(part.score, part.local):>8.3f}"
                f"{reached[0]:>8.3f}{reached[1]:>9.3f}{reached[2]:>16.3f}"
                f"{at[0]:>16.1%}{at[1]:>10.1%}"
            )


def show_guarantee(rows: list[dict[str, Any]]) -> None:
    """How often a calibrated threshold misses its goal, over draws whose truth is known."""
    print(f"\nguarantee: {NUM_DRAWS} draws with replacement, error rate 5 %; the set is the truth")
    print(
        f"{'set':<12}{'rows':>6}  {'goal':<26}{'missed':>8}{'no τ':>6}"
        f"{'sent':>8}{'best τ sends':>14}"
    )
    random = np.random.default_rng(0)
    table, _, sets = pair_of(rows, "Llama3-8b")
    for name in ("arc", "hellaswag"):
        truth = table.take(np.flatnonzero(sets[:, SETS.index(name)]))
        for words in GOALS:
            goal = read_goal(words)
            fit = [t for t in GRID if float(goal.losses(truth, t).mean()) <= goal.limit]
            best = (min if goal.prefers_cloud else max)(fit)
            for num_rows in (500, 1000):
                missed, none, sent = 0, 0, []
                for _ in range(NUM_DRAWS):
                    drawn = truth.take(random.integers(0, len(truth), num_rows))
                    threshold = threshold_for(goal, drawn, GRID, 0.05)
                    if threshold is None:
                        none += 1
                        continue
                    missed += float(goal.losses(truth, threshold).mean()) > goal.limit
                    sent.append(float(truth.escalates(threshold).mean()))
                mean = f"{np.mean(sent):.1%}" if sent else "-"
                print(
                    f"{name:<12}{num_rows:>6}  {words:<26}{missed / NUM_DRAWS:>8.1%}{none:>6}"
                    f"{mean:>8}{truth.escalates(best).mean():>14.1%}"
                )


def show_cost() -> None:
    """Time of one estimate over a draft of 256 tokens with five alternatives each."""
    random = np.random.default_rng(0)
    logprobs = tuple((-random.exponential(0.5, 256)).tolist())
    top = tuple(tuple((f"t{n}", logprob - n) for n in range(5)) for logprob in logprobs)
    draft = Draft("word " * 256, ("word ",) * 256, logprobs, "stop", "m", {}, 0, 256, 0.0, top)
    from datetime import UTC, datetime

    caller = Caller("bench", "bench", "bench", "bench")
    body = {"messages": [{"role": "user", "content": "Why?"}]}
    request = Request("r", caller, "chat.completions", "ringfence", body, False, datetime.now(UTC))

    class Nobody:
        async def generate(self, request: Request) -> Draft:
            raise AssertionError

        async def probe(self) -> bool:
            return False

    async def time_of(name: str) -> float:
        estimator = build_estimator(name, None, Nobody())
        started = time.perf_counter()
        for _ in range(100):
            await estimator.estimate(request, draft, may_ask=True)
        return (time.perf_counter() - started) * 10

    async def time_of_learned() -> float:
        values = np.random.default_rng(0).normal(size=(200, len(FEATURES)))
        model = train(FEATURES, values, values[:, 0] > 0)
        estimator = PureEstimator("learned", model.score, 0.5)
        started = time.perf_counter()
        for _ in range(100):
            await estimator.estimate(request, draft, may_ask=True)
        return (time.perf_counter() - started) * 10

    print("\nms a decision, 256 tokens, five alternatives each:")
    print("  " + ", ".join(f"{name} {asyncio.run(time_of(name)):.3f}" for name in SIGNALS))
    print(f"  learned, which takes all of these: {asyncio.run(time_of_learned()):.3f}")


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Accuracy over the cloud share for one pair, all sets together."""
    from matplotlib.figure import Figure

    table, other, sets = pair_of(rows, "Llama3-8b")
    scores = {
        "mean_logprob": table.score,
        "learned": learned_scores(table, sets, [table.score]),
        "learned, two phrasings": learned_scores(table, sets, [table.score, other]),
    }
    curves = {name: curve(score, table.local, table.cloud) for name, score in scores.items()}
    curves |= {
        "random": random_curve(table.local, table.cloud),
        "perfect": perfect_curve(table.local, table.cloud),
    }
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, told in curves.items():
        style = "--" if name in ("random", "perfect") else "-"
        axes.plot(told.share * 100, told.accuracy * 100, style, label=name)
    axes.set(xlabel="sent to the cloud (%)", ylabel="right answers (%)")
    axes.set_title(
        f"Llama3-8b at home, {CLOUD} in the cloud, {len(table):,} questions of four sets"
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run every measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    rows = read_rows(options.folder)
    show_published(options.folder, rows)
    show_orderings(rows)
    show_cost()
    if options.plot:
        plot(rows, options.plot)
    show_guarantee(rows)


if __name__ == "__main__":
    main()
