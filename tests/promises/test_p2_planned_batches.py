"""P2 and P3 for batches that a plan sends: within the budget, and only what its decision lets go.

The scripted servers behind the proxy are stand-ins, not models.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from audit.verify import verify
from demo.stand_in_cloud import StandInCloud
from proxy.routing.plan import Plan, Predictor
from tests.clients.scripted import Script
from tests.harness import running_proxy
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
