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
class Modes:
    """How the proxy routes; ``cloud_first`` names apps. Shadow goes before it."""

    shadow: bool = False
    cloud_first: frozenset[str] = frozenset()

    def skips_draft(self, app: str) -> bool:
        """Whether requests of ``app`` that may leave are not drafted first."""
        return app in self.cloud_first and not self.shadow


@dataclass(frozen=True, slots=True)
class Situation:
    """What the route depends on beside the decision.

    ``confidence`` is None where there is no draft; then ``local_unable`` tells a model that cannot
    serve the request from a tier that is down. ``flows``: the client gets the local answer while it
    is made, so that its route is settled: before it began, or by the ``confidence`` of its
    beginning. ``by_model``: only the cloud model that the client named can stand in for the local
    one. ``unmaskable``: masking was tried, and did not leave a body that policy lets go.
    ``barred``: why it cannot go there (no key, no budget that bears it); None: it can, or nobody
    asked. ``ahead``: no draft was tried yet, and why none is wanted first; None: one is.
    ``shadow``: nothing leaves; the route says what would have. ``held``: nothing leaves before its
    batch has a plan.
    """

    confidence: Confidence | None
    local_unable: bool
    cloud_ready: bool
    model: str
    local_model: str
    by_model: bool = False
    unmaskable: bool = False
    barred: RouteReason | None = None
    ahead: RouteReason | None = None
    flows: bool = False
    shadow: bool = False
    held: bool = False


def choose_route(decision: Decision, situation: Situation) -> Route:
    """Where the answer to a request comes from, and why."""
    route = _by_confidence(decision, situation)
    if situation.shadow and route.target is Target.CLOUD:
        target = Target.REFUSE if situation.confidence is None else Target.LOCAL
        return Route(target, RouteReason.WOULD_ESCALATE)
    return route


def _by_confidence(decision: Decision, situation: Situation) -> Route:
    if decision.action is Action.BLOCK:
        return Route(Target.REFUSE, RouteReason.BLOCKED)
    if situation.confidence is None and not situation.flows:
        return _without_draft(decision, situation)
    if not decision.may_leave:
        return Route(Target.LOCAL, RouteReason.PINNED)
    if situation.model == situation.local_model:
        return Route(Target.LOCAL, RouteReason.MODEL_IS_LOCAL)
    if situation.held:
        return Route(Target.LOCAL, RouteReason.HELD)
    if situation.flows and situation.confidence is None:
        return Route(Target.LOCAL, RouteReason.CLOUD_UNAVAILABLE, degraded=True)
    if situation.flows:
        return Route(Target.LOCAL, RouteReason.COMMITTED_EARLY)
    if situation.confidence is None or situation.confidence.score is None:
        return Route(Target.LOCAL, RouteReason.CONFIDENCE_UNKNOWN)
    if situation.confidence.is_spared:
        return Route(Target.LOCAL, RouteReason.BUDGET_LOW, degraded=True)
    if not situation.confidence.is_low:
        return Route(Target.LOCAL, RouteReason.CONFIDENT)
    if not situation.cloud_ready:
        return Route(Target.LOCAL, RouteReason.CLOUD_UNAVAILABLE, degraded=True)
    if situation.unmaskable:
        return Route(Target.LOCAL, RouteReason.UNMASKABLE)
    if situation.barred is not None:
        return Route(Target.LOCAL, situation.barred, degraded=True)
    return _to_cloud(decision, situation, RouteReason.LOW_CONFIDENCE)


def _without_draft(decision: Decision, situation: Situation) -> Route:
    if situation.ahead is not None and _may_go_first(decision, situation):
        return _to_cloud(decision, situation, situation.ahead)
    unable = situation.local_unable
    reason = RouteReason.LOCAL_UNABLE if unable else RouteReason.LOCAL_FAILED
    named = any(situation.model in d.models for d in decision.destinations)
    wanted = named if situation.by_model else decision.on_local_failure is OnLocalFailure.CLOUD
    may_go = (
        decision.may_leave
        and wanted
        and not situation.held
        and situation.cloud_ready
        and situation.model != situation.local_model
    )
    if may_go and situation.unmaskable:
        return Route(Target.REFUSE, RouteReason.UNMASKABLE)
    if may_go and situation.barred is not None:
        return Route(Target.REFUSE, situation.barred)
    return _to_cloud(decision, situation, reason) if may_go else Route(Target.REFUSE, reason)


def _may_go_first(decision: Decision, situation: Situation) -> bool:
    """Whether a request may leave before it was drafted."""
    return (
        decision.may_leave
        and situation.cloud_ready
        and situation.model != situation.local_model
        and not situation.by_model
        and not situation.unmaskable
        and situation.barred is None
    )


def _to_cloud(decision: Decision, situation: Situation, reason: RouteReason) -> Route:
    return Route(
        Target.CLOUD, reason, destination=_destination(decision.destinations, situation.model)
    )


def _destination(destinations: tuple[Destination, ...], model: str) -> Destination:
    """The first destination that has the model the client asked for, else the first."""
    return next((d for d in destinations if model in d.models), destinations[0])
