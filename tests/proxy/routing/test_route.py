"""The route, row by row, and never past the ceiling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.routing.route import Situation, choose_route
from proxy.types import Action, Confidence, OnLocalFailure, RouteReason, Target
from tests.factories import a_confidence, a_decision, a_destination

HIGH, LOW, UNKNOWN = a_confidence(-0.1), a_confidence(-0.9), a_confidence(None)


def a_situation(
    confidence: Confidence | None = HIGH,
    *,
    unable: bool = False,
    ready: bool = True,
    model: str = "ringfence",
) -> Situation:
    return Situation(confidence, unable, ready, model, "local")


@pytest.mark.parametrize(
    ("action", "situation", "expected"),
    [
        (Action.BLOCK, a_situation(), (Target.REFUSE, RouteReason.BLOCKED, False)),
        (Action.LOCAL_ONLY, a_situation(LOW), (Target.LOCAL, RouteReason.PINNED, False)),
        (Action.MASK, a_situation(LOW), (Target.LOCAL, RouteReason.PINNED, False)),
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
    ],
)
def test_route(
    action: Action, situation: Situation, expected: tuple[Target, RouteReason, bool]
) -> None:
    route = choose_route(a_decision(action), situation)
    assert (route.target, route.reason, route.degraded) == expected


def test_goes_to_the_cloud_without_a_draft_only_where_policy_says_so() -> None:
    decision = a_decision(on_local_failure=OnLocalFailure.CLOUD)
    assert choose_route(decision, a_situation(None)).target is Target.CLOUD
    assert choose_route(decision, a_situation(None, ready=False)).target is Target.REFUSE
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
    confidence=st.sampled_from([HIGH, LOW, UNKNOWN, None]),
    unable=st.booleans(),
    ready=st.booleans(),
    model=st.sampled_from(["ringfence", "local", "gpt-4o"]),
)
def test_never_passes_the_ceiling(
    action: Action,
    destinations: tuple[object, ...],
    on_failure: OnLocalFailure,
    confidence: Confidence | None,
    unable: bool,
    ready: bool,
    model: str,
) -> None:
    decision = a_decision(action, destinations=destinations, on_local_failure=on_failure)  # type: ignore[arg-type]
    situation = a_situation(confidence, unable=unable, ready=ready, model=model)
    route = choose_route(decision, situation)
    if route.target is Target.CLOUD:
        assert decision.may_leave
        assert ready
        assert route.destination in decision.destinations
        assert confidence is None or confidence.is_low
