"""The flow over a real ledger, pin store and policy; only the models are stand-ins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from audit.errors import LedgerUnwritable
from audit.ledger import Ledger
from proxy.egress.attempt import CloudTier
from proxy.egress.limit import AttemptLimit
from proxy.errors import CloudError, LocalBackendError, RequestError
from proxy.pins import PinStore, PinStoreError
from proxy.pipeline import AUTO_MODEL, Parts, Pipeline
from proxy.policy.model import Policy
from proxy.policy.source import FilePolicySource
from proxy.policy.switch import EgressSwitch
from proxy.routing.logprob import MeanLogprobEstimator
from proxy.types import (
    Action,
    JSONObject,
    OnLocalFailure,
    Response,
    RouteReason,
    Target,
)
from tests.factories import a_body, a_draft, a_finding, a_request
from tests.fakes import FakeCloud, FakeInspector, FakeLocal
from tests.harness import ROOT, records_in

SURE = a_draft("The Volga, of course.", (-0.1,))
UNSURE = a_draft("The Danube, perhaps?", (-2.0,))


@dataclass
class World:
    """A pipeline and all it stands on."""

    folder: Path
    parts: Parts
    inspector: FakeInspector
    local: FakeLocal
    cloud: FakeCloud
    policy: list[Policy]
    answers: list[Response] = field(default_factory=list)

    async def ask(self, body: JSONObject | None = None) -> Response:
        return await Pipeline(self.parts).answer(a_request(body))

    def routing(self) -> dict[str, object]:
        decision = [r for r in records_in(self.folder / "ledger") if r["kind"] == "decision"][-1]
        return decision["routing"]  # type: ignore[return-value]

    def count(self, kind: str) -> int:
        return sum(record["kind"] == kind for record in records_in(self.folder / "ledger"))

    def change_policy(self, **changes: object) -> None:
        content = self.policy[0].content.model_copy(update=changes)
        self.policy[0] = replace(self.policy[0], content=content)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    ledger = Ledger.open(tmp_path / "ledger", keys_dir=tmp_path / "keys")
    pins = PinStore(tmp_path / "pins.sqlite3", b"k" * 32, 100.0)
    inspector, local, cloud = FakeInspector(), FakeLocal(SURE), FakeCloud()
    policy = [FilePolicySource(ROOT / "policies" / "default.yaml").load()]
    tier = CloudTier(cloud, ledger, AttemptLimit(100), EgressSwitch(tmp_path).is_on)
    parts = Parts(
        inspector=inspector,
        policy=lambda: policy[0],
        models=lambda: (AUTO_MODEL, "local", "gpt-4o-mini", "gpt-4o"),
        local=local,
        local_model="local",
        estimator=MeanLogprobEstimator(-0.6),
        ledger=ledger,
        pins=pins,
        cloud=tier,
    )
    yield World(tmp_path, parts, inspector, local, cloud, policy)
    await tier.aclose()
    pins.close()
    await ledger.close()


async def test_a_sure_draft_is_the_answer(world: World) -> None:
    response = await world.ask()
    assert (response.http_status, response.body) == (200, SURE.body)
    assert response.route.reason is RouteReason.CONFIDENT
    assert world.cloud.bodies == []
    assert world.routing()["reason"] == "confident"


async def test_an_unsure_draft_escalates(world: World) -> None:
    world.local.draft = UNSURE
    response = await world.ask()
    assert response.route.target is Target.CLOUD
    assert response.body["choices"][0]["message"]["content"] == "From afar."  # type: ignore[index,call-overload]
    assert len(world.cloud.bodies) == 1
    assert (world.count("decision"), world.count("egress.intent")) == (1, 1)
    assert world.count("egress.outcome") == 1


async def test_a_sensitive_request_stays_whatever_the_confidence(world: World) -> None:
    world.local.draft = UNSURE
    world.inspector.findings = (a_finding("EMAIL_ADDRESS"),)
    response = await world.ask()
    assert response.route.reason is RouteReason.PINNED
    assert world.cloud.bodies == []


async def test_a_blocked_request_is_not_even_drafted(world: World) -> None:
    world.inspector.findings = (a_finding("CREDIT_CARD"),)
    response = await world.ask()
    assert response.http_status == 400
    assert response.body["error"]["code"] == "blocked_by_policy"  # type: ignore[index,call-overload]
    assert world.local.num_asked == 0
    assert world.routing()["reason"] == "blocked"


async def test_a_quoted_pinned_answer_is_pinned(world: World) -> None:
    world.inspector.findings = (a_finding("PERSON"),)
    first = await world.ask()
    world.inspector.findings = ()
    world.local.draft = UNSURE
    await world.ask(a_body("  the VOLGA, of course. "))
    assert world.cloud.bodies == []
    assert world.routing()["derived_from"] == first.decision_id


async def test_a_pin_store_that_cannot_be_read_pins(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: object) -> None:
        raise PinStoreError("down")

    monkeypatch.setattr(world.parts.pins, "find", fail)
    world.local.draft = UNSURE
    assert (await world.ask()).route.reason is RouteReason.PINNED
    assert world.cloud.bodies == []


async def test_a_pinned_answer_that_cannot_be_pinned_is_withheld(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise PinStoreError("down")

    monkeypatch.setattr(world.parts.pins, "remember", fail)
    world.inspector.findings = (a_finding("PERSON"),)
    with pytest.raises(PinStoreError):
        await world.ask()


async def test_the_draft_serves_when_the_cloud_fails(world: World) -> None:
    world.local.draft = UNSURE
    world.cloud.fault = CloudError("down", error_type="status_5xx", upstream_status=500, sent="yes")
    response = await world.ask()
    assert (response.http_status, response.body) == (200, UNSURE.body)
    assert response.route.reason is RouteReason.CLOUD_FAILED
    assert response.route.degraded
    assert len(world.cloud.bodies) == 1


async def test_without_a_cloud_the_draft_serves(world: World) -> None:
    world.parts = replace(world.parts, cloud=None)
    world.local.draft = UNSURE
    response = await world.ask()
    assert response.route.reason is RouteReason.CLOUD_UNAVAILABLE
    assert response.route.degraded


@pytest.mark.parametrize("pinned", [True, False], ids=["pinned", "free"])
async def test_a_local_tier_that_is_down_is_a_503(pinned: bool, world: World) -> None:
    world.local.fault = LocalBackendError("The local model could not be reached.")
    world.inspector.findings = (a_finding("PERSON"),) if pinned else ()
    response = await world.ask()
    assert response.http_status == 503
    assert world.cloud.bodies == []
    assert world.routing()["reason"] == "local_failed"


async def test_a_free_request_may_go_where_policy_says_so_when_home_is_down(world: World) -> None:
    world.change_policy(on_local_failure=OnLocalFailure.CLOUD)
    world.local.fault = LocalBackendError("down")
    assert (await world.ask()).route.target is Target.CLOUD
    world.inspector.findings = (a_finding("PERSON"),)
    assert (await world.ask()).http_status == 503
    assert len(world.cloud.bodies) == 1


async def test_both_down_is_the_clouds_error(world: World) -> None:
    world.change_policy(on_local_failure=OnLocalFailure.CLOUD)
    world.local.fault = LocalBackendError("down")
    world.cloud.fault = CloudError("down", error_type="connection")
    with pytest.raises(CloudError):
        await world.ask()


def unwritable(world: World, monkeypatch: pytest.MonkeyPatch, *calls: str) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise LedgerUnwritable("the disk is full")

    for call in calls:
        monkeypatch.setattr(world.parts.ledger, call, fail)


async def test_an_unrecorded_request_does_not_leave(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    unwritable(world, monkeypatch, "decision")
    world.local.draft = UNSURE
    response = await world.ask()
    assert response.route.reason is RouteReason.LEDGER_UNWRITABLE
    assert response.route.degraded
    assert world.cloud.bodies == []


async def test_an_unrecorded_intent_does_not_leave(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    unwritable(world, monkeypatch, "intent")
    world.local.draft = UNSURE
    response = await world.ask()
    assert response.route.reason is RouteReason.LEDGER_UNWRITABLE
    assert world.cloud.bodies == []


@pytest.mark.parametrize("let_through", [True, False])
async def test_an_unrecorded_pinned_answer_is_given_only_where_policy_says_so(
    let_through: bool, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.change_policy(unrecorded_local=let_through)
    unwritable(world, monkeypatch, "decision")
    world.inspector.findings = (a_finding("PERSON"),)
    if let_through:
        assert (await world.ask()).http_status == 200
    else:
        with pytest.raises(LedgerUnwritable):
            await world.ask()


async def test_a_lost_outcome_does_not_cost_the_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    unwritable(world, monkeypatch, "outcome")
    world.local.draft = UNSURE
    assert (await world.ask()).route.target is Target.CLOUD


async def test_a_client_that_leaves_during_the_draft_is_on_the_record(world: World) -> None:
    world.local.delay_s = 5.0
    task = asyncio.create_task(world.ask())
    while not world.local.num_asked:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.routing()["reason"] == "client_gone"


async def test_an_unknown_model_is_said_so(world: World) -> None:
    body = dict(a_body()) | {"model": "gpt-9"}
    with pytest.raises(RequestError) as caught:
        await world.ask(body)
    assert (caught.value.code, caught.value.http_status) == ("model_not_found", 404)
    assert world.local.num_asked == 0


@pytest.mark.parametrize(
    ("asked", "sent"), [("gpt-4o", "gpt-4o"), (AUTO_MODEL, "gpt-4o-mini"), ("local", None)]
)
async def test_the_model_asked_for_is_the_one_that_answers(
    asked: str, sent: str | None, world: World
) -> None:
    world.local.draft = UNSURE
    await world.ask(dict(a_body()) | {"model": asked})
    models = [body.split(b'"model":"')[1].split(b'"')[0].decode() for body in world.cloud.bodies]
    assert models == ([sent] if sent else [])


@pytest.mark.parametrize("action", [Action.BLOCK, Action.LOCAL_ONLY, Action.MASK])
async def test_the_default_action_holds_for_what_no_rule_names(
    action: Action, world: World
) -> None:
    world.local.draft = UNSURE
    world.change_policy(default=action)
    await world.ask()
    assert world.cloud.bodies == []
