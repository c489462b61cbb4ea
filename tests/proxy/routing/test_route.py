"""The route, row by row, and never past the ceiling."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.routing.route import Modes, Situation, choose_route
from proxy.types import Action, Confidence, OnLocalFailure, Route, RouteReason, Target
from tests.factories import a_confidence, a_decision, a_destination

SPARED = replace(a_confidence(-0.7, -0.9), full_threshold=-0.6)
HIGH, LOW, UNKNOWN = a_confidence(-0.1), a_confidence(-0.9), a_confidence(None)


def a_situation(
    confidence: Confidence | None = HIGH,
    *,
    unable: bool = False,
    ready: bool = True,
    model: str = "ringfence",
    by_model: bool = False,
    first: bool = False,
    shadow: bool = False,
) -> Situation:
    return Situation(
        confidence,
        unable,
        ready,
        model,
        "local",
        by_model=by_model,
        ahead=RouteReason.CLOUD_FIRST if first else None,
        shadow=shadow,
    )


@pytest.mark.parametrize(
    ("action", "situation", "expected"),
    [
        (Action.BLOCK, a_situation(), (Target.REFUSE, RouteReason.BLOCKED, False)),
        (Action.LOCAL_ONLY, a_situation(LOW), (Target.LOCAL, RouteReason.PINNED, False)),
        (Action.MASK, a_situation(HIGH), (Target.LOCAL, RouteReason.CONFIDENT, False)),
        (Action.MASK, a_situation(LOW), (Target.CLOUD, RouteReason.LOW_CONFIDENCE, False)),
        (
            Action.MASK,
            replace(a_situation(LOW), unmaskable=True),
            (Target.LOCAL, RouteReason.UNMASKABLE, False),
        ),
        (
            Action.ALLOW,
            replace(a_situation(LOW), barred=RouteReason.BUDGET_SPENT),
            (Target.LOCAL, RouteReason.BUDGET_SPENT, True),
        ),
        (
            Action.ALLOW,
            replace(a_situation(HIGH), barred=RouteReason.BUDGET_SPENT),
            (Target.LOCAL, RouteReason.CONFIDENT, False),
        ),
        (
            Action.LOCAL_ONLY,
            replace(a_situation(LOW), barred=RouteReason.BUDGET_SPENT),
            (Target.LOCAL, RouteReason.PINNED, False),
        ),
        (Action.ALLOW, a_situation(SPARED), (Target.LOCAL, RouteReason.BUDGET_LOW, True)),
        (Action.LOCAL_ONLY, a_situation(SPARED), (Target.LOCAL, RouteReason.PINNED, False)),
        (Action.ALLOW, a_situation(HIGH), (Target.LOCAL, RouteReason.CONFIDENT, False)),
        (Action.ALLOW, a_situation(LOW), (Target.CLOUD, RouteReason.LOW_CONFIDENCE, False)),
        (Action.ALLOW, a_situation(UNKNOWN), (Target.LOCAL, RouteReason.CONFIDENCE_UNKNOWN, False)),
        (
            Action.ALLOW,
            a_situation(LOW, ready=False),
            (Target.LOCAL, RouteReason.CLOUD_UNAVAILABLE, True),
        ),
        (
            Action.ALLOW,
            a_situation(LOW, model="local"),
            (Target.LOCAL, RouteReason.MODEL_IS_LOCAL, False),
        ),
        (Action.ALLOW, a_situation(None), (Target.REFUSE, RouteReason.LOCAL_FAILED, False)),
        (
            Action.ALLOW,
            a_situation(None, unable=True),
            (Target.REFUSE, RouteReason.LOCAL_UNABLE, False),
        ),
        (Action.LOCAL_ONLY, a_situation(None), (Target.REFUSE, RouteReason.LOCAL_FAILED, False)),
        (
            Action.ALLOW,
            a_situation(LOW, shadow=True),
            (Target.LOCAL, RouteReason.WOULD_ESCALATE, False),
        ),
        (
            Action.ALLOW,
            a_situation(HIGH, shadow=True),
            (Target.LOCAL, RouteReason.CONFIDENT, False),
        ),
        (
            Action.LOCAL_ONLY,
            a_situation(LOW, shadow=True),
            (Target.LOCAL, RouteReason.PINNED, False),
        ),
        (
            Action.ALLOW,
            a_situation(None, first=True),
            (Target.CLOUD, RouteReason.CLOUD_FIRST, False),
        ),
        (
            Action.MASK,
            a_situation(None, first=True),
            (Target.CLOUD, RouteReason.CLOUD_FIRST, False),
        ),
    ],
)
def test_route(
    action: Action, situation: Situation, expected: tuple[Target, RouteReason, bool]
) -> None:
    route = choose_route(a_decision(action), situation)
    assert (route.target, route.reason, route.degraded) == expected


@pytest.mark.parametrize("confidence", [None, LOW, HIGH, UNKNOWN])
@pytest.mark.parametrize("shadow", [False, True])
def test_what_its_client_gets_while_it_is_made_stays_whatever_its_confidence(
    confidence: Confidence | None, shadow: bool
) -> None:
    unasked = confidence is None  # nobody could have answered better, so nobody asked
    free = RouteReason.CLOUD_UNAVAILABLE if unasked else RouteReason.COMMITTED_EARLY
    for action, model, reason, degraded in (
        (Action.LOCAL_ONLY, "ringfence", RouteReason.PINNED, False),
        (Action.ALLOW, "local", RouteReason.MODEL_IS_LOCAL, False),
        (Action.ALLOW, "ringfence", free, unasked),
        (Action.MASK, "ringfence", free, unasked),
    ):
        situation = replace(a_situation(confidence, model=model, shadow=shadow), flows=True)
        assert choose_route(a_decision(action), situation) == Route(Target.LOCAL, reason, degraded)
    blocked = choose_route(a_decision(Action.BLOCK), replace(a_situation(confidence), flows=True))
    assert blocked.target is Target.REFUSE


def test_goes_to_the_cloud_without_a_draft_only_where_policy_says_so() -> None:
    decision = a_decision(on_local_failure=OnLocalFailure.CLOUD)
    assert choose_route(decision, a_situation(None)).target is Target.CLOUD
    assert choose_route(decision, a_situation(None, ready=False)).target is Target.REFUSE
    masked = a_decision(Action.MASK, on_local_failure=OnLocalFailure.CLOUD)
    assert choose_route(masked, a_situation(None)).target is Target.CLOUD
    stuck = choose_route(masked, replace(a_situation(None), unmaskable=True))
    assert (stuck.target, stuck.reason) == (Target.REFUSE, RouteReason.UNMASKABLE)
    pinned = a_decision(Action.LOCAL_ONLY, on_local_failure=OnLocalFailure.CLOUD)
    assert choose_route(pinned, a_situation(None)).target is Target.REFUSE


def test_takes_the_destination_that_has_the_model_asked_for() -> None:
    first, second = a_destination(), a_destination("https://other.example/v1")
    object.__setattr__(first, "models", ("a",))
    object.__setattr__(second, "models", ("b",))
    decision = a_decision(destinations=(first, second))
    assert choose_route(decision, a_situation(LOW, model="b")).destination is second
    assert choose_route(decision, a_situation(LOW, model="c")).destination is first


@given(
    action=st.sampled_from(Action),
    destinations=st.sampled_from([(), (a_destination(),)]),
    on_failure=st.sampled_from(OnLocalFailure),
    confidence=st.sampled_from([HIGH, LOW, SPARED, UNKNOWN, None]),
    unable=st.booleans(),
    ready=st.booleans(),
    model=st.sampled_from(["ringfence", "local", "gpt-4o"]),
    unmaskable=st.booleans(),
    barred=st.sampled_from([None, RouteReason.BUDGET_SPENT, RouteReason.COST_UNKNOWN]),
    by_model=st.booleans(),
    first=st.booleans(),
    shadow=st.booleans(),
)
def test_never_passes_the_ceiling(
    action: Action,
    destinations: tuple[object, ...],
    on_failure: OnLocalFailure,
    confidence: Confidence | None,
    unable: bool,
    ready: bool,
    model: str,
    unmaskable: bool,
    barred: RouteReason | None,
    by_model: bool,
    first: bool,
    shadow: bool,
) -> None:
    decision = a_decision(action, destinations=destinations, on_local_failure=on_failure)  # type: ignore[arg-type]
    situation = a_situation(confidence, unable=unable, ready=ready, model=model)
    situation = replace(situation, unmaskable=unmaskable, by_model=by_model)
    situation = replace(situation, barred=barred)
    ahead = RouteReason.CLOUD_FIRST if first else None
    route = choose_route(decision, replace(situation, ahead=ahead, shadow=shadow))
    open_route = choose_route(decision, replace(situation, ahead=ahead))
    would = route.reason is RouteReason.WOULD_ESCALATE
    assert would == (shadow and open_route.target is Target.CLOUD)
    assert would or route == open_route
    if route.target is Target.CLOUD:
        assert not shadow
        assert model != "local"
        assert not unmaskable
        assert barred is None
        assert decision.may_leave
        assert ready
        assert route.destination in decision.destinations
        assert confidence is None or confidence.is_low


@pytest.mark.parametrize(
    "situation",
    [
        a_situation(None, first=True, ready=False),
        a_situation(None, first=True, model="local"),
        a_situation(None, first=True, by_model=True),
        replace(a_situation(None, first=True), unmaskable=True),
        a_situation(None, first=True, shadow=True),
    ],
    ids=["not ready", "asks for the local model", "by model", "unmaskable", "shadow"],
)
def test_the_cloud_does_not_go_first_where_it_may_not_go_at_all(situation: Situation) -> None:
    assert choose_route(a_decision(), situation).target is Target.REFUSE  # so it is drafted


def test_shadow_goes_before_cloud_first() -> None:
    assert Modes(cloud_first=frozenset({"app"})).skips_draft("app")
    assert not Modes(cloud_first=frozenset({"app"})).skips_draft("other")
    assert not Modes(shadow=True, cloud_first=frozenset({"app"})).skips_draft("app")


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        (a_situation(None, unable=True, model="gpt-4o", by_model=True), Target.CLOUD),
        (a_situation(None, unable=True, model="other", by_model=True), Target.REFUSE),
        (a_situation(None, model="ringfence", by_model=True), Target.REFUSE),
        (a_situation(None, unable=True, model="gpt-4o", ready=False, by_model=True), Target.REFUSE),
        (a_situation(UNKNOWN, model="gpt-4o", by_model=True), Target.LOCAL),
    ],
    ids=["named", "not named", "no name", "not ready", "answered at home"],
)
@pytest.mark.parametrize("on_local_failure", OnLocalFailure)
def test_where_the_model_decides_only_its_name_leads_out(
    situation: Situation, expected: Target, on_local_failure: OnLocalFailure
) -> None:
    free = a_decision(on_local_failure=on_local_failure)
    assert choose_route(free, situation).target is expected
    pinned = a_decision(Action.LOCAL_ONLY, on_local_failure=on_local_failure)
    assert choose_route(pinned, situation).target is not Target.CLOUD
