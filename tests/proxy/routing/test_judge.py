"""A judge grades what has no grade on record; a verdict that is none ends the run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from demo.stand_in_cloud import Recorded, Reply, StandInCloud, completion
from proxy.errors import LocalBackendError
from proxy.routing.judge import Judge
from proxy.routing.rows import Item
from tests.factories import a_draft
from tests.fakes import FakeLocal
from tests.harness import ringfence

ITEM = Item("q1", "Which river is longest?", ("Volga",))


def a_judge(verdict: str) -> tuple[Judge, FakeLocal]:
    local = FakeLocal(replace(a_draft(), text=verdict))
    return Judge(local), local


@pytest.mark.parametrize(
    ("verdict", "right"),
    [
        ("CORRECT", True),
        ("Incorrect.", False),
        ("It is incorrect, not correct", False),
        ("This is not correct.", False),
    ],
)
async def test_the_first_verdict_counts(verdict: str, right: bool) -> None:
    judge, _ = a_judge(verdict)
    assert await judge.is_right("It is the Volga.", ITEM) is right


async def test_no_verdict_is_no_grade_and_shows_nothing() -> None:
    judge, _ = a_judge("canary-4711")
    with pytest.raises(LocalBackendError, match="q1") as raised:
        await judge.is_right("The Volga.", ITEM)
    assert "canary" not in str(raised.value)


async def test_nothing_said_is_wrong_and_nobody_is_asked() -> None:
    judge, local = a_judge("CORRECT")
    assert not await judge.is_right(" \n", ITEM)
    assert local.num_asked == 0


def test_calibrate_asks_the_judge_for_what_has_no_grade(tmp_path: Path) -> None:
    """A scripted server stands in for the judge: it calls right what says `fine`."""

    def verdict(request: Recorded) -> Reply:
        asked = json.loads(request.body)
        said = asked["messages"][-1]["content"].partition("\nAnswer: ")[2]
        word = "CORRECT" if said.startswith("fine") else "INCORRECT"
        return Reply(body=completion(word, asked["model"]))

    lines = []
    for n in range(200):
        sure = n % 3 > 0
        local = {"answer": "fine" if sure else "bad"}
        local["logprobs"] = {"content": [{"token": "x", "logprob": -0.1 if sure else -2.0}]}  # type: ignore[assignment]
        row = {"id": f"q{n}", "question": f"q {n}?", "answers": ["gold"], "local": local}
        lines.append(json.dumps(row | {"cloud": {"correct": True, "cost_usd": 0.01}}))
    (tmp_path / "qa.jsonl").write_text("\n".join(lines) + "\n")
    with StandInCloud(verdict) as endpoint:
        command = ("calibrate", "--data", str(tmp_path / "qa.jsonl"), "--recorded")
        more = ("--out", str(tmp_path / "c.json"), "--goal", "accuracy at least 90%")
        judge = ("--judge", "big")
        done = ringfence(*command, *more, *judge, RINGFENCE_LOCAL_BASE_URL=endpoint.base_url)
        assert done.returncode == 0, done.stderr
        asked = [json.loads(request.body) for request in endpoint.requests if request.body]
        assert {body["model"] for body in asked} == {"big"}
        assert len(asked) == 200  # the cloud's grades are on record
    assert "100.0% right" in done.stdout
    refused = ringfence(*command, *more, *judge)
    assert "RINGFENCE_LOCAL_BASE_URL" in refused.stderr
