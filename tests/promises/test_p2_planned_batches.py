"""P2 and P3 for batches that a plan sends: within the budget, and only what its decision lets go.

The scripted servers behind the proxy are stand-ins, not models.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from audit.verify import verify
from demo.stand_in_cloud import Recorded, Reply, StandInCloud
from proxy.routing.plan import Plan, Predictor
from tests.clients.scripted import Script
from tests.harness import RunningProxy, running_proxy, write_policy
from tests.promises.test_p2_batches import CLEAN, EMAIL, PINNED, a_line, end_of

pytestmark = pytest.mark.slow

MODEL = "smollm2-135m-instruct"
PRICES = "usd_per_1k_tokens:\n  openai: {gpt-4o-mini: {input: 0, output: 1}}\n"

#: A cloud answer costs a cent, and is right far more often than one from home.
PLAN = Plan(
    model=MODEL,
    model_digest=None,
    num_rows=100,
    data_digest="sha256:" + "0" * 64,
    made_at="2026-11-30T00:00:00+00:00",
    predictors=(
        Predictor("local", 0.1, 0.0),
        Predictor("gpt-4o-mini", 0.9, 0.01),
        Predictor("gpt-4o", 1.0, 0.01),  # nobody knows what it costs here
    ),
)

LINES = b"\n".join(
    (
        *(a_line(text, ("user", text)) for text in CLEAN),
        a_line("pinned", ("user", PINNED)),
        a_line("home", ("user", CLEAN[0]), model=MODEL),
    )
)


def test_a_plan_sends_what_it_may_within_its_budget_and_each_line_once(tmp_path: Path) -> None:
    PLAN.save(tmp_path / "plan.json")
    (tmp_path / "prices.yaml").write_text(PRICES)
    script = Script("cloud")
    with StandInCloud(script) as cloud, StandInCloud(Script("home")) as local:
        env = {
            "RINGFENCE_LOCAL_BASE_URL": local.base_url,
            "RINGFENCE_PLAN_FILE": str(tmp_path / "plan.json"),
            "RINGFENCE_PRICES_FILE": str(tmp_path / "prices.yaml"),
            "RINGFENCE_BATCH_BUDGET_USD": "0.035",
        }
        with running_proxy(tmp_path, cloud.base_url, env) as proxy, proxy.client as client:
            file = client.files.create(file=("lines.jsonl", LINES), purpose="batch")
            batch = client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            done = end_of(client, batch.id)
            assert done.status == "completed"
            assert done.output_file_id is not None
            text = client.files.content(done.output_file_id).text
            intents: list[Any] = proxy.records("egress.intent")
            decisions: list[Any] = proxy.records("decision")
            assert proxy.ask(CLEAN[0]).choices[0].message.content  # live requests know no plan
            assert proxy.records("decision")[-1]["routing"]["reason"] == "low_confidence"  # type: ignore[index]
        sent = [json.loads(one.body)["messages"][-1]["content"] for one in cloud.requests[:-1]]
    told = {one["custom_id"]: one["response"] for one in map(json.loads, text.splitlines())}
    assert len(told) == len(CLEAN) + 2
    assert len(sent) == len(set(sent)) == 3  # three cents and a half
    assert set(sent) <= set(CLEAN)
    assert EMAIL.encode() not in cloud.received
    assert [one["model"] for one in intents] == ["gpt-4o-mini"] * 3
    reasons = [one["routing"]["reason"] for one in decisions]
    assert reasons.count("planned") == 3
    assert reasons.count("held") == len(CLEAN)
    assert (reasons.count("pinned"), reasons.count("model_is_local")) == (1, 1)
    planned = {one["decision_id"] for one in decisions if one["routing"]["reason"] == "planned"}
    assert {one["decision_id"] for one in intents} == planned
    for name, response in told.items():
        assert (response["decision_id"] in planned) == (name in sent)
    assert verify(tmp_path / "data" / "ledger").is_sound


TOLD = "The older warden moved both patients, since the roof above the western stairs had sunk."
STRICTER = """
recognizers:
  - entity: WARD
    category: health
    why: wards are named after patients
    pattern: Nightingale
    score: 0.9
    examples: {{match: [Nightingale], no_match: [night]}}
rules:
  - id: wards
    why: wards are named after patients
    when: {{entities: [WARD]}}
    action: {action}
"""


def loads(proxy: RunningProxy, policy: Path, text: str) -> None:
    """Put ``text`` in the place of the policy, and wait until the proxy goes by it."""
    policy.write_text(text)
    deadline = time.monotonic() + 30
    while b'"policy.loaded"' not in proxy.log_path.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("action", ["local_only", "block"])
def test_an_answer_from_home_is_held_to_the_policy_that_its_line_meets_when_it_would_leave(
    action: str, tmp_path: Path, gate: threading.Event
) -> None:
    PLAN.save(tmp_path / "plan.json")
    (tmp_path / "prices.yaml").write_text(PRICES)
    answers, there, script = [TOLD], threading.Event(), Script("home")

    def at_home(recorded: Recorded) -> Reply:
        reply = script(recorded)
        if b"Nightingale" not in recorded.body:
            if CLEAN[0].encode() in recorded.body:
                there.set()
                gate.wait(60)
            return reply
        if not answers:  # what is asked a second time finds nobody
            return Reply(status=500)
        told = json.loads(reply.body or b"")
        told["choices"][0]["message"]["content"] = answers.pop()
        return Reply(body=json.dumps(told).encode())

    with StandInCloud(Script("cloud")) as cloud, StandInCloud(at_home) as local:
        policy = write_policy(tmp_path, cloud.base_url)
        env = {
            "RINGFENCE_LOCAL_BASE_URL": local.base_url,
            "RINGFENCE_POLICY_FILE": str(policy),
            "RINGFENCE_PLAN_FILE": str(tmp_path / "plan.json"),
            "RINGFENCE_PRICES_FILE": str(tmp_path / "prices.yaml"),
            "RINGFENCE_BATCH_BUDGET_USD": "1",
            "RINGFENCE_BATCH_CONCURRENCY": "1",
        }
        lines = b"\n".join(
            (a_line("ward", ("user", "Is ward Nightingale open?")), a_line("b", ("user", CLEAN[0])))
        )
        with running_proxy(tmp_path, cloud.base_url, env) as proxy, proxy.client as client:
            file = client.files.create(file=("lines.jsonl", lines), purpose="batch")
            batch = client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            assert there.wait(60)  # the first line has its answer from home, and nothing left yet
            changed = STRICTER.format(action=action)
            loads(proxy, policy, policy.read_text().replace("\nrules:\n", changed))
            gate.set()
            done = end_of(client, batch.id)
            assert done.output_file_id is not None
            told = client.files.content(done.output_file_id).text
            if done.error_file_id is not None:
                told += client.files.content(done.error_file_id).text
            assert b"Nightingale" not in cloud.received
            if action == "block":
                assert TOLD not in told
                assert "blocked_by_policy" in told
            else:
                assert TOLD in told
                proxy.ask(f"Why? {TOLD}")
                assert proxy.records("decision")[-1]["routing"]["reason"] == "pinned"  # type: ignore[index]
                assert TOLD.encode() not in cloud.received
