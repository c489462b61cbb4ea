"""Up a chain of cloud models: the next one is asked while the answer in hand is not sure enough.

Every attempt is one of its own: intent, permit, budget, cap, outcome. A fault ends the climb and is
never answered by another model: what is in hand then is what the client gets. It must never go
where the decision does not let a request go, nor ask more often than there are rungs.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import structlog

from audit.errors import AuditError
from proxy.egress.answers import Look
from proxy.egress.attempt import Aim, CloudTier
from proxy.egress.live import CloudStream
from proxy.egress.mask import Masked
from proxy.errors import AnswerWithheld, CloudError, EgressDenied
from proxy.metrics import Metrics
from proxy.routes.registry import ROUTES
from proxy.routing.chain import Chain, Rung
from proxy.types import (
    AUTO_MODEL,
    Confidence,
    Decision,
    Destination,
    Inspection,
    Outcome,
    Request,
    Response,
    Route,
    RouteReason,
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Load:
    """What goes up, and how it is made ready for each rung.

    ``masked`` is what is sent to the first rung of a request that leaves only masked; ``mask``
    makes the same for any other, None where it cannot leave. ``look`` inspects answers.
    """

    request: Request
    inspection: Inspection
    decision: Decision
    rungs: tuple[Rung, ...]
    masked: Masked | None
    mask: Callable[[Request, Destination], Awaitable[Masked | None]]
    look: Look


@dataclass(frozen=True, slots=True)
class Reached:
    """The answer, and which destination gave it.

    ``short``: why no better model was asked although the answer was not sure enough; None: it was
    sure, or the last one.
    """

    answer: Outcome | CloudStream
    destination: Destination
    short: RouteReason | None = None

    def response(
        self, decision_id: str, route: Route, confidence: Confidence | None = None
    ) -> Response:
        """What the client gets, on the ``route`` as it was decided; ``confidence`` is a draft's."""
        route = replace(route, destination=self.destination)
        if self.short is not None:
            # Policy allowed no better answer where it lets nothing go on unmasked.
            degraded = self.short is not RouteReason.UNMASKABLE
            route = replace(route, reason=self.short, degraded=degraded)
        if isinstance(self.answer, CloudStream):
            return Response(decision_id, 200, {}, route, confidence, live=self.answer)
        return Response(decision_id, 200, self.answer.body, route, confidence)


def rungs_of(chain: Chain | None, request: Request, decision: Decision) -> tuple[Rung, ...]:
    """The rungs for ``request``, within ``decision``; none where its client chose the model.

    What a plan sends has the one it says, and what it holds has none.
    """
    call = ROUTES[request.route].abroad
    if request.plan is not None:
        planned = next((d for d in decision.destinations if request.plan in d.models), None)
        goes = decision.may_leave and request.model == AUTO_MODEL
        return (Rung(0, request.plan, planned),) if planned is not None and goes else ()
    if chain is None or request.model != AUTO_MODEL or call is None or call.scores is None:
        return ()
    return chain.rungs(decision.destinations) if decision.may_leave else ()


class Climber:
    """Takes requests up, one attempt at a time."""

    def __init__(
        self,
        cloud: CloudTier,
        chain: Chain | None,
        metrics: Metrics,
        until_s: float = math.inf,
    ) -> None:
        """``chain`` None: every load has one rung.

        A further model is asked up to ``until_s`` seconds after the request came, and not later:
        its client would get no answer in time, and there is one in hand.
        """
        self._cloud = cloud
        self._chain = chain
        self._metrics = metrics
        self._until_s = until_s

    async def climb(self, load: Load) -> Reached:
        """The first answer that is sure enough, else the last one that could be had.

        Raises:
            EgressDenied, AuditError, CloudError: as `CloudTier.escalate`, of the first rung.
        """
        held: Reached | None = None
        for attempt, rung in enumerate(load.rungs, 1):
            step = replace(load, request=replace(load.request, model=rung.model))
            if held is not None:
                step, obstacle = await self._ready(step, rung)
                if obstacle is not None:
                    return replace(held, short=obstacle)
            try:
                answer = await self._ask(step, rung, attempt)
            except (AuditError, CloudError, EgressDenied) as fault:
                self._count(rung, "fault")
                if held is None:
                    raise
                _log_fault(load.decision, fault)
                return replace(held, short=reason_of(fault))
            held = Reached(answer, rung.destination)
            if not _goes_on(answer, rung):
                self._count(rung, "given")
                return replace(held, short=_spared(answer))
            self._count(rung, "went_on")
        if held is None:
            raise EgressDenied("there is no rung to send to")
        return held

    async def _ready(self, step: Load, rung: Rung) -> tuple[Load, RouteReason | None]:
        """``step`` as it may go to a further rung, or why it may not."""
        age = datetime.now(UTC) - step.request.received_at
        if not self._cloud.is_ready or age.total_seconds() > self._until_s:
            return step, RouteReason.CLOUD_UNAVAILABLE
        if step.decision.only_masked:
            step = replace(step, masked=await step.mask(step.request, rung.destination))
            if step.masked is None:
                return step, RouteReason.UNMASKABLE
        where = (rung.destination, step.masked)
        return step, await self._cloud.why_not(step.request, *where)

    async def _ask(self, step: Load, rung: Rung, attempt: int) -> Outcome | CloudStream:
        score = None
        if self._chain is not None and rung.threshold is not None:
            left = await self._cloud.left_share(step.request.caller.team)
            score = partial(self._chain.confidence, threshold=rung.threshold, left=left)
        aim = Aim(rung.destination, attempt, score)
        about = (step.request, step.inspection, step.decision)
        return await self._cloud.escalate(*about, aim, step.masked, step.look)

    def _count(self, rung: Rung, end: str) -> None:
        if self._chain is not None and rung.number:
            self._metrics.climbed(rung.number, end)


def reason_of(fault: CloudError | AuditError | EgressDenied) -> RouteReason:
    """Why the answer of a cloud is not the one that is given, as a route says it."""
    if isinstance(fault, AuditError):
        return RouteReason.LEDGER_UNWRITABLE
    if isinstance(fault, AnswerWithheld):
        return RouteReason.ANSWER_WITHHELD
    if isinstance(fault, CloudError) and fault.upstream_error == "over_budget":
        return RouteReason.BUDGET_SPENT
    return RouteReason.CLOUD_FAILED


def _goes_on(answer: Outcome | CloudStream, rung: Rung) -> bool:
    """Whether another model is due: this one is not the last, and not known to be sure.

    The text has left already, and an answer that nobody can judge is not taken for a sure one.
    """
    if isinstance(answer, CloudStream) or rung.threshold is None:
        return False
    told = answer.confidence
    return told is None or told.score is None or told.is_low


def _spared(answer: Outcome | CloudStream) -> RouteReason | None:
    """That a budget which runs low is all that makes an answer do."""
    told = answer.confidence if isinstance(answer, Outcome) else None
    return RouteReason.BUDGET_LOW if told is not None and told.is_spared else None


def _log_fault(decision: Decision, fault: CloudError | AuditError | EgressDenied) -> None:
    error_type = fault.upstream_error if isinstance(fault, CloudError) else fault.code
    log.warning("climb_ended", decision_id=decision.decision_id, error_type=error_type)
