"""Up a chain of cloud models, through the whole pipeline, the real SDK and a real HTTP upstream."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from audit.errors import LedgerUnwritable
from demo.stand_in_cloud import END as END_OF_STREAM
from demo.stand_in_cloud import Recorded, Reply, StandInCloud, chunk, completion, streamed
from proxy.assembly import Proxy
from proxy.credentials import Credentials
from proxy.egress.attempt import CloudTier
from proxy.egress.budgets import Budget, Budgets, BudgetStore
from proxy.egress.cloud import OpenAICloud
from proxy.egress.limit import AttemptLimit
from proxy.egress.live import CloudStream
from proxy.egress.spending import Spending
from proxy.egress.transport import Door
from proxy.errors import CloudError, LocalBackendError, SettingsError
from proxy.pipeline import Pipeline
from proxy.policy.language import Responses
from proxy.policy.source import FilePolicySource
from proxy.policy.switch import EgressSwitch
from proxy.prices import Price, Prices
from proxy.routing.catalog import build_estimator
from proxy.routing.chain import Chain
from proxy.routing.ladder import Ladder, climb
from proxy.settings import load_settings
from proxy.types import JSONObject, OnLocalFailure, Response, Route, RouteReason, Scan, Target
from tests.factories import a_body, a_draft, a_finding, a_request
from tests.harness import SCHEMA, write_policy
from tests.proxy.egress.masking import PEOPLE
from tests.proxy.routing.tables import a_chain
from tests.proxy.test_pipeline import NAMED, SURE, UNSURE, ReadingInspector, World, unwritable
from tests.proxy.test_pipeline import world as world

#: Three models at two destinations; nobody but one app may use the second.
TWO = """destinations:
  - id: eu
    provider: openai
    base_url: {url}
    models: [mid, cheap]
    region: eu
    transfer: {{recipient: Example Ltd, country: IE, basis: intra_eea, retention: zero}}
  - id: us
    provider: openai
    base_url: {url}
    models: [dear, cheap]
    region: us
    transfer: {{recipient: Example Inc, country: US, basis: scc, retention: 30d}}
    only_for: {{scope: {{apps: [{app}]}}}}

rules:
"""
MASKING = ("min_score: 0.4}\n    action: local_only", "min_score: 0.4}\n    action: mask")

LOW, HIGH = (-2.0, -1.0), (-0.1, -0.2)


def scored(text: str, model: str, logprobs: tuple[float, ...] | None) -> bytes:
    """A completion with log-probabilities, and more alternatives than anybody asked for."""
    answer: Any = json.loads(completion(text, model))
    top = [{"token": "x", "logprob": -n - 0.1} for n in range(5)]
    content = [{"token": "x", "logprob": one, "top_logprobs": top} for one in logprobs or ()]
    answer["choices"][0]["logprobs"] = {"content": content} if logprobs is not None else None
    return json.dumps(answer).encode()


@dataclass
class Height:
    """The world with a chain over a real upstream.

    ``says`` are the log-probabilities of each model's answer, or what it replies.
    """

    world: World
    cloud: StandInCloud
    chain: Chain
    says: dict[str, tuple[float, ...] | Reply | None]
    budgets: BudgetStore | None = None
    before: Callable[[str], object] = lambda _: None
    text: Callable[[str], str] = "From {}.".format
    tiers: list[CloudTier] = field(default_factory=list)

    def reply(self, recorded: Recorded) -> Reply:
        model = json.loads(recorded.body)["model"]
        self.before(model)
        told = self.says[model]
        if isinstance(told, Reply):
            return told
        if not json.loads(recorded.body).get("logprobs"):
            told = None
        return Reply(body=scored(self.text(model), model, told))

    async def ask(self, body: JSONObject | None = None, **more: Any) -> Response:
        request = replace(a_request(body), **more)
        return await Pipeline(self.world.parts).answer(request)

    @property
    def asked(self) -> list[str]:
        """The models that got a request, in order."""
        return [json.loads(one.body)["model"] for one in self.cloud.requests]

    def records(self, kind: str) -> list[dict[str, Any]]:
        told: list[Any] = [one for one in self.world.records() if one["kind"] == kind]
        for one in told:
            SCHEMA.validate(one)
        return told

    def attempts(self) -> list[tuple[int, str, str, str | None]]:
        """Number, destination, model and fault of each attempt; there is one outcome to each."""
        outcomes = {one["intent_id"]: one for one in self.records("egress.outcome")}
        intents = self.records("egress.intent")
        assert sorted(outcomes) == sorted(one["id"] for one in intents)
        assert len(outcomes) == len(self.records("egress.outcome"))
        return [
            (n["attempt"], n["destination"], n["model"], outcomes[n["id"]]["error_type"])
            for n in intents
        ]

    def tier(self, per_minute: int = 1000, prices: Prices | None = None) -> None:
        """Open the cloud anew."""
        door = Door()
        backend = OpenAICloud(door, credentials=Credentials(other="k"), timeout_s=5)
        parts = self.world.parts
        spending = Spending(prices or Prices({}), self.budgets, 100, parts.metrics)
        limit, switch = AttemptLimit(per_minute), EgressSwitch(self.world.folder).is_on
        tier = CloudTier(backend, parts.ledger, limit, switch, parts.metrics, spending)
        self.tiers.append(tier)
        self.world.parts = replace(parts, cloud=tier)


@pytest.fixture
def upstream() -> Iterator[StandInCloud]:
    with StandInCloud() as server:
        yield server


def policy_of(height: Height, app: str = "app", *edits: tuple[str, str]) -> None:
    old = (Path("policies/default.yaml").read_text().split("destinations:")[1]).split("rules:")[0]
    two = TWO.format(url=height.cloud.base_url, app=app)
    old = old.replace("https://api.openai.com/v1", "http://127.0.0.1:9/v1")
    path = write_policy(height.world.folder, None, [(f"destinations:{old}rules:\n", two), *edits])
    height.world.policy[0] = FilePolicySource(path).load()


@pytest.fixture
async def height(world: World, upstream: StandInCloud) -> AsyncIterator[Height]:
    chain = a_chain("cheap", "mid", "dear")
    here = Height(world, upstream, chain, {"cheap": LOW, "mid": LOW, "dear": LOW})
    upstream.reply = here.reply
    world.local.draft = UNSURE
    estimator = build_estimator("mean_logprob", None, world.local, chain)
    models = ("ringfence", "local", "cheap", "mid", "dear")
    world.parts = replace(
        world.parts, chain=chain, estimator=estimator, models=lambda: models, cloud=None
    )
    policy_of(here)
    here.tier()
    yield here
    for tier in here.tiers:
        await tier.aclose()


def said(response: Response) -> Any:
    return response.body["choices"][0]["message"]["content"]  # type: ignore[index,call-overload]


def told_of(route: Any) -> tuple[Target, RouteReason, bool, str | None]:
    return (
        route.target,
        route.reason,
        route.degraded,
        route.destination.id if route.destination else None,
    )


async def test_a_sure_draft_climbs_nowhere(height: Height) -> None:
    height.world.local.draft = SURE
    assert (await height.ask()).route.reason is RouteReason.CONFIDENT
    assert height.asked == []


async def test_the_first_model_that_is_sure_answers(height: Height) -> None:
    height.says["mid"] = HIGH
    response = await height.ask()
    assert said(response) == "From mid."
    assert response.body["model"] == "mid"
    assert told_of(response.route) == (Target.CLOUD, RouteReason.LOW_CONFIDENCE, False, "eu")
    assert height.attempts() == [(1, "eu", "cheap", None), (2, "eu", "mid", None)]
    (decision,) = height.records("decision")
    assert decision["routing"]["calibration"] == height.chain.id
    first, second = (one["confidence"] for one in height.records("egress.outcome"))
    assert first == {
        "estimator": "mean_logprob",
        "score": -1.5,
        "threshold": -0.5,
        "calibration": height.chain.id,
        "reasons": [],
    }
    assert second["score"] == pytest.approx(-0.15)
    counted = height.world.parts.metrics.exposition()
    assert b'ringfence_rung_attempts_total{end="went_on",rung="1"} 1.0' in counted
    assert b'ringfence_rung_attempts_total{end="given",rung="2"} 1.0' in counted


async def test_the_last_one_answers_whatever_it_thinks_of_its_answer(height: Height) -> None:
    response = await height.ask()
    assert said(response) == "From dear."
    assert told_of(response.route) == (Target.CLOUD, RouteReason.LOW_CONFIDENCE, False, "us")
    assert [where for _, where, _, _ in height.attempts()] == ["eu", "eu", "us"]
    bodies = [json.loads(one.body) for one in height.cloud.requests]
    assert [(b.get("logprobs"), b.get("top_logprobs")) for b in bodies] == [(True, 5)] * 2 + [
        (None, None)
    ]
    assert height.records("egress.outcome")[-1]["confidence"] is None


@pytest.mark.parametrize(
    ("more", "shown"),
    [({}, None), ({"logprobs": False}, None), ({"logprobs": True, "top_logprobs": 1}, 1)],
    ids=str,
)
async def test_a_client_sees_the_log_probabilities_that_it_asked_for(
    more: dict[str, Any], shown: int | None, height: Height
) -> None:
    height.says["cheap"] = HIGH
    body: Any = (await height.ask(a_body(**more))).body
    told = body["choices"][0]["logprobs"]
    assert (told and [len(one["top_logprobs"]) for one in told["content"]]) == (
        None if shown is None else [shown] * len(HIGH)
    )


@pytest.mark.parametrize(
    "told",
    [None, (), (-0.1, -0.1, -0.1), (0.0, 0.0), (-0.1, 5.0)],
    ids=["none", "empty", "constant", "zeros", "above 0"],
)
async def test_an_answer_that_nobody_can_judge_is_not_taken_for_a_sure_one(
    told: tuple[float, ...] | None, height: Height
) -> None:
    height.says |= {"cheap": told, "mid": HIGH}
    assert said(await height.ask()) == "From mid."
    assert height.records("egress.outcome")[0]["confidence"]["score"] is None


async def test_doubt_in_words_goes_on_whatever_the_score(height: Height) -> None:
    height.says |= {"cheap": HIGH, "mid": HIGH}
    height.text = lambda model: "I'm not sure." if model == "cheap" else "Yes."
    assert said(await height.ask()) == "Yes."
    assert height.records("egress.outcome")[0]["confidence"]["reasons"] == ["hedge:i'm not sure"]


async def test_a_completion_of_the_older_form_climbs_too(height: Height) -> None:
    def reply(recorded: Recorded) -> Reply:
        body = json.loads(recorded.body)
        low = {"tokens": ["a", "b"], "token_logprobs": list(LOW)}
        choice = {"index": 0, "text": body["model"], "finish_reason": "stop"}
        choice |= {"logprobs": low if body.get("logprobs") else None}
        return Reply(body=json.dumps({"model": body["model"], "choices": [choice]}).encode())

    height.cloud.reply = reply
    response = await height.ask({"model": "ringfence", "prompt": "Name it."}, route="completions")
    assert height.asked == ["cheap", "mid", "dear"]
    assert response.body["choices"][0]["text"] == "dear"  # type: ignore[index,call-overload]
    assert json.loads(height.cloud.requests[0].body)["logprobs"] == 1


async def test_a_response_climbs_too_and_stores_nothing_anywhere(height: Height) -> None:
    def reply(recorded: Recorded) -> Reply:
        body = json.loads(recorded.body)
        told = LOW if body["model"] == "cheap" else HIGH
        scores = [{"token": "x", "logprob": one, "top_logprobs": []} for one in told]
        part = {"type": "output_text", "text": body["model"], "annotations": []}
        part |= {"logprobs": scores if body.get("include") else []}
        message = {"type": "message", "role": "assistant", "content": [part]}
        answer = {"model": body["model"], "status": "completed", "output": [message]}
        return Reply(body=json.dumps(answer).encode())

    height.cloud.reply = reply
    response = await height.ask({"model": "ringfence", "input": "Name it."}, route="responses")
    assert height.asked == ["cheap", "mid"]
    given: Any = response.body
    part = given["output"][0]["content"][0]
    assert (part["text"], part["logprobs"]) == ("mid", [])
    bodies = [json.loads(one.body) for one in height.cloud.requests]
    assert [body["store"] for body in bodies] == [False, False]
    assert height.records("egress.outcome")[1]["confidence"]["score"] == pytest.approx(-0.15)


async def test_a_client_that_chose_its_model_gets_it(height: Height) -> None:
    assert said(await height.ask({**a_body(), "model": "mid"})) == "From mid."
    assert height.attempts() == [(1, "eu", "mid", None)]
    assert height.records("egress.outcome")[0]["confidence"] is None
    assert b"rung_attempts_total{" not in height.world.parts.metrics.exposition()
    assert (await height.ask({**a_body(), "model": "local"})).route.target is Target.LOCAL
    assert height.asked == ["mid"]


async def test_what_is_pinned_never_climbs(height: Height) -> None:
    height.world.inspector.findings = (a_finding("EMAIL_ADDRESS"),)
    assert (await height.ask()).route.reason is RouteReason.PINNED
    assert height.asked == []


async def test_the_decision_is_the_ceiling_of_the_climb(height: Height) -> None:
    policy_of(height, "research")
    response = await height.ask()
    assert said(response) == "From mid."  # the last that may be asked, though it is not sure
    assert told_of(response.route) == (Target.CLOUD, RouteReason.LOW_CONFIDENCE, False, "eu")
    assert [where for _, where, _, _ in height.attempts()] == ["eu", "eu"]
    assert "logprobs" not in json.loads(height.cloud.requests[-1].body)


#: Nothing goes to one model, whoever chooses it.
NEVER = (
    "\nrules:\n",
    "\nrules:\n  - {{id: never, why: by contract, scope: {{models: [{}]}}, "
    "when: {{always: true}}, action: block}}\n",
)


async def test_a_model_that_a_rule_is_on_is_no_rung(height: Height) -> None:
    policy_of(height, "app", (NEVER[0], NEVER[1].format("dear")))
    assert said(await height.ask()) == "From mid."  # the last that may be asked
    assert [model for _, _, model, _ in height.attempts()] == ["cheap", "mid"]
    height.world.parts = replace(height.world.parts, chain=None)
    policy_of(height, "app", (NEVER[0], NEVER[1].format("mid")))
    assert said(await height.ask()) == "From cheap."  # of its first destination's
    height.cloud.requests.clear()
    policy_of(height, "app", (NEVER[0], NEVER[1].format("mid, cheap, dear")))
    assert (await height.ask()).route == Route(Target.LOCAL, RouteReason.PINNED)
    assert height.asked == []


async def test_without_any_of_its_models_a_request_goes_as_without_a_chain(height: Height) -> None:
    height.world.parts = replace(height.world.parts, chain=a_chain("none", "nowhere"))
    assert said(await height.ask()) == "From mid."
    assert height.attempts() == [(1, "eu", "mid", None)]


FAULTS: dict[str, Reply] = {
    "status_5xx": Reply(500, b"{}"),
    "status_4xx": Reply(400, b'{"error":{"message":"canary-4711"}}'),
    "garbage": Reply(200, b"canary-4711"),
    "connection": Reply(cut=True),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_of_a_further_model_leaves_the_answer_in_hand(
    name: str, height: Height
) -> None:
    height.says["mid"] = FAULTS[name]
    response = await height.ask()
    assert said(response) == "From cheap."
    assert told_of(response.route) == (Target.CLOUD, RouteReason.CLOUD_FAILED, True, "eu")
    assert height.attempts() == [(1, "eu", "cheap", None), (2, "eu", "mid", name)]
    counted = height.world.parts.metrics.exposition()
    assert b'ringfence_rung_attempts_total{end="fault",rung="2"} 1.0' in counted


async def test_a_fault_of_the_first_is_the_draft_and_no_other_model(height: Height) -> None:
    height.says["cheap"] = Reply(500, b"{}")
    response = await height.ask()
    assert response.body == UNSURE.body
    assert told_of(response.route) == (Target.LOCAL, RouteReason.CLOUD_FAILED, True, None)
    assert height.asked == ["cheap"]


async def test_without_a_draft_the_fault_of_the_first_is_the_clients(height: Height) -> None:
    height.world.change_policy(on_local_failure=OnLocalFailure.CLOUD)
    height.world.local.fault = LocalBackendError("down")
    height.says["cheap"] = Reply(500, b"{}")
    with pytest.raises(CloudError):
        await height.ask()
    height.says |= {"cheap": LOW, "mid": Reply(500, b"{}")}
    assert said(await height.ask()) == "From cheap."


async def test_a_switch_between_two_models_ends_the_climb(height: Height) -> None:
    switch = EgressSwitch(height.world.folder)
    height.before = lambda _: switch.turn_off("operator", "drill")
    response = await height.ask()
    assert said(response) == "From cheap."
    assert told_of(response.route) == (Target.CLOUD, RouteReason.CLOUD_UNAVAILABLE, True, "eu")
    assert height.attempts() == [(1, "eu", "cheap", None)]


async def test_without_time_for_a_further_model_the_answer_in_hand_is_given(height: Height) -> None:
    height.world.parts = replace(height.world.parts, climb_s=60.0)
    early = datetime.now(UTC) - timedelta(seconds=61)
    response = await height.ask(received_at=early)
    assert said(response) == "From cheap."
    assert told_of(response.route) == (Target.CLOUD, RouteReason.CLOUD_UNAVAILABLE, True, "eu")
    assert said(await height.ask()) == "From dear."


async def test_the_cap_counts_every_attempt(height: Height) -> None:
    height.tier(per_minute=2)
    response = await height.ask()
    assert said(response) == "From mid."
    assert response.route.reason is RouteReason.CLOUD_UNAVAILABLE
    assert height.asked == ["cheap", "mid"]
    assert (await height.ask()).route.target is Target.LOCAL


async def test_an_intent_that_cannot_be_recorded_leaves_the_answer_in_hand(
    height: Height, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = height.world.parts.ledger.intent

    async def once(record: Any, *more: Any) -> Any:
        if record.attempt > 1:
            raise LedgerUnwritable("the disk is full")
        return await true(record, *more)

    monkeypatch.setattr(height.world.parts.ledger, "intent", once)
    response = await height.ask()
    assert said(response) == "From cheap."
    assert told_of(response.route) == (Target.CLOUD, RouteReason.LEDGER_UNWRITABLE, True, "eu")
    assert height.attempts() == [(1, "eu", "cheap", None)]


async def test_a_lost_outcome_does_not_cost_the_answer(
    height: Height, monkeypatch: pytest.MonkeyPatch
) -> None:
    unwritable(height.world, monkeypatch, "outcome")
    assert said(await height.ask()) == "From dear."
    assert height.asked == ["cheap", "mid", "dear"]


def dollars(cheap: str, mid: str) -> Prices:
    """Prices of a thousand tokens out; nobody knows what the dear model costs."""
    prices = {
        name: Price(input=Decimal(0), output=Decimal(most))
        for name, most in (("cheap", cheap), ("mid", mid))
    }
    return Prices({"eu": prices})


@pytest.fixture
def poor(height: Height, tmp_path: Path) -> Iterator[Height]:
    """A dollar a day; an answer has at most 100 tokens, and 9 in the end."""
    budgets = Budgets(overall=Budget(day_usd=Decimal(1)))
    height.budgets = BudgetStore(tmp_path / "budgets.sqlite3", budgets)
    yield height
    height.budgets.close()


@pytest.mark.parametrize(
    ("mid", "asked", "reason"),
    [
        ("100", ["cheap"], RouteReason.BUDGET_SPENT),  # ten dollars at most
        ("1", ["cheap", "mid"], RouteReason.COST_UNKNOWN),  # of the dear one
    ],
)
async def test_a_model_that_no_budget_bears_leaves_the_answer_in_hand(
    mid: str, asked: list[str], reason: RouteReason, poor: Height
) -> None:
    poor.tier(prices=dollars("1", mid))
    response = await poor.ask()
    assert poor.asked == asked
    assert said(response) == f"From {asked[-1]}."
    assert told_of(response.route)[1:3] == (reason, True)
    assert len(poor.attempts()) == len(asked)


async def test_every_attempt_is_charged(poor: Height) -> None:
    poor.tier(prices=dollars("1", "2"))
    await poor.ask()
    assert poor.budgets is not None
    left = await poor.budgets.left("team")
    assert left.nano == 10**9 - 9 * 10**6 - 18 * 10**6  # nine tokens of each


async def test_a_budget_that_runs_low_asks_for_less_of_a_clouds_answer_too(poor: Height) -> None:
    poor.tier(prices=dollars("0.001", "0.001"))
    assert poor.budgets is not None
    await poor.budgets.reserve("team", Decimal("0.9"))
    poor.world.local.draft = a_draft("The Danube?", (-9.0,))
    poor.says["cheap"] = (-0.6, -0.7)  # below -0.5, and not below what a tenth is left of asks for
    response = await poor.ask()
    assert said(response) == "From cheap."
    assert told_of(response.route)[1:3] == (RouteReason.BUDGET_LOW, True)
    (outcome,) = poor.records("egress.outcome")
    assert outcome["confidence"]["threshold"] < -0.65


async def test_each_model_gets_a_masked_request_masked(height: Height) -> None:
    policy_of(height, "app", MASKING)
    inspector = ReadingInspector()
    height.world.parts = replace(height.world.parts, inspector=inspector)
    texts: list[str] = []

    def echo(recorded: Recorded) -> Reply:
        body = json.loads(recorded.body)
        texts.append(body["messages"][-1]["content"])
        return Reply(body=scored(texts[-1], body["model"], LOW if body.get("logprobs") else None))

    height.cloud.reply = echo
    response = await height.ask(a_body(NAMED))
    assert height.asked == ["cheap", "mid", "dear"]
    for name in PEOPLE:
        assert name.encode() not in height.cloud.received
    assert said(response) == NAMED
    assert inspector.num_inspected == 4  # once as it came, and once for each model
    masks = [one["masked"] for one in height.records("egress.intent")]
    assert masks == [{"EMAIL_ADDRESS": 1, "PERSON": 2}] * 3
    assert [one["restored"] for one in height.records("egress.outcome")] == [3, 3, 3]
    assert not response.pinned


async def test_what_masking_lays_bare_for_a_further_model_does_not_go_there(
    height: Height,
) -> None:
    policy_of(height, "app", MASKING)

    class Learning(ReadingInspector):
        async def inspect(self, body: JSONObject, *_: Any, **__: Any) -> Any:
            if self.num_inspected == 2:  # the second model's body
                self.entities = {"asks": "PERSON"}
            return await super().inspect(body)

    height.world.parts = replace(height.world.parts, inspector=Learning())
    response = await height.ask(a_body(NAMED))
    assert height.asked == ["cheap"]
    assert told_of(response.route) == (Target.CLOUD, RouteReason.UNMASKABLE, False, "eu")


async def test_the_last_answer_flows_and_the_others_are_gathered(height: Height) -> None:
    words = (chunk({"role": "assistant", "content": "The Volga."}), chunk({}, "stop"))
    height.says["dear"] = streamed(*words, END_OF_STREAM)
    response = await height.ask(a_body(stream=True), live=True)
    assert isinstance(response.live, CloudStream)
    told = [one async for one in response.live]
    assert told[0]["choices"][0]["delta"]["content"] == "The Volga."  # type: ignore[index,call-overload]
    bodies = [json.loads(one.body) for one in height.cloud.requests]
    assert [body.get("stream") for body in bodies] == [None, None, True]
    await height.tiers[-1].aclose()
    assert len(height.attempts()) == 3


async def test_a_sure_answer_to_a_stream_is_told_from_the_whole(height: Height) -> None:
    height.says["cheap"] = HIGH
    response = await height.ask(a_body(stream=True), live=True)
    assert response.live is None
    assert said(response) == "From cheap."


async def test_a_stream_that_does_not_begin_leaves_the_answer_in_hand(height: Height) -> None:
    height.says["dear"] = streamed(b": hello\n\n", cut=True)
    response = await height.ask(a_body(stream=True), live=True)
    assert response.live is None
    assert said(response) == "From mid."
    assert response.route.reason is RouteReason.CLOUD_FAILED


async def test_every_answer_is_inspected_and_a_withheld_one_is_neither_scored_nor_given(
    height: Height,
) -> None:
    height.world.parts = replace(height.world.parts, inspector=ReadingInspector())
    responses = Responses(scan=Scan.BLOCK, categories=["identity"], entities=[])
    height.world.change_policy(responses=responses)
    height.says |= {"cheap": LOW, "mid": HIGH}
    height.text = lambda model: "Ask Jane Doe." if model == "mid" else "Ask nobody."
    response = await height.ask()
    assert said(response) == "Ask nobody."
    assert told_of(response.route) == (Target.CLOUD, RouteReason.ANSWER_WITHHELD, True, "eu")
    first, second = height.records("egress.outcome")
    assert (first["answer_scan"], first["confidence"]["score"]) == ("clean", -1.5)
    assert (second["answer_scan"], second["confidence"]) == ("blocked", None)
    height.text = lambda model: "Ask Jane Doe."
    response = await height.ask()
    assert told_of(response.route) == (Target.LOCAL, RouteReason.ANSWER_WITHHELD, True, None)
    assert height.asked == ["cheap", "mid", "cheap"]


@pytest.mark.parametrize("model", ["cheap", "mid", "dear"])
async def test_a_client_that_leaves_while_a_model_answers_ends_the_climb_there(
    model: str, height: Height, gate: threading.Event
) -> None:
    there = asyncio.Event()
    loop = asyncio.get_running_loop()

    def tell(asked: str) -> None:
        if asked == model:
            loop.call_soon_threadsafe(there.set)
            gate.wait(60)

    height.before = tell
    task = asyncio.create_task(height.ask())
    await there.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await height.tiers[-1].aclose()
    models = ["cheap", "mid", "dear"]
    upto = models.index(model) + 1
    assert height.asked == models[:upto]
    told = [fault for *_, fault in height.attempts()]
    assert told == [None] * (upto - 1) + ["client_abort"]


async def test_a_client_that_leaves_between_two_models_ends_the_climb_there(
    height: Height, monkeypatch: pytest.MonkeyPatch
) -> None:
    between, tier = asyncio.Event(), height.tiers[-1]
    true, num_asked = tier.why_not, 0

    async def waits(*about: Any) -> RouteReason | None:
        nonlocal num_asked
        num_asked += 1
        if num_asked > 1:  # the first is before the decision is recorded
            between.set()
            await asyncio.sleep(60)
        return await true(*about)

    monkeypatch.setattr(tier, "why_not", waits)
    task = asyncio.create_task(height.ask())
    await between.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await tier.aclose()
    assert height.attempts() == [(1, "eu", "cheap", None)]
    assert height.asked == ["cheap"]


async def test_a_question_ends_where_the_evaluation_says(height: Height) -> None:
    """The rule that was tested on record is the rule that runs."""
    told = np.random.default_rng(4711)
    rows, names = 40, ("cheap", "mid", "dear")
    score = np.round(-told.exponential(0.6, (rows, 4)), 3)
    score[told.random((rows, 4)) < 0.15] = np.nan
    doubts = told.random((rows, 4)) < 0.15
    zeros = np.zeros((rows, 4))
    ladder = Ladder(("local", *names), score, doubts, doubts, zeros, zeros, zeros, zeros)
    for threshold in (-0.3, -0.8):
        chain = a_chain(*names, threshold=threshold, thresholds=(threshold - 0.2, threshold))
        expected = climb(ladder, (chain.threshold, *chain.thresholds)).at
        estimator = build_estimator("mean_logprob", None, height.world.local, chain)
        height.world.parts = replace(height.world.parts, chain=chain, estimator=estimator)
        for row in range(rows):
            home, *abroad = (None if np.isnan(one) else (float(one),) for one in score[row])
            words = ["I don't know." if one else "The Volga." for one in doubts[row]]
            height.world.local.draft = a_draft(words[0], home or ())
            height.says = dict(zip(names, abroad, strict=True))
            height.text = dict(zip(names, words[1:], strict=True)).__getitem__
            height.cloud.requests.clear()
            response = await height.ask()
            at = int(expected[row])
            assert height.asked == list(names[:at])
            assert response.route.target is (Target.CLOUD if at else Target.LOCAL)
            assert said(response) == words[at]
    assert set(expected.tolist()) == {0, 1, 2, 3}


async def test_whatever_happens_no_more_attempts_than_rungs_none_elsewhere_one_outcome_each(
    height: Height,
) -> None:
    """Random chains, policies and replies: the ceiling, the bound and the record hold."""
    told = random.Random(4711)  # noqa: S311
    reaches = {"app": {"eu", "us"}, "research": {"eu"}}
    seen_intents = 0
    ends = set()
    for _ in range(60):
        models = told.sample(["cheap", "mid", "dear"], told.randint(1, 3))
        app = told.choice(list(reaches))
        policy_of(height, app)
        chain = a_chain(*models, threshold=told.choice([-2.0, -0.5, 1e-9]))
        height.world.parts = replace(height.world.parts, chain=chain)
        for model in ("cheap", "mid", "dear"):
            height.says[model] = told.choice([LOW, HIGH, None, *FAULTS.values()])
        height.cloud.requests.clear()
        response = await height.ask(a_body(stream=told.random() < 0.3))
        ends.add(response.route.reason)
        assert response.http_status == 200
        new = height.attempts()[seen_intents:]
        seen_intents += len(new)
        assert len(new) == len(height.cloud.requests)
        assert [number for number, *_ in new] == list(range(1, len(new) + 1))
        assert {where for _, where, _, _ in new} <= reaches[app]
        asked = [model for _, _, model, _ in new]
        if {"cheap", "mid"} & set(models) or app == "app":
            assert asked == [m for m in models if m != "dear" or app == "app"][: len(asked)]
        else:
            assert asked == ["mid"]  # none of the chain: as without one
        if response.route.target is Target.CLOUD:
            assert response.body["model"] in asked
    assert ends == {RouteReason.LOW_CONFIDENCE, RouteReason.CLOUD_FAILED}


def test_a_policy_that_takes_a_model_away_from_a_running_chain_says_so(tmp_path: Path) -> None:
    path = write_policy(tmp_path, None)
    a_chain("gpt-4o-mini", "gpt-4o").save(tmp_path / "rungs.json")
    env = {
        "RINGFENCE_POLICY_FILE": str(path),
        "RINGFENCE_DATA_DIR": str(tmp_path / "data"),
        "RINGFENCE_LOCAL_BASE_URL": "http://127.0.0.1:8/v1",
        "RINGFENCE_LOCAL_MODEL": "local",
        "RINGFENCE_RUNGS_FILE": str(tmp_path / "rungs.json"),
    }
    proxy = Proxy(load_settings(env))
    assert isinstance(proxy._calibration(), Chain)
    path.write_text(path.read_text().replace("models: [gpt-4o-mini, gpt-4o]", "models: [gpt-4o]"))
    with capture_logs() as logs:
        proxy._keeper.check()
    (told,) = logs
    assert told["event"] == "rungs_without_destination"
    assert told["problem"] == "no destination has gpt-4o-mini"
    with pytest.raises(SettingsError, match="no destination of the policy has gpt-4o-mini"):
        proxy._calibration()
