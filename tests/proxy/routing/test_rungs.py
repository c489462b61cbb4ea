"""`ringfence evaluate --rungs`, as an operator runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proxy.routing.chain import load_chain
from proxy.routing.ladder import Ladder, climb, parts_of
from proxy.routing.plan import load_plan
from tests.harness import ringfence
from tests.proxy.routing.tables import a_ladder


def write(path: Path, ladder: Ladder) -> None:
    lines = []
    for row in range(len(ladder)):
        records = [
            {
                "model": name,
                "correct": bool(ladder.right[row, model]),
                "cost_usd": float(ladder.cost_usd[row, model]),
                "logprobs": {
                    "content": [{"token": "x", "logprob": float(ladder.score[row, model])}]
                },
            }
            for model, name in enumerate(ladder.names)
        ]
        line: dict[str, Any] = {
            "id": f"q{row}",
            "question": f"canary-4711 {row}?",
            "answers": ["yes"],
        }
        line |= {"local": records[0], "clouds": records[1:]}
        lines.append(json.dumps(line))
    path.write_text("\n".join(lines))


def evaluate(folder: Path, *more: str) -> tuple[int, str]:
    done = ringfence(
        *("evaluate", "--data", str(folder / "qa.jsonl"), "--recorded", *more), COLUMNS="200"
    )
    return done.returncode, done.stdout + done.stderr


def test_the_chain_stands_beside_two_tiers_and_the_plan(tmp_path: Path) -> None:
    ladder = a_ladder(1200)
    write(tmp_path / "qa.jsonl", ladder)
    code, said = evaluate(
        tmp_path,
        *("--rungs", "cheap,dear", "--goal", "within 5% of cloud", "--plan"),
        *("--out", str(tmp_path / "report")),
    )
    assert code == 0, said
    assert "local <" in said
    assert "> cheap <" in said
    assert "in hindsight" in said
    assert (tmp_path / "report" / "rungs.png").read_bytes()[:4] == b"\x89PNG"
    assert "canary" not in said
    budgets = [line.split() for line in said.splitlines() if line.startswith("$")]
    assert len(budgets) == 7
    for _, _, _, rungs, _, plan, spent, best in budgets:
        assert float(best.rstrip("%")) >= float(plan.rstrip("%"))
        assert float(best.rstrip("%")) >= float(rungs.rstrip("%")) - 1.0
        assert float(spent.lstrip("$")) <= float(ladder.cost_usd[:, 2].sum())


def test_one_budget_has_one_row(tmp_path: Path) -> None:
    write(tmp_path / "qa.jsonl", a_ladder(300))
    code, said = evaluate(tmp_path, "--rungs", "cheap,dear", "--plan", "--budget", "0.5")
    assert code == 0, said
    (row,) = [line.split() for line in said.splitlines() if line.startswith("$")]
    assert row[0] == "$0.5000"
    assert float(row[6].lstrip("$")) <= 0.5 + 1e-4


def test_the_chain_that_is_written_is_the_one_that_was_shown(tmp_path: Path) -> None:
    ladder = a_ladder(1200)
    write(tmp_path / "qa.jsonl", ladder)
    goal = ("--rungs", "cheap,dear", "--goal", "within 5% of cloud")
    code, said = evaluate(tmp_path, *goal, "--rungs-out", str(tmp_path / "rungs.json"))
    assert code == 0, said
    made = load_chain(tmp_path / "rungs.json")
    assert f"{made.id} in" in said
    assert f"RINGFENCE_RUNGS_FILE={tmp_path / 'rungs.json'}" in "".join(said.split())
    assert f"local < {made.threshold:.3g} > cheap < {made.thresholds[0]:.3g} > dear" in said
    assert (made.clouds, made.goal, made.delta) == (("cheap", "dear"), goal[3], 0.05)
    assert made.num_rows == len(parts_of([f"q{n}" for n in range(1200)])[1])
    assert sum(made.ends) == pytest.approx(1.0)
    assert made.expected_share == pytest.approx(sum(made.ends[1:]))
    tested = ladder.take(parts_of([f"q{n}" for n in range(1200)])[1])
    told = climb(tested, (made.threshold, *made.thresholds))
    assert made.expected_accuracy == pytest.approx(told.right.mean())
    assert made.expected_usd == pytest.approx(told.cost_usd.mean())
    assert "canary" not in (tmp_path / "rungs.json").read_text()


def test_the_plan_that_is_written_knows_every_model(tmp_path: Path) -> None:
    write(tmp_path / "qa.jsonl", a_ladder(400))
    plan = ("--plan", "--budget", "0.5", "--plan-out", str(tmp_path / "plan.json"))
    code, said = evaluate(tmp_path, "--rungs", "cheap,dear", *plan)
    assert code == 0, said
    made = load_plan(tmp_path / "plan.json")
    assert f"{made.id} in" in said
    assert [one.name for one in made.predictors] == ["local", "cheap", "dear"]
    assert made.num_rows == 400 - len(parts_of([f"q{n}" for n in range(400)])[2])
    assert [one.rest_usd for one in made.predictors] == pytest.approx([0.0, 0.001, 0.01])
    assert "canary" not in (tmp_path / "plan.json").read_text()


def test_a_chain_that_keeps_no_goal_is_not_written(tmp_path: Path) -> None:
    write(tmp_path / "qa.jsonl", a_ladder(300))
    goal = ("--rungs", "cheap,dear", "--goal", "accuracy at least 99.9%")
    code, said = evaluate(tmp_path, *goal, "--rungs-out", str(tmp_path / "rungs.json"))
    assert (code, "no chain is shown to keep the goal" in " ".join(said.split())) == (1, True)
    assert not (tmp_path / "rungs.json").exists()


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    write(tmp_path / "qa.jsonl", a_ladder(300))
    for more, words in (
        (("--rungs", "cheap,none"), "no answer of this model on record: none"),
        (("--plan",), "need --rungs"),
        (("--budget", "1"), "need --rungs"),
        (("--rungs-out", "c.json"), "need --rungs"),
        (("--rungs", "dear", "--plan-out", "p.json"), "--plan-out need --plan"),
        (("--rungs", "dear", "--plan", "--budget", "-1"), "0 dollars or more"),
        (("--rungs", "dear", "--budget", "1"), "need --plan"),
    ):
        code, said = evaluate(tmp_path, *more)
        assert (code, words in " ".join(said.split())) == (1, True), said
    small = a_ladder(300).take(np.arange(30))
    write(tmp_path / "qa.jsonl", small)
    code, said = evaluate(tmp_path, "--rungs", "dear")
    assert (code, "too few" in said) == (1, True)
