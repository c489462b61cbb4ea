"""What a batch's plan says of a request, through the whole pipeline: it holds, or it may send."""

from __future__ import annotations

import json
from dataclasses import replace

from demo.stand_in_cloud import Recorded, Reply, completion
from proxy.errors import LocalBackendError
from proxy.holding import HOLD
from proxy.policy.switch import EgressSwitch
from proxy.routing.route import Modes
from proxy.types import OnLocalFailure, RouteReason, Target
from tests.factories import a_body, a_finding
from tests.proxy.egress.masking import PEOPLE
from tests.proxy.egress.test_climb import MASKING, Height, policy_of, said
from tests.proxy.egress.test_climb import height as height
from tests.proxy.egress.test_climb import upstream as upstream
from tests.proxy.test_pipeline import NAMED, SURE, UNSURE, ReadingInspector
from tests.proxy.test_pipeline import world as world


async def test_what_is_held_stays_however_unsure_its_draft(height: Height) -> None:
    response = await height.ask(plan=HOLD)
    assert (response.http_status, response.body) == (200, UNSURE.body)
    assert response.route.reason is RouteReason.HELD
    assert not response.route.degraded
    assert height.asked == []
    (decision,) = height.records("decision")
    assert (decision["routing"]["route"], decision["routing"]["reason"]) == ("local", "held")
    assert response.held is not None
    assert response.held.is_answered
    assert dict(response.held.reach) == {"mid": "eu", "cheap": "eu", "dear": "us"}
    assert response.held.features is not None
    assert (await height.ask()).held is None


async def test_what_is_held_stays_in_an_app_that_goes_to_the_cloud_first(height: Height) -> None:
    modes = Modes(cloud_first=frozenset({"app"}))
    height.world.parts = replace(height.world.parts, modes=modes)
    assert (await height.ask(plan=HOLD)).route.reason is RouteReason.HELD
    assert height.asked == []


async def test_what_is_held_stays_when_home_is_down(height: Height) -> None:
    height.world.change_policy(on_local_failure=OnLocalFailure.CLOUD)
    height.world.local.fault = LocalBackendError("down")
    response = await height.ask(plan=HOLD)
    assert response.http_status == 503
    assert response.held is not None
    assert (response.held.is_answered, response.held.features) == (False, None)
    assert height.asked == []


async def test_a_pinned_line_is_no_plans(height: Height) -> None:
    height.world.inspector.findings = (a_finding("PERSON"),)
    response = await height.ask(plan=HOLD)
    assert response.route.reason is RouteReason.PINNED
    assert response.held is None
    response = await height.ask(plan="dear")
    assert response.route.reason is RouteReason.PINNED
    assert height.asked == []


async def test_what_a_plan_sends_is_not_drafted_and_climbs_nowhere(height: Height) -> None:
    height.world.local.draft = SURE
    response = await height.ask(plan="mid")
    assert said(response) == "From mid."
    assert response.route.reason is RouteReason.PLANNED
    assert height.attempts() == [(1, "eu", "mid", None)]
    assert height.world.local.num_asked == 0
    assert height.records("egress.outcome")[0]["confidence"] is None


async def test_a_plan_is_no_way_past_the_decision(height: Height) -> None:
    policy_of(height, "research")  # the dear one is for others now
    response = await height.ask(plan="dear")
    assert response.route.reason is RouteReason.HELD
    response = await height.ask({**a_body(), "model": "local"}, plan="mid")
    assert response.route.reason is RouteReason.MODEL_IS_LOCAL
    assert height.asked == []
    EgressSwitch(height.world.folder).turn_off("operator", "drill")
    response = await height.ask(plan="mid")
    assert (response.route.target, response.route.degraded) == (Target.LOCAL, True)
    assert height.asked == []


async def test_in_the_shadow_a_plan_sends_nothing(height: Height) -> None:
    height.world.parts = replace(height.world.parts, modes=Modes(shadow=True))
    response = await height.ask(plan="mid")
    assert (response.route.target, response.route.reason) == (
        Target.LOCAL,
        RouteReason.WOULD_ESCALATE,
    )
    assert height.asked == []


async def test_a_fault_of_the_planned_model_is_answered_at_home(height: Height) -> None:
    height.says["mid"] = Reply(500, b"{}")
    response = await height.ask(plan="mid")
    assert response.body == UNSURE.body
    assert response.route.reason is RouteReason.CLOUD_FAILED
    assert height.asked == ["mid"]


async def test_what_leaves_only_masked_is_held_and_sent_masked(height: Height) -> None:
    policy_of(height, "app", MASKING)
    height.world.parts = replace(height.world.parts, inspector=ReadingInspector())
    height.cloud.reply = echo
    response = await height.ask(a_body(NAMED), plan=HOLD)
    assert response.held is not None
    response = await height.ask(a_body(NAMED), plan="mid")
    assert (response.route.reason, said(response)) == (RouteReason.PLANNED, NAMED)
    for name in PEOPLE:
        assert name.encode() not in height.cloud.received


def echo(recorded: Recorded) -> Reply:
    body = json.loads(recorded.body)
    return Reply(body=completion(body["messages"][-1]["content"], body["model"]))
