"""The flow over a real ledger, pin store and policy; only the models are stand-ins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from audit.errors import LedgerUnwritable
from audit.ledger import Ledger
from proxy.egress.attempt import CloudTier
from proxy.egress.budgets import Budget, Budgets, BudgetStore
from proxy.egress.limit import AttemptLimit
from proxy.egress.spending import Spending
from proxy.errors import (
    AnswerWithheld,
    CloudError,
    InspectionError,
    LocalBackendError,
    RequestError,
)
from proxy.flow import Parts
from proxy.inspection.recognizers import NO_RECOGNIZERS, Recognizer, Recognizers
from proxy.metrics import Metrics
from proxy.pins.store import PinStore, PinStoreError
from proxy.pipeline import Pipeline
from proxy.policy.language import Responses
from proxy.policy.model import Policy
from proxy.policy.source import FilePolicySource
from proxy.policy.staging import Order, Staged
from proxy.policy.switch import EgressSwitch
from proxy.prices import Price, Prices
from proxy.routes.chat import CHAT
from proxy.routing.catalog import build_estimator
from proxy.routing.doom import EarlyExit
from proxy.routing.drift import FEWEST, DriftWatch, Expected
from proxy.routing.prerouter import PreRouter
from proxy.routing.route import Modes
from proxy.types import (
    AUTO_MODEL,
    PRE_ROUTER,
    Action,
    Category,
    Confidence,
    Draft,
    Inspection,
    JSONObject,
    OnLocalFailure,
    Request,
    Response,
    RouteReason,
    Scan,
    Target,
)
from tests.factories import a_body, a_draft, a_finding, a_request
from tests.fakes import FakeCloud, FakeInspector, FakeLocal
from tests.harness import ROOT, records_in, write_policy
from tests.proxy.egress.masking import PEOPLE, inspect

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
    store: BudgetStore | None = None

    async def ask(self, body: JSONObject | None = None) -> Response:
        return await Pipeline(self.parts).answer(a_request(body))

    def routing(self) -> dict[str, object]:
        decision = [r for r in records_in(self.folder / "ledger") if r["kind"] == "decision"][-1]
        return decision["routing"]  # type: ignore[return-value]

    def records(self) -> list[dict[str, object]]:
        return records_in(self.folder / "ledger")

    def count(self, kind: str) -> int:
        return sum(record["kind"] == kind for record in self.records())

    def change_policy(self, **changes: object) -> None:
        content = self.policy[0].content.model_copy(update=changes)
        self.policy[0] = replace(self.policy[0], content=content)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    ledger = Ledger.open(tmp_path / "ledger", keys_dir=tmp_path / "keys")
    pins = PinStore(tmp_path / "pins.sqlite3", b"k" * 32, 100.0)
    inspector, local, cloud = FakeInspector(), FakeLocal(SURE), FakeCloud()
    policy = [FilePolicySource(ROOT / "policies" / "default.yaml").load()]
    metrics = Metrics()
    tier = CloudTier(cloud, ledger, AttemptLimit(100), EgressSwitch(tmp_path).is_on, metrics)
    parts = Parts(
        inspector=inspector,
        policy=lambda: policy[0],
        models=lambda: (AUTO_MODEL, "local", "gpt-4o-mini", "gpt-4o"),
        local=local,
        local_model="local",
        estimator=build_estimator("mean_logprob", -0.6, local),
        ledger=ledger,
        pins=pins,
        cloud=tier,
        metrics=metrics,
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


async def test_a_policy_loaded_during_the_inspection_is_for_later_requests(world: World) -> None:
    before = world.policy[0]

    class Swapping(FakeInspector):
        async def inspect(
            self, body: JSONObject, recognizers: Recognizers = NO_RECOGNIZERS, caller: str = ""
        ) -> Inspection:
            assert recognizers is before.recognizers
            world.policy[0] = replace(before, digest="sha256:new")
            return await super().inspect(body, recognizers, caller)

    world.parts = replace(world.parts, inspector=Swapping())
    await world.ask()
    [decision] = [record for record in world.records() if record["kind"] == "decision"]
    assert decision["policy"]["digest"] == before.digest  # type: ignore[index]
    assert world.policy[0].digest == "sha256:new"


NAMED = "Jane Doe asks: is Ann in? Write to jane.doe@mail.example."


@dataclass
class ReadingInspector:
    """Inspects for real, with a detector for a few words."""

    entities: dict[str, str] = field(default_factory=lambda: dict(PEOPLE))
    num_inspected: int = 0
    fault: InspectionError | None = None

    async def inspect(
        self, body: JSONObject, recognizers: Recognizers = NO_RECOGNIZERS, caller: str = ""
    ) -> Inspection:
        self.num_inspected += 1
        if self.fault is not None and self.num_inspected > 1:
            raise self.fault
        return inspect(body, self.entities)


@pytest.fixture
def masking(world: World, tmp_path: Path) -> World:
    """A world whose policy masks people and contacts, with an unsure local model."""
    edit = ("min_score: 0.4}\n    action: local_only", "min_score: 0.4}\n    action: mask")
    world.policy[0] = FilePolicySource(write_policy(tmp_path, None, [edit])).load()
    world.parts = replace(world.parts, inspector=ReadingInspector())
    world.local.draft = UNSURE
    return world


def said_to_the_client(response: Response) -> str:
    return CHAT.texts(response.body)[0]


async def test_what_may_leave_masked_leaves_masked_and_comes_back_whole(masking: World) -> None:
    masking.cloud.echoes = True
    response = await masking.ask(a_body(NAMED))
    assert response.route.reason is RouteReason.LOW_CONFIDENCE
    (sent,) = masking.cloud.bodies
    for word in (b"Jane", b"Ann", b"jane.doe"):
        assert word not in sent
    assert said_to_the_client(response) == NAMED
    (intent,) = [r for r in masking.records() if r["kind"] == "egress.intent"]
    assert intent["masked"] == {"EMAIL_ADDRESS": 1, "PERSON": 2}


async def test_a_sure_draft_answers_what_might_leave_masked(masking: World) -> None:
    masking.local.draft = SURE
    response = await masking.ask(a_body(NAMED))
    assert response.route.reason is RouteReason.CONFIDENT
    assert masking.cloud.bodies == []


@pytest.mark.parametrize(
    "more",
    [{"Jane Doe": 1}, {"stop": ["Ann"]}, {"x": "SmFuZSBEb2UgaXMgaW4="}],
    ids=["key", "stop", "base64"],
)
async def test_what_cannot_be_masked_stays_home(more: dict[str, object], masking: World) -> None:
    response = await masking.ask(a_body(NAMED, **more))
    assert (response.route.target, response.route.reason) == (Target.LOCAL, RouteReason.UNMASKABLE)
    assert masking.cloud.bodies == []
    assert masking.routing()["reason"] == "unmaskable"


async def test_what_is_laid_bare_by_masking_stays_home(masking: World) -> None:
    inspector = ReadingInspector({"Jane Doe": "PERSON", "Secretfish": "PERSON"})
    masking.parts = replace(masking.parts, inspector=inspector)
    response = await masking.ask(a_body("Jane DoeSecretfish and Jane Doe"))
    assert response.route.target is Target.CLOUD  # glued words are no names to this detector

    class Changing(ReadingInspector):
        async def inspect(
            self, body: JSONObject, recognizers: Recognizers = NO_RECOGNIZERS, caller: str = ""
        ) -> Inspection:
            self.entities = {"river": "PERSON"} if self.num_inspected else PEOPLE
            return await super().inspect(body)

    masking.cloud.bodies.clear()
    masking.parts = replace(masking.parts, inspector=Changing())
    response = await masking.ask(a_body("Jane Doe likes the river."))
    assert response.route.reason is RouteReason.UNMASKABLE
    assert masking.cloud.bodies == []


async def test_stays_home_when_the_second_inspection_fails(masking: World) -> None:
    fault = InspectionError("Too many requests are being inspected.")
    masking.parts = replace(masking.parts, inspector=ReadingInspector(fault=fault))
    response = await masking.ask(a_body(NAMED))
    assert response.route.reason is RouteReason.UNMASKABLE
    assert masking.cloud.bodies == []


async def test_a_local_answer_made_from_values_is_pinned(masking: World) -> None:
    masking.local.draft = a_draft("She is spelled e-o-d e-n-a-j, backwards.", (-0.1,))
    first = await masking.ask(a_body(NAMED))
    masking.local.draft = UNSURE
    second = await masking.ask(a_body(said_to_the_client(first)))
    assert second.route.reason is RouteReason.PINNED
    assert masking.cloud.bodies == []


async def test_a_masked_cloud_answer_may_be_carried_on(masking: World) -> None:
    masking.cloud.echoes = True
    first = said_to_the_client(await masking.ask(a_body(NAMED)))
    body = a_body("And now?")
    turn = {"role": "assistant", "content": first}
    again = {**body, "messages": [turn, *body["messages"]]}  # type: ignore[misc]
    response = await masking.ask(again)
    assert response.route.target is Target.CLOUD
    assert b"Jane" not in masking.cloud.bodies[-1]


async def test_without_a_record_what_may_leave_masked_is_not_answered(
    masking: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    unwritable(masking, monkeypatch, "decision")
    with pytest.raises(LedgerUnwritable):
        await masking.ask(a_body(NAMED))


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


async def test_a_request_that_goes_on_from_a_pinned_one_is_pinned(world: World) -> None:
    world.local.draft = UNSURE
    request = replace(a_request(), derived_from="dec_" + "1" * 28)
    response = await Pipeline(world.parts).answer(request)
    assert response.pinned
    assert world.cloud.bodies == []
    assert world.routing()["derived_from"] == request.derived_from
    assert not (await world.ask()).pinned


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


async def test_in_the_shadow_nothing_leaves_and_the_record_says_what_would_have(
    world: World,
) -> None:
    world.parts = replace(world.parts, modes=Modes(shadow=True))
    world.local.draft = UNSURE
    response = await world.ask()
    assert (response.http_status, response.body) == (200, UNSURE.body)
    assert (world.routing()["route"], world.routing()["reason"]) == ("local", "would_escalate")
    world.parts = replace(world.parts, cloud=None)  # as assembled: no cloud is needed to know
    assert (await world.ask()).route.reason is RouteReason.WOULD_ESCALATE
    world.local.draft = SURE
    assert (await world.ask()).route.reason is RouteReason.CONFIDENT
    world.local.draft = UNSURE
    world.inspector.findings = (a_finding("PERSON"),)
    assert (await world.ask()).route.reason is RouteReason.PINNED
    assert world.cloud.bodies == []
    assert b'reason="would_escalate"' in world.parts.metrics.exposition()


async def test_in_the_shadow_a_home_that_is_down_is_a_503(world: World) -> None:
    world.parts = replace(world.parts, modes=Modes(shadow=True))
    world.change_policy(on_local_failure=OnLocalFailure.CLOUD)
    world.local.fault = LocalBackendError("down")
    assert (await world.ask()).http_status == 503
    assert world.routing()["reason"] == "would_escalate"
    assert world.cloud.bodies == []


def goes_first(world: World) -> World:
    world.parts = replace(world.parts, modes=Modes(cloud_first=frozenset({"app"})))
    return world


async def test_an_app_may_go_to_the_cloud_without_a_draft(world: World) -> None:
    response = await goes_first(world).ask()
    assert response.route.reason is RouteReason.CLOUD_FIRST
    assert (world.local.num_asked, len(world.cloud.bodies)) == (0, 1)
    assert world.routing()["reason"] == "cloud_first"
    assert (world.count("decision"), world.count("egress.intent")) == (1, 1)
    assert (await world.ask(a_body(model="local"))).route.reason is RouteReason.MODEL_IS_LOCAL
    assert (world.local.num_asked, len(world.cloud.bodies)) == (1, 1)


class FakePreRouter(PreRouter):
    """Says what it is told, and counts who asks."""

    def __init__(self, score: float | None) -> None:
        self.score = score
        self.num_asked = 0

    async def foresee(self, request: Request) -> Confidence | None:
        self.num_asked += 1
        return None if self.score is None else Confidence(self.score, 0.5, PRE_ROUTER, "cal_1")


def foreseen(world: World, score: float | None) -> FakePreRouter:
    prerouter = FakePreRouter(score)
    world.parts = replace(world.parts, prerouter=prerouter)
    return prerouter


async def test_what_no_draft_would_answer_goes_on_without_one(world: World) -> None:
    foreseen(world, 0.1)
    response = await world.ask()
    assert response.route.reason is RouteReason.PREROUTED
    assert (world.local.num_asked, len(world.cloud.bodies)) == (0, 1)
    told = world.routing()
    assert (told["reason"], told["estimator"], told["score"]) == ("prerouted", PRE_ROUTER, 0.1)
    assert b"ringfence_confidence_count 0.0" in world.parts.metrics.exposition()


@pytest.mark.parametrize("score", [0.9, None])
async def test_what_may_stay_is_drafted(world: World, score: float | None) -> None:
    foreseen(world, score)
    assert (await world.ask()).route.reason is RouteReason.CONFIDENT
    assert (world.local.num_asked, world.cloud.bodies) == (1, [])
    assert world.routing()["estimator"] == "mean_logprob"


async def test_the_pre_router_is_not_asked_where_nothing_may_leave(world: World) -> None:
    prerouter = foreseen(world, 0.1)
    world.parts = replace(world.parts, modes=Modes(shadow=True))
    assert (await world.ask()).route.target is Target.LOCAL
    world.parts = replace(world.parts, modes=Modes())
    assert (await world.ask(a_body(model="local"))).route.reason is RouteReason.MODEL_IS_LOCAL
    world.inspector.findings = (a_finding("PERSON"),)
    assert (await world.ask()).route.reason is RouteReason.PINNED
    assert (prerouter.num_asked, world.cloud.bodies) == (0, [])


async def test_what_went_ahead_and_failed_there_is_drafted_after_all(world: World) -> None:
    foreseen(world, 0.1)
    world.cloud.fault = CloudError("gone", error_type="timeout")
    response = await world.ask()
    assert (response.body, response.route.degraded) == (SURE.body, True)
    assert (world.local.num_asked, len(world.cloud.bodies)) == (1, 1)


async def test_what_is_pinned_is_drafted_whoever_goes_first(world: World) -> None:
    world.inspector.findings = (a_finding("PERSON"),)
    assert (await goes_first(world).ask()).route.reason is RouteReason.PINNED
    assert world.cloud.bodies == []


async def test_an_app_goes_first_only_while_the_cloud_is_ready(world: World) -> None:
    EgressSwitch(world.folder).turn_off("test", "test")
    assert (await goes_first(world).ask()).route.reason is RouteReason.CONFIDENT
    assert world.cloud.bodies == []


async def test_home_answers_where_the_cloud_was_first_and_failed(world: World) -> None:
    world.cloud.fault = CloudError("down", error_type="connection")
    response = await goes_first(world).ask()
    assert (response.http_status, response.body) == (200, SURE.body)
    assert (response.route.reason, response.route.degraded) == (RouteReason.CLOUD_FAILED, True)
    assert world.local.num_asked == 1
    world.local.fault = LocalBackendError("down")
    with pytest.raises(CloudError):
        await world.ask()


@pytest.mark.parametrize("call", ["decision", "intent"])
async def test_without_a_record_nothing_goes_first(
    call: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    unwritable(world, monkeypatch, call)
    response = await goes_first(world).ask()
    assert (response.http_status, response.body) == (200, SURE.body)
    assert response.route.reason is RouteReason.LEDGER_UNWRITABLE
    assert world.cloud.bodies == []


async def test_what_goes_first_goes_masked_or_is_drafted(masking: World) -> None:
    await goes_first(masking).ask(a_body(NAMED))
    assert masking.routing()["reason"] == "cloud_first"
    assert b"Jane" not in masking.cloud.bodies[0]
    assert masking.local.num_asked == 0
    response = await masking.ask(a_body(NAMED, stop=["Ann"]))
    assert response.route.reason is RouteReason.UNMASKABLE
    assert (masking.local.num_asked, len(masking.cloud.bodies)) == (1, 1)


async def test_a_late_draft_made_from_values_is_pinned(masking: World) -> None:
    masking.cloud.fault = CloudError("down", error_type="connection")
    response = await goes_first(masking).ask(a_body(NAMED))
    assert response.pinned
    masking.cloud.fault = None
    again = await masking.ask(a_body(said_to_the_client(response)))
    assert again.route.reason is RouteReason.PINNED


@pytest.mark.parametrize("home_is_up", [True, False])
async def test_an_answer_that_is_withheld_gives_way_to_the_draft_or_to_an_error(
    home_is_up: bool, masking: World
) -> None:
    masking.change_policy(
        responses=Responses(scan=Scan.BLOCK, categories=(Category.IDENTITY,)),
        on_local_failure=OnLocalFailure.CLOUD,
    )
    inspector = ReadingInspector({**PEOPLE, "From afar": "PERSON"})
    masking.parts = replace(masking.parts, inspector=inspector)
    if home_is_up:
        response = await masking.ask()
        assert (response.route.reason, response.route.degraded) == (
            RouteReason.ANSWER_WITHHELD,
            True,
        )
        assert response.body == UNSURE.body
    else:
        masking.local.fault = LocalBackendError("The local model could not be reached.")
        with pytest.raises(AnswerWithheld) as caught:
            await masking.ask()
        assert (caught.value.code, caught.value.http_status) == ("answer_withheld", 502)
    (outcome,) = [r for r in masking.records() if r["kind"] == "egress.outcome"]
    assert outcome["answer_scan"] == "blocked"


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


async def test_a_model_that_makes_vectors_is_not_asked_for_words(world: World) -> None:
    names = (*world.parts.models(), "encoder")
    world.parts = replace(world.parts, models=lambda: names, encoder="encoder")
    with pytest.raises(RequestError, match="/v1/embeddings") as caught:
        await world.ask({**a_body(), "model": "encoder"})
    assert (caught.value.code, caught.value.http_status) == ("model_not_found", 404)
    assert world.local.num_asked == 0
    asked = replace(a_request({"model": "encoder", "input": "Hello."}), route="embeddings")
    assert (await Pipeline(world.parts).answer(asked)).http_status == 200


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


@pytest.mark.parametrize("action", [Action.BLOCK, Action.LOCAL_ONLY])
async def test_the_default_action_holds_for_what_no_rule_names(
    action: Action, world: World
) -> None:
    world.local.draft = UNSURE
    world.change_policy(default=action)
    await world.ask()
    assert world.cloud.bodies == []


async def test_counts_what_became_of_a_request_and_of_its_attempt(world: World) -> None:
    world.local.draft = UNSURE
    world.cloud.fault = CloudError("No.", error_type="timeout", upstream_status=None)
    await world.ask()
    counts = world.parts.metrics.exposition().decode()
    assert 'action="allow",app="app",reason="low_confidence",route="cloud"} 1.0' in counts
    assert 'ringfence_answers_total{degraded="true",reason="cloud_failed",route="local"}' in counts
    attempts = 'ringfence_cloud_attempts_total{destination="openai",outcome="timeout"} 1.0'
    assert attempts in counts


def a_candidate(world: World, share: int = 0, *, default: Action = Action.LOCAL_ONLY) -> Policy:
    """Another policy, staged beside the one in force."""
    content = world.policy[0].content.model_copy(update={"default": default})
    digest = "sha256:" + "c" * 64
    policy = replace(world.policy[0], content=content, digest=digest)
    now = datetime.now(UTC)
    order = Order("p", digest, share, now, now + timedelta(days=1), "s" * 32)
    world.parts = replace(world.parts, staged=lambda: Staged(policy, order))
    return policy


def last_policy(world: World) -> dict[str, object]:
    decision = [r for r in records_in(world.folder / "ledger") if r["kind"] == "decision"][-1]
    return decision["policy"]  # type: ignore[return-value]


async def test_a_candidate_in_the_shadow_is_recorded_where_it_differs_and_decides_nothing(
    world: World,
) -> None:
    world.local.draft = UNSURE
    candidate = a_candidate(world)
    response = await world.ask()
    assert response.route.target is Target.CLOUD
    told = last_policy(world)
    assert (told["digest"], told["action"]) == (world.policy[0].digest, "allow")
    assert told["shadow"] == {"digest": candidate.digest, "action": "local_only"}
    a_candidate(world, default=Action.ALLOW)
    await world.ask()
    assert last_policy(world)["shadow"] is None
    counts = world.parts.metrics.exposition().decode()
    assert 'ringfence_policy_shadow_total{verdict="stricter"} 1.0' in counts
    assert 'ringfence_policy_shadow_total{verdict="same"} 1.0' in counts
    assert 'ringfence_policy_sides_total{side="in_force"} 2.0' in counts


async def test_a_shadow_of_a_blocked_request_is_recorded_too(world: World) -> None:
    a_candidate(world)
    world.inspector.findings = (a_finding("CREDIT_CARD"),)
    world.parts.staged().policy.__dict__["rules"] = ()  # type: ignore[union-attr]
    assert (await world.ask()).http_status == 400
    assert last_policy(world)["shadow"] is not None


async def test_a_shadow_that_fails_touches_no_request(world: World) -> None:
    world.local.draft = UNSURE
    candidate = a_candidate(world)
    object.__setattr__(candidate, "content", None)
    assert (await world.ask()).route.target is Target.CLOUD
    assert last_policy(world)["shadow"] is None
    assert 'verdict="failed"} 1.0' in world.parts.metrics.exposition().decode()


async def test_a_candidate_decides_its_share_and_the_record_says_so(world: World) -> None:
    world.local.draft = UNSURE
    candidate = a_candidate(world, share=100)
    response = await world.ask()
    assert response.route.reason is RouteReason.PINNED
    assert world.cloud.bodies == []
    told = last_policy(world)
    assert (told["digest"], told["action"], told["shadow"]) == (
        candidate.digest,
        "local_only",
        None,
    )


@pytest.mark.parametrize("candidate_pins", [True, False])
async def test_a_pin_made_under_one_side_holds_under_the_other(
    world: World, candidate_pins: bool
) -> None:
    alone = world.parts
    strict, loose = Action.LOCAL_ONLY, Action.ALLOW
    if candidate_pins:
        a_candidate(world, share=100, default=strict)
    else:
        world.inspector.findings = (a_finding("PERSON"),)
    first = await world.ask()
    world.inspector.findings = ()
    world.local.draft = UNSURE
    world.parts = alone
    if not candidate_pins:
        a_candidate(world, share=100, default=loose)
    await world.ask(a_body("  the VOLGA, of course. "))
    assert world.cloud.bodies == []
    assert world.routing()["derived_from"] == first.decision_id


async def test_a_candidate_with_recognizers_of_its_own_reads_the_request_itself(
    world: World,
) -> None:
    seen: list[Recognizers] = []

    class Listening(FakeInspector):
        async def inspect(
            self, body: JSONObject, recognizers: Recognizers = NO_RECOGNIZERS, caller: str = ""
        ) -> Inspection:
            seen.append(recognizers)
            return await super().inspect(body, recognizers, caller)

    world.parts = replace(world.parts, inspector=Listening())
    candidate = a_candidate(world)
    own = Recognizers.of([Recognizer("EMPLOYEE_ID", Category.IDENTITY, 0.9, terms=("E-1",))])
    candidate.__dict__["recognizers"] = own
    await world.ask()
    assert seen == [world.policy[0].recognizers, own]


@pytest.fixture
def poor(world: World, tmp_path: Path) -> Iterator[World]:
    """A world with a dollar a day, and an unsure local model; a request can cost half a cent."""
    store = BudgetStore(tmp_path / "budgets.sqlite3", Budgets(overall=Budget(day_usd=Decimal(1))))
    price = Price(input=Decimal(0), output=Decimal("0.05"))
    prices = Prices({"openai": {"gpt-4o-mini": price}})
    spending = Spending(prices, store, 100, world.parts.metrics)
    limit, switch = AttemptLimit(100), EgressSwitch(tmp_path).is_on
    tier = CloudTier(world.cloud, world.parts.ledger, limit, switch, spending=spending)
    world.parts = replace(world.parts, cloud=tier)
    world.local.draft = UNSURE
    world.store = store
    yield world
    store.close()


async def spend(world: World, dollars: str) -> None:
    assert world.store is not None
    assert await world.store.reserve("team", Decimal(dollars)) is not None


async def test_while_half_of_a_budget_is_left_nothing_changes(poor: World) -> None:
    await spend(poor, "0.4")
    assert (await poor.ask()).route.target is Target.CLOUD
    assert poor.routing()["threshold"] == -0.6


async def test_a_budget_that_runs_low_lowers_the_threshold_on_the_record(poor: World) -> None:
    await spend(poor, "0.95")
    response = await poor.ask()
    assert response.route.reason is RouteReason.BUDGET_LOW
    assert (response.route.degraded, response.body) == (True, UNSURE.body)
    told = poor.routing()
    assert (told["reason"], told["threshold"]) == ("budget_low", pytest.approx(-2.9, abs=0.01))
    assert poor.cloud.bodies == []
    poor.local.draft = a_draft("I am not sure at all", (-4.0,))
    assert (await poor.ask()).route.target is Target.CLOUD


async def test_a_budget_that_is_spent_keeps_all_at_home_on_the_record(poor: World) -> None:
    await spend(poor, "0.996")
    poor.local.draft = a_draft("I am not sure at all", (-9.0,))
    response = await poor.ask()
    assert (response.http_status, response.route.degraded) == (200, True)
    assert poor.routing()["reason"] == "budget_spent"
    assert (poor.cloud.bodies, poor.count("egress.intent")) == ([], 0)
    poor.local.fault = LocalBackendError("down")
    poor.change_policy(on_local_failure=OnLocalFailure.CLOUD)
    assert (await poor.ask()).http_status == 503


async def test_many_at_once_spend_no_more_than_there_is(poor: World) -> None:
    poor.local.draft = a_draft("I am not sure at all", (-9.0,))
    await spend(poor, "0.9")
    responses = await asyncio.gather(*(poor.ask(a_body(f"River {n}?")) for n in range(60)))
    assert {response.http_status for response in responses} == {200}
    assert len(poor.cloud.bodies) == 20  # a dime at half a cent, and no answer told its tokens
    reasons = {r.route.reason for r in responses if r.route.target is Target.LOCAL}
    assert reasons == {RouteReason.BUDGET_SPENT}


async def test_an_app_that_goes_first_waits_for_the_draft_when_money_runs_low(poor: World) -> None:
    poor.parts = replace(poor.parts, modes=Modes(cloud_first=frozenset({"app"})))
    assert (await poor.ask()).route.reason is RouteReason.CLOUD_FIRST
    await spend(poor, "0.6")
    assert (await poor.ask()).route.reason is RouteReason.LOW_CONFIDENCE
    await spend(poor, "0.388")
    poor.local.draft = SURE
    assert (await poor.ask()).route.reason is RouteReason.CONFIDENT


async def test_no_budget_store_no_egress(poor: World) -> None:
    assert poor.store is not None
    poor.store.close()
    response = await poor.ask()
    assert (response.http_status, response.route.degraded) == (200, True)
    assert poor.routing()["reason"] == "cloud_unavailable"
    assert poor.cloud.bodies == []


async def test_what_has_no_known_cost_stays_home_under_a_budget(poor: World) -> None:
    response = await poor.ask(a_body(model="gpt-4o"))
    assert (response.http_status, response.route.degraded) == (200, True)
    assert poor.routing()["reason"] == "cost_unknown"


async def test_drafts_that_may_escalate_are_held_against_the_calibration(world: World) -> None:
    watch = DriftWatch(Expected((-1.0,), (0.1, 0.9, 0.0), 0.1, 1000), world.parts.metrics)
    world.parts = replace(world.parts, drift=watch)
    confidence = await world.parts.estimator.estimate(a_request(), UNSURE, may_ask=True)
    for _ in range(FEWEST - 1):
        watch.saw(confidence)
    world.local.draft = UNSURE
    world.inspector.findings = (a_finding("EMAIL_ADDRESS"),)
    await world.ask()
    assert not watch.has_drifted  # what is pinned is not held against anything
    world.inspector.findings = ()
    await world.ask()
    assert watch.has_drifted


async def test_a_draft_of_another_route_that_may_escalate_is_held_against_it_too(
    world: World,
) -> None:
    watch = DriftWatch(Expected((-1.0,), (0.1, 0.9, 0.0), 0.1, 1000), world.parts.metrics)
    world.parts = replace(world.parts, drift=watch)
    confidence = await world.parts.estimator.estimate(a_request(), UNSURE, may_ask=True)
    for _ in range(FEWEST - 1):
        watch.saw(confidence)
    body: JSONObject = {"model": AUTO_MODEL, "prompt": "The longest river is"}
    request = replace(a_request(body), route="completions")
    world.local.draft = replace(UNSURE, token_logprobs=())
    await Pipeline(world.parts).answer(request)
    assert not watch.has_drifted  # what is not scored there tells nothing of the calibration
    world.local.draft = UNSURE
    await Pipeline(world.parts).answer(request)
    assert watch.has_drifted


class WatchedLocal(FakeLocal):
    """Tells the log-probabilities of its draft one by one, and gives it up when it is told so."""

    num_cut = 0

    async def generate_until(self, request: Request, doomed: Callable[[float], bool]) -> Draft:
        for number, logprob in enumerate(self.draft.token_logprobs, 1):
            if doomed(logprob):
                self.num_cut += 1
                begun = self.draft.token_logprobs[:number]
                return replace(self.draft, text="", body={}, token_logprobs=begun, is_cut=True)
        return await self.generate(request)


LONG = a_draft("The Danube, perhaps, or else the Rhine?", (-3.0, -2.0, -0.1, -0.2))


@pytest.fixture
def early(world: World) -> World:
    """A world that gives drafts up; three tokens of four decide."""
    world.local = WatchedLocal(LONG)
    exit_ = EarlyExit(world.local, "mean_logprob", -0.6)
    world.parts = replace(world.parts, local=world.local, early=exit_)
    return world


def cut(world: World) -> int:
    assert isinstance(world.local, WatchedLocal)
    return world.local.num_cut


async def test_a_draft_that_cannot_reach_the_threshold_is_given_up(early: World) -> None:
    response = await early.ask(a_body(max_tokens=4))
    assert response.route.target is Target.CLOUD
    assert (cut(early), early.local.num_asked) == (1, 0)
    told = early.routing()
    assert (told["reason"], told["reasons"]) == ("low_confidence", ["cut_short"])
    assert b"ringfence_drafts_cut_total 1.0" in early.parts.metrics.exposition()


async def test_without_a_limit_of_the_client_or_for_a_sure_draft_nothing_is_given_up(
    early: World,
) -> None:
    await early.ask()
    early.local.draft = SURE
    await early.ask(a_body(max_tokens=4))
    assert (cut(early), early.local.num_asked) == (0, 2)


async def test_what_may_not_leave_is_never_given_up(early: World) -> None:
    early.inspector.findings = (a_finding("EMAIL_ADDRESS"),)
    pinned = await early.ask(a_body(max_tokens=4))
    early.inspector.findings = ()
    asked_for = await early.ask(a_body(model="local", max_tokens=4))
    EgressSwitch(early.folder).turn_off("test", "test")
    switched_off = await early.ask(a_body(max_tokens=4))
    assert cut(early) == 0
    assert {r.http_status for r in (pinned, asked_for, switched_off)} == {200}
    assert pinned.body == asked_for.body == switched_off.body == LONG.body


@pytest.mark.parametrize("call", ["decision", "intent"])
async def test_the_local_answer_is_made_whole_where_the_ledger_fails(
    call: str, early: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    unwritable(early, monkeypatch, call)
    response = await early.ask(a_body(max_tokens=4))
    assert (response.http_status, response.body) == (200, LONG.body)
    assert (cut(early), early.local.num_asked, early.cloud.bodies) == (1, 1, [])


async def test_the_local_answer_is_made_whole_where_the_cloud_fails(early: World) -> None:
    early.cloud.fault = CloudError("down", error_type="connection")
    response = await early.ask(a_body(max_tokens=4))
    assert (response.http_status, response.body) == (200, LONG.body)
    assert response.route.reason is RouteReason.CLOUD_FAILED
    early.local.fault = LocalBackendError("down")
    with pytest.raises(CloudError):
        await early.ask(a_body(max_tokens=4))


async def test_the_local_answer_is_made_whole_where_no_budget_bears_the_cloud(
    poor: World,
) -> None:
    local = WatchedLocal(a_draft("Hm.", (-9.0, -8.0)))
    poor.local, poor.parts = local, replace(poor.parts, local=local)
    poor.parts = replace(poor.parts, early=EarlyExit(local, "mean_logprob", -0.6))
    await spend(poor, "0.9965")
    response = await poor.ask(a_body(max_tokens=2000))
    assert (response.http_status, response.body) == (200, local.draft.body)
    assert poor.routing()["reason"] == "budget_spent"
    assert poor.cloud.bodies == []


async def test_in_the_shadow_nothing_is_given_up(early: World) -> None:
    early.parts = replace(early.parts, modes=Modes(shadow=True))
    response = await early.ask(a_body(max_tokens=4))
    assert (cut(early), response.body) == (0, LONG.body)
