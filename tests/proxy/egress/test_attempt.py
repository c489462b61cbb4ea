"""One escalation: whatever happens, one intent and exactly one outcome."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import pytest

from audit.capture_keys import load_public_key, make_capture_key
from audit.captures import open_body
from audit.errors import AuditError
from audit.ledger import Ledger
from audit.stores.files import FileStore
from audit.vault import VAULT, Vault
from demo.stand_in_cloud import Recorded, Reply, StandInCloud, completion
from proxy.credentials import Credentials
from proxy.egress.attempt import Aim, CloudTier
from proxy.egress.budgets import Budget, Budgets, BudgetStore
from proxy.egress.cloud import OpenAICloud
from proxy.egress.limit import AttemptLimit
from proxy.egress.mask import Masked
from proxy.egress.restore import MARK, AnswerRestorer
from proxy.egress.spending import Spending
from proxy.egress.transport import Door
from proxy.errors import AnswerWithheld, CloudError, EgressDenied
from proxy.metrics import Metrics
from proxy.policy.switch import EgressSwitch
from proxy.prices import Price, Prices
from proxy.types import (
    Action,
    AnswerScan,
    Destination,
    Inspection,
    JSONObject,
    Outcome,
    RouteReason,
    Scan,
)
from tests.factories import a_body, a_decision, a_destination, a_request
from tests.harness import records_in
from tests.proxy.egress.masking import content, inspect, masked
from tests.proxy.egress.test_body import inspected

PRICES = Prices({"eu": {"gpt-4o-mini": Price(input=Decimal("0.03"), output=Decimal("0.06"))}})


@pytest.fixture
def cloud() -> Iterator[StandInCloud]:
    with StandInCloud() as server:
        yield server


@dataclass
class Stage:
    """A cloud tier over a real ledger and the real SDK."""

    tier: CloudTier
    folder: Path
    destination: Destination
    metrics: Metrics

    async def escalate(
        self,
        action: Action = Action.ALLOW,
        *,
        body: JSONObject | None = None,
        masked: Masked | None = None,
    ) -> Outcome:
        body = body or a_body()
        decision = a_decision(action, destinations=(self.destination,))
        outcome = await self.tier.escalate(
            a_request(body), inspected(body), decision, Aim(self.destination), masked
        )
        assert isinstance(outcome, Outcome)
        return outcome

    def kinds(self) -> list[tuple[object, object, object]]:
        return [
            (record["kind"], record.get("sent"), record.get("error_type"))
            for record in records_in(self.folder)
            if str(record["kind"]).startswith("egress")
        ]


@pytest.fixture
async def stage(cloud: StandInCloud, tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(cloud, tmp_path, None) as stage:
        yield stage


@pytest.fixture
async def capturing(cloud: StandInCloud, tmp_path: Path) -> AsyncIterator[Stage]:
    make_capture_key(tmp_path / "auditor")
    (tmp_path / "auditor" / "capture.key").rename(tmp_path / "private.pem")
    key = load_public_key(tmp_path / "auditor" / "capture.pub")
    async with staged(cloud, tmp_path, Vault(tmp_path / "ledger" / VAULT, key)) as stage:
        yield stage


@asynccontextmanager
async def staged(
    cloud: StandInCloud,
    tmp_path: Path,
    vault: Vault | None,
    budgets: BudgetStore | None = None,
    per_minute: int = 3,
) -> AsyncIterator[Stage]:
    store = FileStore(tmp_path / "ledger", tmp_path / "keys")
    ledger = Ledger.open_store(store, vault=vault)
    door, metrics = Door(), Metrics()
    tier = CloudTier(
        OpenAICloud(door, credentials=Credentials(other="k"), timeout_s=5),
        ledger,
        AttemptLimit(per_minute),
        EgressSwitch(tmp_path).is_on,
        metrics,
        Spending(PRICES, budgets, 100, metrics),
    )
    yield Stage(tier, tmp_path / "ledger", a_destination(cloud.base_url), metrics)
    await tier.aclose()
    await door.aclose()
    await ledger.close()


async def test_an_answer_leaves_an_intent_and_an_outcome(stage: Stage) -> None:
    await stage.escalate()
    assert stage.kinds() == [("egress.intent", None, None), ("egress.outcome", "yes", None)]


async def test_an_outcome_says_what_the_answer_cost(stage: Stage) -> None:
    await stage.escalate()
    (outcome,) = [r for r in records_in(stage.folder) if r["kind"] == "egress.outcome"]
    assert outcome["cost_usd"] == pytest.approx((20 * 0.03 + 9 * 0.06) / 1000)


async def test_a_fault_after_the_send_has_an_unknown_cost(
    stage: Stage, cloud: StandInCloud
) -> None:
    cloud.reply = lambda _: Reply(500, b"{}")
    with pytest.raises(CloudError):
        await stage.escalate()
    (outcome,) = [r for r in records_in(stage.folder) if r["kind"] == "egress.outcome"]
    assert outcome["cost_usd"] is None
    told = stage.metrics.exposition()
    assert b'ringfence_cloud_cost_unknown_total{destination="eu"} 1.0' in told
    known = b'ringfence_cloud_cost_usd_total{destination="eu"}'
    assert known not in told
    cloud.reply = lambda _: Reply()
    await stage.escalate()
    assert known + b" 0.00114" in stage.metrics.exposition()


async def test_a_fault_leaves_an_intent_and_an_outcome(stage: Stage, cloud: StandInCloud) -> None:
    cloud.reply = lambda _: Reply(500, b"{}")
    with pytest.raises(CloudError):
        await stage.escalate()
    assert stage.kinds()[1:] == [("egress.outcome", "yes", "status_5xx")]


@pytest.mark.parametrize("delay_s", [0.0, 0.002, 0.02, 0.3])
async def test_a_client_that_hangs_up_leaves_one_outcome_and_no_waiting(
    delay_s: float, stage: Stage, cloud: StandInCloud
) -> None:
    cloud.reply = lambda _: Reply(delay_s=1.0)
    task = asyncio.create_task(stage.escalate())
    await asyncio.sleep(delay_s)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await stage.tier.aclose()
    kinds = [kind for kind, _, _ in stage.kinds()]
    assert kinds in ([], ["egress.intent", "egress.outcome"])
    assert len(cloud.requests) <= len(kinds) // 2


@pytest.mark.parametrize("action", [Action.BLOCK, Action.LOCAL_ONLY, Action.MASK])
async def test_refuses_what_the_decision_forbids(
    action: Action, stage: Stage, cloud: StandInCloud
) -> None:
    with pytest.raises(EgressDenied):
        await stage.escalate(action)
    assert cloud.requests == []
    assert stage.kinds() == []


async def test_what_leaves_only_masked_leaves_only_inspected_again(
    stage: Stage, cloud: StandInCloud
) -> None:
    body = a_body("Jane Doe is in.")
    done = masked(body)
    assert done is not None
    with pytest.raises(EgressDenied):
        await stage.escalate(Action.MASK, body=body, masked=done)
    with pytest.raises(EgressDenied):
        await stage.escalate(
            Action.MASK, body=body, masked=replace(done, inspection=inspected(body))
        )
    assert cloud.requests == []


async def test_what_putting_values_back_came_to_is_recorded_and_counted(
    stage: Stage, cloud: StandInCloud
) -> None:
    body = a_body("Jane Doe is in.")
    done = masked(body)
    assert done is not None

    def call(asked: Recorded) -> Reply:
        said = content(json.loads(asked.body))
        answer = json.loads(completion(f"{said} <PERSON_zzzzz9>", "gpt-4o-mini"))
        function = {"name": "send", "arguments": json.dumps({"text": said})}
        tool_call = {"id": "call_1", "type": "function", "function": function}
        answer["choices"][0]["message"]["tool_calls"] = [tool_call]
        return Reply(body=json.dumps(answer).encode())

    cloud.reply = call
    ready = replace(done, inspection=inspected(done.body))
    outcome = await stage.escalate(Action.MASK, body=body, masked=ready)
    assert outcome.body[MARK] == {"restored_tool_calls": ["call_1"]}
    (record,) = [r for r in records_in(stage.folder) if r["kind"] == "egress.outcome"]
    counts = ("restored", "unknown_placeholders", "marked_tool_calls")
    assert [record[name] for name in counts] == [2, 1, 1]
    told = stage.metrics.exposition()
    assert b'ringfence_placeholders_total{result="restored"} 2.0' in told
    assert b'ringfence_placeholders_total{result="unknown"} 1.0' in told
    assert b"ringfence_marked_tool_calls_total 1.0" in told
    assert b"Jane" not in told


@pytest.mark.parametrize("does", [Scan.NOTE, Scan.BLOCK])
async def test_what_inspecting_an_answer_came_to_is_recorded_with_its_cost(
    does: Scan, stage: Stage, cloud: StandInCloud
) -> None:
    cloud.reply = lambda _: Reply(body=completion("Ask Ann.", "gpt-4o-mini"))
    scan = AnswerScan(does, frozenset({"PERSON"}), 0.5)
    decision = replace(a_decision(destinations=(stage.destination,)), scan=scan)

    async def look(body: JSONObject) -> Inspection:
        return inspect(body)

    asked = (a_request(a_body()), inspected(a_body()), decision, Aim(stage.destination))
    with pytest.raises(EgressDenied):
        await stage.tier.escalate(*asked)
    assert cloud.requests == []
    if does is Scan.NOTE:
        await stage.tier.escalate(*asked, None, look)
    else:
        with pytest.raises(AnswerWithheld):
            await stage.tier.escalate(*asked, None, look)
    (record,) = [r for r in records_in(stage.folder) if r["kind"] == "egress.outcome"]
    verdict = "noted" if does is Scan.NOTE else "blocked"
    assert (record["answer_scan"], record["answer_entities"]) == (verdict, {"PERSON": 1})
    assert (record["status"], record["cost_usd"]) == (200, 0.00114)
    told = stage.metrics.exposition().decode()
    assert f'ringfence_answer_scans_total{{verdict="{verdict}"}} 1.0' in told


async def test_an_answer_that_cannot_be_made_whole_has_its_outcome(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = a_body("Jane Doe is in.")
    done = masked(body)
    assert done is not None

    def fail(*_: object) -> None:
        raise ValueError("Jane Doe")

    monkeypatch.setattr(AnswerRestorer, "answer", fail)
    ready = replace(done, inspection=inspected(done.body))
    with pytest.raises(CloudError) as caught:
        await stage.escalate(Action.MASK, body=body, masked=ready)
    assert "Jane" not in str(caught.value)
    assert caught.value.__context__ is None
    assert stage.kinds()[1:] == [("egress.outcome", "yes", "internal")]


async def test_a_masked_request_leaves_without_its_values_and_gets_them_back(
    stage: Stage, cloud: StandInCloud
) -> None:
    cloud.reply = lambda asked: Reply(
        body=completion(f"You said: {content(json.loads(asked.body))}", "gpt-4o-mini")
    )
    body = a_body("Jane Doe is in.")
    done = masked(body)
    assert done is not None
    ready = replace(done, inspection=inspected(done.body))
    outcome = await stage.escalate(Action.MASK, body=body, masked=ready)
    assert b"Jane" not in cloud.received
    assert outcome.body["choices"][0]["message"]["content"] == "You said: Jane Doe is in."  # type: ignore[index,call-overload]
    (intent,) = [r for r in records_in(stage.folder) if r["kind"] == "egress.intent"]
    assert intent["masked"] == {"PERSON": 1}


async def test_refuses_a_destination_that_the_decision_does_not_name(
    stage: Stage, cloud: StandInCloud
) -> None:
    body = a_body()
    with pytest.raises(EgressDenied):
        await stage.tier.escalate(
            a_request(body), inspected(body), a_decision(), Aim(stage.destination)
        )
    assert cloud.requests == []


async def test_the_cap_holds_whatever_is_asked(stage: Stage, cloud: StandInCloud) -> None:
    results = await asyncio.gather(*(stage.escalate() for _ in range(10)), return_exceptions=True)
    refused = [r for r in results if isinstance(r, CloudError) and r.upstream_error == "capped"]
    assert (len(cloud.requests), len(refused)) == (3, 7)
    assert not stage.tier.is_ready


async def test_sends_nothing_while_the_switch_is_off(stage: Stage, cloud: StandInCloud) -> None:
    switch = EgressSwitch(stage.folder.parent)
    switch.turn_off("sec", "incident")
    assert not stage.tier.is_ready
    with pytest.raises(CloudError) as caught:
        await stage.escalate()
    assert (caught.value.upstream_error, caught.value.sent) == ("switched_off", "no")
    assert cloud.requests == []
    assert stage.kinds() == [
        ("egress.intent", None, None),
        ("egress.outcome", "no", "switched_off"),
    ]
    switch.turn_on()
    assert stage.tier.is_ready
    assert await stage.escalate()


async def test_the_captured_body_is_what_the_cloud_got(
    capturing: Stage, cloud: StandInCloud, tmp_path: Path
) -> None:
    body = a_body("Jane Doe is in.")
    done = masked(body)
    assert done is not None
    ready = replace(done, inspection=inspected(done.body))
    await capturing.escalate(Action.MASK, body=body, masked=ready)
    (intent,) = (r for r in records_in(capturing.folder) if r["kind"] == "egress.intent")
    opened = open_body(capturing.folder, str(intent["id"]), tmp_path / "private.pem")
    (got,) = cloud.requests
    assert opened == got.body
    assert b"Jane" not in opened  # masked as it left


async def test_the_captured_body_is_there_when_the_cloud_gets_the_request(
    capturing: Stage, cloud: StandInCloud
) -> None:
    seen: list[int] = []

    def look(_: object) -> Reply:
        seen.append(len(list((capturing.folder / VAULT).glob("*/cap_*"))))
        return Reply()

    cloud.reply = look
    await capturing.escalate()
    assert seen == [2]


async def test_where_the_body_cannot_be_captured_nothing_leaves(
    capturing: Stage, cloud: StandInCloud
) -> None:
    assert capturing.tier.is_ready
    (capturing.folder / VAULT).write_bytes(b"a file where the vault should be")
    with pytest.raises(AuditError, match="the capture cannot be written"):
        await capturing.escalate()
    assert cloud.requests == []
    assert capturing.kinds() == []
    assert not capturing.tier.is_ready


@pytest.fixture
async def budgeted(cloud: StandInCloud, tmp_path: Path) -> AsyncIterator[Stage]:
    """A tier with half a dollar a day, enough for some twenty requests of this size at most."""
    budgets = Budgets(overall=Budget(day_usd=Decimal("0.5")))
    store = BudgetStore(tmp_path / "budgets.sqlite3", budgets)
    async with staged(cloud, tmp_path, None, store, per_minute=1000) as stage:
        yield stage
    store.close()


def spent(folder: Path) -> float:
    """What the store says was spent today, in US dollars."""
    with closing(sqlite3.connect(folder / "budgets.sqlite3")) as db:
        return float(sum(nano for (nano,) in db.execute("SELECT nano FROM spent"))) / 1e9


def costs(stage: Stage) -> list[object]:
    return [r["cost_usd"] for r in records_in(stage.folder) if r["kind"] == "egress.outcome"]


async def test_many_at_once_never_overspend(budgeted: Stage, cloud: StandInCloud) -> None:
    told = {"choices": [{"message": {"content": "Yes."}}], "usage": FULL}
    cloud.reply = lambda _: Reply(body=json.dumps(told).encode(), delay_s=0.02)
    results = await asyncio.gather(
        *(budgeted.escalate() for _ in range(120)), return_exceptions=True
    )
    refused = {r.upstream_error for r in results if isinstance(r, CloudError)}
    assert "over_budget" in refused
    assert refused <= {"over_budget", "connection"}  # the stand-in takes few connections at once
    known = [float(str(cost)) for cost in costs(budgeted) if cost is not None]
    assert 0 < len(known) <= len(cloud.requests) < 120
    assert sum(known) <= spent(budgeted.folder.parent) + 1e-9 <= 0.5 + 2e-9


#: As many tokens out as were allowed.
FULL = {"prompt_tokens": 20, "completion_tokens": 100}


async def test_where_there_is_no_key_nothing_is_charged_recorded_or_sent(
    budgeted: Stage, cloud: StandInCloud
) -> None:
    keyless = Credentials({"https://eu.example.com:443": "k"})
    budgeted.tier._backend = OpenAICloud(Door(), credentials=keyless, timeout_s=5)
    with pytest.raises(CloudError) as caught:
        await budgeted.escalate()
    assert (caught.value.upstream_error, caught.value.sent) == ("no_key", "no")
    why = await budgeted.tier.why_not(a_request(), budgeted.destination, None)
    assert why is RouteReason.CLOUD_UNAVAILABLE
    assert (cloud.requests, budgeted.kinds()) == ([], [])
    assert spent(budgeted.folder.parent) == 0.0
    assert b'outcome="no_key"} 1.0' in budgeted.metrics.exposition()


async def test_what_was_not_spent_is_there_again(budgeted: Stage, cloud: StandInCloud) -> None:
    for _ in range(30):  # at the bound, the budget is good for 22
        await budgeted.escalate()
    assert spent(budgeted.folder.parent) == pytest.approx(30 * 0.00114)
    (sent, *_) = cloud.requests
    assert json.loads(sent.body)["max_completion_tokens"] == 100


@pytest.mark.parametrize(
    ("reply", "is_refunded"),
    [
        (Reply(500, b"{}"), False),
        (Reply(400, b"{}"), False),
        (Reply(200, cut=True), False),
        (Reply(200, b"garbage"), False),
        (Reply(200, b'{"choices":[{"message":{"content":"no usage"}}]}'), False),
        (Reply(429, b"{}"), True),
        (Reply(401, b"{}"), True),
    ],
    ids=["500", "400", "cut", "garbage", "no usage", "429", "401"],
)
async def test_nothing_is_put_back_where_nobody_knows_what_it_cost(
    reply: Reply, is_refunded: bool, budgeted: Stage, cloud: StandInCloud
) -> None:
    cloud.reply = lambda _: reply
    with suppress(CloudError):
        await budgeted.escalate()
    assert (spent(budgeted.folder.parent) == 0.0) is is_refunded


async def test_what_was_not_sent_costs_nothing(budgeted: Stage, cloud: StandInCloud) -> None:
    EgressSwitch(budgeted.folder.parent).turn_off("sec", "incident")
    with pytest.raises(CloudError):
        await budgeted.escalate()
    EgressSwitch(budgeted.folder.parent).turn_on()
    (chain,) = (budgeted.folder / "wal").iterdir()
    chain.rename(chain.with_name("away"))
    chain.touch()  # a file where the chain's folder should be
    for number in range(5):
        with suppress(AuditError):
            await budgeted.escalate(body=a_body(f"Name river {number}."))
    assert spent(budgeted.folder.parent) == pytest.approx(0.00114 * len(cloud.requests))


async def test_a_client_that_hangs_up_at_once_takes_no_money_with_it(
    budgeted: Stage, cloud: StandInCloud
) -> None:
    for _ in range(5):
        task = asyncio.create_task(budgeted.escalate())
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await budgeted.tier.aclose()
    assert cloud.requests == []
    assert spent(budgeted.folder.parent) == 0.0


async def test_a_budget_store_that_fails_lets_nothing_leave(
    budgeted: Stage, cloud: StandInCloud
) -> None:
    with closing(sqlite3.connect(budgeted.folder.parent / "budgets.sqlite3")) as db:
        db.execute("DROP TABLE spent")
    with pytest.raises(CloudError) as caught:
        await budgeted.escalate()
    assert (caught.value.upstream_error, caught.value.sent) == ("no_budget", "no")
    request = a_request()
    why = await budgeted.tier.why_not(request, budgeted.destination, None)
    assert why is RouteReason.CLOUD_UNAVAILABLE
    assert await budgeted.tier.left_share("team") == 0.0
    assert (cloud.requests, budgeted.kinds()) == ([], [])


@pytest.mark.parametrize(
    "body",
    [a_body(web_search_options={}), a_body(model="gpt-4o")],
    ids=["a cost beside tokens", "a model without a price"],
)
async def test_what_has_no_bound_does_not_leave_under_a_budget(
    body: JSONObject, budgeted: Stage, cloud: StandInCloud
) -> None:
    with pytest.raises(CloudError) as caught:
        await budgeted.escalate(body=body)
    assert (caught.value.upstream_error, caught.value.sent) == ("no_bound", "no")
    why = await budgeted.tier.why_not(a_request(body), budgeted.destination, None)
    assert why is RouteReason.COST_UNKNOWN
    assert cloud.requests == []
