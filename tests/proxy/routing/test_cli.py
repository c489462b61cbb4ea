"""`ringfence calibrate` over answers on record, and over the embedded model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from demo.stand_in_cloud import Recorded, Reply, StandInCloud
from proxy.routing.calibration import load_calibration
from proxy.routing.catalog import build_estimator
from tests.factories import a_draft, a_request
from tests.fakes import FakeLocal
from tests.harness import ROOT, model_dir, ringfence, running_proxy
from tests.proxy.routing.tables import a_table, write_rows


def calibrate(folder: Path, *more: str, **env: str) -> tuple[int, str]:
    done = ringfence(
        *("calibrate", "--data", str(folder / "qa.jsonl"), "--out", str(folder / "c.json")),
        *more,
        **{"RINGFENCE_LOCAL_MODEL": "home", "RINGFENCE_MODEL_DIR": str(folder), **env},
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_makes_an_artifact_that_keeps_the_goal_on_its_rows(tmp_path: Path) -> None:
    rows = a_table(1000)
    write_rows(tmp_path / "qa.jsonl", rows)
    code, said = calibrate(tmp_path, "--goal", "cloud share at most 38%", "--recorded")
    assert code == 0, said
    made = load_calibration(tmp_path / "c.json")
    assert 0.3 < float(rows.escalates(made.threshold).mean()) < 0.38
    assert made.expected_share == pytest.approx(float(rows.escalates(made.threshold).mean()))
    assert made.expected_accuracy > float(rows.local.mean())
    assert (made.num_rows, made.estimator) == (1000, "mean_logprob")
    assert made.curve[-1][1] == pytest.approx(float(rows.cloud.mean()))
    assert "RINGFENCE_CALIBRATION_FILE" in said
    assert "canary" not in said + (tmp_path / "c.json").read_text()


async def test_a_learned_estimator_stands_in_its_calibration(tmp_path: Path) -> None:
    write_rows(tmp_path / "qa.jsonl", a_table(600))
    more = ("--goal", "cloud share at most 50%", "--recorded")
    code, said = calibrate(tmp_path, *more, RINGFENCE_ESTIMATOR="learned")
    assert code == 0, said
    made = load_calibration(tmp_path / "c.json")
    assert made.num_rows < 400
    ranks = re.search(r"learned ranks .* in ([\d.]+)% of pairs, mean_logprob in ([\d.]+)%", said)
    assert ranks is not None
    assert float(ranks[1]) == pytest.approx(float(ranks[2]), abs=3)  # one signal is all there is
    assert f"of the {600 - made.num_rows} rows" in said
    estimator = build_estimator("learned", None, FakeLocal(), made)
    sure, unsure = [
        await estimator.estimate(a_request(), a_draft(logprobs=(p,)), may_ask=False)
        for p in (-0.01, -3.0)
    ]
    assert not sure.is_low
    assert unsure.is_low
    done = ringfence(
        *("evaluate", "--data", str(tmp_path / "qa.jsonl"), "--recorded"),
        RINGFENCE_ESTIMATOR="learned",
        RINGFENCE_LOCAL_MODEL="home",
        RINGFENCE_MODEL_DIR=str(tmp_path),
        RINGFENCE_CALIBRATION_FILE=str(tmp_path / "c.json"),
    )
    assert done.returncode == 0, done.stderr
    assert f"learned below {made.threshold:g} escalates; 600 questions" in done.stdout


def test_a_goal_that_cannot_be_shown_makes_no_artifact_and_keeps_what_was_graded(
    tmp_path: Path,
) -> None:
    write_rows(tmp_path / "qa.jsonl", a_table(30))
    code, said = calibrate(tmp_path, "--goal", "within 1% of cloud", "--recorded")
    assert (code, "more rows" in said) == (1, True)
    assert not (tmp_path / "c.json").exists()
    kept = (tmp_path / "c.json.progress").read_text()
    assert kept.count("\n") == 30
    assert "canary" not in kept


def test_a_question_counts_once_however_often_it_stands_in_the_data(tmp_path: Path) -> None:
    """Sixty rows cannot show the goal; twenty copies of each look as if they could."""
    few = write_rows(tmp_path / "qa.jsonl", a_table(60)).read_text().splitlines()
    copies = [line.replace('"id": "q', f'"id": "{n} q') for n in range(20) for line in few]
    (tmp_path / "qa.jsonl").write_text("\n".join(copies))
    code, said = calibrate(tmp_path, "--goal", "within 5% of cloud", "--recorded")
    assert (code, "1140 rows repeat a question" in said, "60 rows cannot show" in said) == (
        1,
        True,
        True,
    ), said


def test_what_was_graded_without_asking_is_graded_anew_where_it_may_ask(tmp_path: Path) -> None:
    write_rows(tmp_path / "qa.jsonl", a_table(10))
    goal = ("--goal", "within 5% of cloud")
    env = {"RINGFENCE_ESTIMATOR": "p_true"}
    code, said = calibrate(tmp_path, *goal, "--recorded", **env)
    assert (code, "no confidence to calibrate" in said) == (1, True), said
    with StandInCloud(says_true) as local:
        env |= {"RINGFENCE_LOCAL_BASE_URL": local.base_url}
        code, said = calibrate(tmp_path, *goal, **env)
    assert (code, "10 rows cannot show" in said) == (1, True), said
    kept = [json.loads(line) for line in (tmp_path / "c.json.progress").read_text().splitlines()]
    assert [one["score"] for one in kept] == [None] * 10 + [pytest.approx(0.75)] * 10


def says_true(_: Recorded) -> Reply:
    """The local model thinks that its answer is true, three to one."""
    top = [{"token": t, "logprob": float(np.log(p))} for t, p in (("True", 0.75), ("False", 0.25))]
    told = {"content": [top[0] | {"top_logprobs": top}]}
    message = {"role": "assistant", "content": "True"}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": told}
    return Reply(body=json.dumps({"model": "m", "choices": [choice]}).encode())


def test_rows_without_a_local_answer_are_refused_where_nobody_may_be_asked(tmp_path: Path) -> None:
    (tmp_path / "qa.jsonl").write_text('{"id": "1", "question": "q", "answers": ["a"]}\n')
    code, said = calibrate(tmp_path, "--goal", "within 1% of cloud", "--recorded")
    assert (code, "no local answer" in said) == (1, True)


@pytest.mark.slow
def test_asks_the_local_model_where_there_is_no_answer_and_only_once(
    tmp_path: Path, local_url: str
) -> None:
    rows = [
        {"id": f"q{n}", "question": q, "answers": ["red"], "cloud": {"correct": True}}
        for n, q in enumerate(["Say red.", "Say blue."])
    ]
    (tmp_path / "qa.jsonl").write_text("\n".join(map(json.dumps, rows)))
    env = {"RINGFENCE_LOCAL_BASE_URL": local_url, "RINGFENCE_MODEL_DIR": str(model_dir())}
    env["RINGFENCE_LOCAL_MODEL"] = "smollm2-135m-instruct"
    for _ in range(2):
        code, said = calibrate(tmp_path, "--goal", "within 1% of cloud", **env)
        assert (code, "more rows" in said) == (1, True)
        kept = [
            json.loads(line) for line in (tmp_path / "c.json.progress").read_text().splitlines()
        ]
        assert [one["id"] for one in kept] == ["q0", "q1"]
    assert all(np.isfinite(one["score"]) for one in kept)


@pytest.mark.timeout(300)
def test_the_embedded_model_is_served_with_a_calibration_of_it(tmp_path: Path) -> None:
    write_rows(tmp_path / "qa.jsonl", a_table(400))
    own = {"RINGFENCE_MODEL_DIR": str(model_dir()), "RINGFENCE_LOCAL_MODEL": "smollm2"}
    code, said = calibrate(tmp_path, "--goal", "cloud share at most 38%", "--recorded", **own)
    assert code == 0, said
    made = load_calibration(tmp_path / "c.json")
    assert made.model_digest is not None
    env = own | {
        "RINGFENCE_CALIBRATION_FILE": str(tmp_path / "c.json"),
        "RINGFENCE_CONFIDENCE_THRESHOLD": "",
    }
    with running_proxy(tmp_path / "proxy", "http://127.0.0.1:9/v1", env) as proxy:
        proxy.ask("What is the capital of France?")
        (routing,) = [record["routing"] for record in proxy.records("decision")]
    assert isinstance(routing, dict)
    assert routing["calibration"] == made.id
    assert routing["threshold"] == pytest.approx(made.threshold)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("command", ["calibrate", "evaluate"])
def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path: Path, command: str) -> None:
    rows = [
        {"id": f"q{n}", "question": f"Number {n}?", "answers": ["yes"], "cloud": {"correct": True}}
        for n in range(12)
    ]
    (tmp_path / "qa.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "new" / ("c.json" if command == "calibrate" else "")
    kept = tmp_path / "new" / ("c.json" if command == "calibrate" else "index.html")
    kept = kept.with_name(kept.name + ".progress")
    more = ["--goal", "cloud share at most 60%"] if command == "calibrate" else []
    arguments = [command, "--data", str(tmp_path / "qa.jsonl"), "--out", str(out), *more]
    stuck, gate = threading.Event(), threading.Event()

    def answers(asked: Recorded) -> Reply:
        if b"Number 7?" in (asked.body or b"") and not gate.is_set():
            stuck.set()
            gate.wait(60)
        return says_yes(asked)

    with StandInCloud(answers) as local:
        env = {"RINGFENCE_LOCAL_BASE_URL": local.base_url, "RINGFENCE_LOCAL_MODEL": "home"}
        run = subprocess.Popen(
            [sys.executable, "-m", "proxy", *arguments],
            cwd=ROOT,
            env=os.environ | env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert stuck.wait(60)
        run.kill()
        run.wait()
        gate.set()
        assert kept.read_text().count("\n") == 7
        done = ringfence(*arguments, **env)
        assert done.returncode == 0, done.stderr
        asked = [one.body.decode() for one in local.requests if one.body and b"Number" in one.body]
    assert sorted(re.findall(r"Number \d+\?", "".join(asked))) == sorted(
        [*(f"Number {n}?" for n in range(12)), "Number 7?"]
    )
    assert not kept.exists()


def says_yes(_: Recorded) -> Reply:
    told = {"content": [{"token": t, "logprob": -0.1 * n} for n, t in enumerate(("yes", "."))]}
    message = {"role": "assistant", "content": "Yes."}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": told}
    return Reply(body=json.dumps({"model": "m", "choices": [choice]}).encode())


def test_an_evaluation_on_the_rows_of_its_calibration_says_so(tmp_path: Path) -> None:
    write_rows(tmp_path / "qa.jsonl", a_table(200))
    goal = ("--goal", "cloud share at most 50%", "--recorded")
    assert calibrate(tmp_path, *goal)[0] == 0
    told = []
    for rows, seed in (("qa.jsonl", 0), ("other.jsonl", 1)):
        write_rows(tmp_path / rows, a_table(200, seed))
        done = ringfence(
            *("evaluate", "--data", str(tmp_path / rows), "--recorded"),
            RINGFENCE_LOCAL_MODEL="home",
            RINGFENCE_MODEL_DIR=str(tmp_path),
            RINGFENCE_CALIBRATION_FILE=str(tmp_path / "c.json"),
        )
        assert done.returncode == 0, done.stderr
        told.append("these very questions" in done.stderr)
    assert told == [True, False]


def test_a_price_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "qa.jsonl", a_table(10))
    goal = ("--goal", "cloud share at most 50%", "--recorded")
    code, said = calibrate(tmp_path, *goal, RINGFENCE_PRICES_FILE=str(tmp_path / "none.yaml"))
    assert (code, "Traceback" in said, "RINGFENCE_PRICES_FILE" in said) == (1, False, True), said
