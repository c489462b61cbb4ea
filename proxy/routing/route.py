"""The route: pure, and never past the ceiling of the decision."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.types import (
    Action,
    Confidence,
    Decision,
    Destination,
    OnLocalFailure,
    Route,
    RouteReason,
    Target,
)


@dataclass(frozen=True, slots=True)
class Situation:
    """What the route depends on beside the decision.

    ``confidence`` is None where there is no draft; then ``local_unable`` tells a model that cannot
    serve the request from a tier that is down.
    """

    confidence: Confidence | None
    local_unable: bool
    cloud_ready: bool
    model: str
    local_model: str


def choose_route(decision: Decision, situation: Situation) -> Route:
    """Where the answer to a request comes from, and why."""
    if decision.action is Action.BLOCK:
        return Route(Target.REFUSE, RouteReason.BLOCKED)
    if situation.confidence is None:
        return _without_draft(decision, situation)
    if not decision.may_leave:
        return Route(Target.LOCAL, RouteReason.PINNED)
    if situation.model == situation.local_model:
        return Route(Target.LOCAL, RouteReason.MODEL_IS_LOCAL)
    if situation.confidence.score is None:
        return Route(Target.LOCAL, RouteReason.CONFIDENCE_UNKNOWN)
    if not situation.confidence.is_low:
        return Route(Target.LOCAL, RouteReason.CONFIDENT)
    if not situation.cloud_ready:
        return Route(Target.LOCAL, RouteReason.CLOUD_UNAVAILABLE, degraded=True)
    return _to_cloud(decision, situation, RouteReason.LOW_CONFIDENCE)


def _without_draft(decision: Decision, situation: Situation) -> Route:
    unable = situation.local_unable
    reason = RouteReason.LOCAL_UNABLE if unable else RouteReason.LOCAL_FAILED
    may_go = (
        decision.may_leave
        and decision.on_local_failure is OnLocalFailure.CLOUD
        and situation.cloud_ready
        and situation.model != situation.local_model
    )
    return _to_cloud(decision, situation, reason) if may_go else Route(Target.REFUSE, reason)


def _to_cloud(decision: Decision, situation: Situation, reason: RouteReason) -> Route:
    return Route(
        Target.CLOUD, reason, destination=_destination(decision.destinations, situation.model)
    )


def _destination(destinations: tuple[Destination, ...], model: str) -> Destination:
    """The first destination that has the model the client asked for, else the first."""
    return next((d for d in destinations if model in d.models), destinations[0])
