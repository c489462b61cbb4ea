"""Measures a chain of three models, and a plan for a batch, on recorded answers of real models.

Run: ``python -m bench.rungs FOLDER``, FOLDER as for `bench.routing`. It splits each set of models
20 times and prints means over the splits. ``--write FILE.jsonl --chain NUMBER`` writes one of the
chains in the form that ``ringfence evaluate --rungs`` reads. The grades and log-probabilities are
on record, money is not: a call costs what its model's list price asks for 150 tokens in and one
out, the same for every question.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np

from bench.routing import SETS, read_rows
from proxy.prices import Prices
from proxy.routing.collect import Collector, Progress
from proxy.routing.estimator import PureEstimator
from proxy.routing.ladder import Ladder, ladder_of, parts_of
from proxy.routing.rows import Graded, item_of
from proxy.routing.rungs import SHARES, Parts, at_budgets, budgets_of
from proxy.routing.signals import SIGNALS

#: US dollars a call: 150 tokens in, one out. List prices of 2024, dollars a million in and out:
#: GPT-4-turbo 10 and 30, GPT-3.5-turbo 0.5 and 1.5; Llama 3 70B 0.9 at hosts of open models.
USD = {"gpt-4-turbo": 1.53e-3, "gpt-3.5-turbo": 7.65e-5, "Llama3-70b": 1.359e-4}

#: The model at home, then the clouds.
CHAINS = (
    ("Llama3-8b", "gpt-3.5-turbo", "gpt-4-turbo"),
    ("Llama3-8b", "Llama3-70b", "gpt-4-turbo"),
    ("Mistral", "gpt-3.5-turbo", "gpt-4-turbo"),
    ("Llama-7b", "Llama3-70b", "gpt-4-turbo"),
)
NUM_SPLITS = 20


def lines_of(rows: list[dict[str, Any]], chain: tuple[str, ...]) -> list[dict[str, Any]]:
    """The questions that every model of ``chain`` answered, as rows of a data file."""
    lines = []
    for row in rows:
        told = [row["first"].get(model) for model in chain]
        if row["dataset"] not in SETS or any(one is None or None in one for one in told):
            continue
        records = [
            {
                "model": model,
                "correct": bool(right),
                "cost_usd": USD.get(model, 0.0),
                "logprobs": {"content": [{"token": "A", "logprob": logprob}]},
            }
            for model, (right, logprob) in zip(chain, told, strict=True)
        ]
        lines.append(
            {
                "id": row["id"],
                "question": "-",
                "answers": ["-"],
                "kind": row["dataset"],
                "local": records[0],
                "cloud": records[-1],
                "clouds": records[1:-1],
            }
        )
    return lines


def ladder_from(rows: list[dict[str, Any]], chain: tuple[str, ...]) -> tuple[list[str], Ladder]:
    """The ids and the ladder of ``chain``."""
    told = (item_of(json.dumps(line)) for line in lines_of(rows, chain))
    items = [item for item in told if item is not None]
    signal = SIGNALS["mean_logprob"]
    estimator = PureEstimator(signal.name, signal.score, signal.default_threshold, None)
    collector = Collector(estimator, None)

    async def graded() -> list[Graded]:
        return [one async for one in collector.collect(items, Progress(None, ""))]

    return [item.id for item in items], ladder_of(
        items, asyncio.run(graded()), chain[1:], Prices(), signal
    )


def show_chain(rows: list[dict[str, Any]], chain: tuple[str, ...], num_splits: int) -> None:
    """Accuracy and money by budget, means over splits; and how far the rungs and the plan gain."""
    ids, ladder = ladder_from(rows, chain)
    right = ", ".join(
        f"{name} {share:.1%}" for name, share in zip(chain, ladder.right.mean(axis=0), strict=True)
    )
    print(f"\n{' > '.join(chain)}; {len(ladder):,} questions; alone: {right}")
    print(
        f"{'budget':>7}{'two tiers':>11}{'spent':>7}{'rungs':>8}{'spent':>7}{'plan':>8}"
        f"{'spent':>7}{'hindsight':>11}{'rungs - two':>20}{'plan - two':>20}{'plan - rungs':>20}"
    )
    found = []
    for split in range(num_splits):
        parts = Parts(*(ladder.take(part) for part in parts_of(ids, f"{split}:")))
        whole = float(parts.held_out.cost_usd[:, -1].sum())
        told = at_budgets(parts, budgets_of(parts.held_out), plan=True)
        found.append(
            [
                [
                    value
                    for way in (one.two, one.rungs, one.planned, one.hindsight)
                    if way is not None
                    for value in (float(way.right.mean()), float(way.cost_usd.sum()) / whole)
                ]
                for one in told
            ]
        )
    table = np.array(found)
    for number, share in enumerate(SHARES):
        two, rungs, plan, best = (table[:, number, column] for column in (0, 2, 4, 6))
        spent = table[:, number, 1::2].mean(axis=0)
        gains = [(one * 100).round(6) for one in (rungs - two, plan - two, plan - rungs)]
        print(
            f"{share:>7.0%}{two.mean():>11.1%}{spent[0]:>7.1%}{rungs.mean():>8.1%}{spent[1]:>7.1%}"
            f"{plan.mean():>8.1%}{spent[2]:>7.1%}{best.mean():>11.1%}"
            + "".join(f"{gain.mean():>+12.2f} ± {gain.std(ddof=1):.2f}" for gain in gains)
        )


def main() -> None:
    """Run every chain, or write one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--splits", type=int, default=NUM_SPLITS)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--chain", type=int, default=0)
    options = parser.parse_args()
    rows = read_rows(options.folder)
    if options.write:
        # no words are on record; but a question that stands twice would count once
        lines = [
            {**line, "question": f"- {place}"}
            for place, line in enumerate(lines_of(rows, CHAINS[options.chain]))
        ]
        options.write.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return
    for chain in CHAINS:
        show_chain(rows, chain, options.splits)


if __name__ == "__main__":
    main()
