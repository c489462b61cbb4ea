"""One escalation: body, permit, send, outcome, in this order and on the record.

Whatever happens once the intent is durable (an answer, a fault, a client that hangs up), exactly
one outcome follows it: the attempt runs in a task of its own, which a client's hang-up cannot cut
short.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from audit.errors import AuditError
from audit.ledger import Ledger
from audit.permit import Permit
from audit.record import IntentRecord
from proxy.egress.answers import Look, Scoring, made_whole
from proxy.egress.body import build_body, live_fields, model_for, num_cleared
from proxy.egress.cloud import CloudBackend, broken
from proxy.egress.limit import AttemptLimit
from proxy.egress.live import CloudStream, Departure, Incoming
from proxy.egress.mask import Masked
from proxy.egress.spending import Plan, Spending
from proxy.egress.transport import origin_of
from proxy.errors import AnswerWithheld, CloudError, EgressDenied
from proxy.metrics import Metrics
from proxy.records import intent_record, outcome_record
from proxy.routes.chat import CHAT
from proxy.routes.registry import ROUTES
from proxy.routes.route import Abroad
from proxy.types import (
    AnswerScan,
    Confidence,
    Decision,
    Destination,
    Draft,
    Inspection,
    Outcome,
    Request,
    RouteReason,
    Verdict,
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Aim:
    """Where one attempt goes.

    ``destination`` is one of the decision's; ``attempt`` counts those of the decision from 1.
    ``score`` is how sure its answer is, which is then gathered whole; None: nobody asks.
    """

    destination: Destination
    attempt: int = 1
    score: Callable[[Draft], Confidence] | None = None


@dataclass(frozen=True, slots=True)
class _Errand:
    """What one attempt carries, where to, and how its answer is made whole."""

    body: bytes = field(repr=False)
    destination: Destination
    intent: IntentRecord
    call: Abroad
    route: str
    inspected: tuple[AnswerScan, Look] | None
    masked: Masked | None
    team: str
    plan: Plan
    keeps: bool
    scoring: Scoring | None
    incoming: Incoming | None

    @property
    def flows(self) -> bool:
        """Whether the client has begun to get the answer."""
        return self.incoming is not None and self.incoming.begun.is_set()


class CloudTier:
    """The cloud as the pipeline sees it."""

    def __init__(
        self,
        backend: CloudBackend,
        ledger: Ledger,
        limit: AttemptLimit,
        switched_on: Callable[[], bool],
        metrics: Metrics | None = None,
        spending: Spending | None = None,
    ) -> None:
        """Join the parts; ``switched_on`` is the incident switch, asked before every egress."""
        self._backend = backend
        self._ledger = ledger
        self._limit = limit
        self._switched_on = switched_on
        self._metrics = metrics or Metrics()
        self._spending = spending or Spending()
        self._running: set[asyncio.Task[Outcome]] = set()

    @property
    def is_ready(self) -> bool:
        """Whether an escalation may leave, could be recorded and is within the cap, right now."""
        return self._switched_on() and self._ledger.writable and self._limit.has_room

    async def left_share(self, team: str) -> float:
        """The share of its tightest budget that ``team`` has left, in [0, 1]."""
        return await self._spending.left_share(team)

    def reaches(self, destinations: Iterable[Destination]) -> bool:
        """Whether there is a key for one of ``destinations`` at least."""
        return any(map(self._backend.has_key, destinations))

    async def why_not(
        self, request: Request, destination: Destination, masked: Masked | None
    ) -> RouteReason | None:
        """Why ``request`` cannot go there now: no key, or no budget bears it; None: it can."""
        if not self.reaches([destination]):
            return RouteReason.CLOUD_UNAVAILABLE
        plan = self._plan(request, destination, masked)
        return await self._spending.why_not(request.caller.team, plan)

    def _plan(
        self, request: Request, destination: Destination, masked: Masked | None
    ) -> Plan | None:
        call = _call_of(request, destination)
        if call is None:
            return None
        is_masked = masked is not None and masked.inspection is not None
        body = masked.body if masked is not None and is_masked else request.body
        return self._spending.plan(body, destination, model_for(request.model, destination), call)

    async def escalate(
        self,
        request: Request,
        inspection: Inspection,
        decision: Decision,
        aim: Aim,
        masked: Masked | None = None,
        look: Look | None = None,
    ) -> Outcome | CloudStream:
        """Send ``request`` to the destination of ``aim``, once.

        Args:
            request: what the client asked.
            inspection: the inspection of its body.
            decision: what lets it leave.
            aim: where to, and whether its answer is scored.
            masked: what to send instead, with an inspection of its own.
            look: inspects the answer, where the decision asks for that.

        Returns:
            The outcome, with the values of a masked request in its body; or an answer that flows.

        Raises:
            EgressDenied: the decision does not let it leave there, or the body is not cleared.
            AuditError: the intent could not be made durable; nothing left.
            CloudError: no usable answer, or the cap was reached, or no budget bears it.
            AnswerWithheld: the answer is not given out.
        """
        _check(decision, aim.destination, masked, look)
        errand = self._errand(request, inspection, decision, aim, masked, look)
        if not self.reaches([aim.destination]):
            self._metrics.failed(aim.destination.id, "no_key")
            raise CloudError("There is no key for it.", error_type="no_key", sent="no")
        if not self._limit.take():
            self._metrics.failed(aim.destination.id, "capped")
            raise CloudError("The cloud attempts are used up.", error_type="capped", sent="no")
        return await self._carried(errand)

    def _errand(
        self,
        request: Request,
        inspection: Inspection,
        decision: Decision,
        aim: Aim,
        masked: Masked | None,
        look: Look | None,
    ) -> _Errand:
        """What `escalate` sends; the body is cleared."""
        destination = aim.destination
        flows = _flows(request, decision) and aim.score is None
        call = _call_of(replace(request, live=flows), destination)
        if call is None:
            raise EgressDenied("this route never leaves")
        model = model_for(request.model, destination)
        plan = self._plan(request, destination, masked)
        if plan is None:
            raise CloudError("Its cost has no bound.", error_type="no_bound", sent="no")
        sent = (request.body, inspection)
        if masked is not None and masked.inspection is not None:
            sent = (masked.body, masked.inspection)
        scoring = _scoring_of(request, call, aim)
        asks = {} if scoring is None else scoring.scores.ask(request.body)
        body = build_body(sent[0], model, sent[1], {**call.forced, **asks, **dict(plan.forced)})
        told = (num_cleared(body), masked.counts if masked else ())
        return _Errand(
            body=body,
            destination=destination,
            intent=intent_record(decision, destination, model, *told, aim.attempt),
            call=call,
            route=request.route,
            inspected=None if decision.scan is None or look is None else (decision.scan, look),
            masked=masked,
            team=request.caller.team,
            plan=plan,
            keeps=decision.keep_answer and request.route == CHAT.name,
            scoring=scoring,
            incoming=Incoming(call, request.body, masked) if flows else None,
        )

    async def aclose(self) -> None:
        """Wait for the attempts under way to come to their outcome."""
        if self._running:
            await asyncio.wait(self._running)

    async def _carried(self, errand: _Errand) -> Outcome | CloudStream:
        """What comes of ``errand``, in a task of its own; it is told when the client has left."""
        gone, incoming = Departure(), errand.incoming
        task = asyncio.create_task(self._attempt(errand, gone))
        self._running.add(task)
        task.add_done_callback(self._finished)
        waits: set[asyncio.Future[Any]] = {task}
        if incoming is not None:
            task.add_done_callback(lambda done: incoming.pipe.close(_fault_of(done)))
            waits.add(asyncio.ensure_future(incoming.begun.wait()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            gone.set()
            raise
        finally:
            for other in waits - {task}:
                other.cancel()
        if incoming is not None and errand.flows:
            return CloudStream(incoming.pipe, gone)
        return task.result()

    async def _attempt(self, errand: _Errand, gone: Departure) -> Outcome:
        destination, intent, spending = errand.destination, errand.intent, self._spending
        price = spending.prices.find(destination.id, intent.model)
        origin = origin_of(destination.base_url)
        try:
            taken = await spending.reserve(errand.team, errand.plan)
        except CloudError as error:
            self._metrics.failed(destination.id, error.upstream_error)
            raise
        try:
            permit = await self._ledger.intent(intent, errand.body, origin)
        except AuditError:
            self._metrics.failed(destination.id, "not_recorded")
            await spending.settle(taken, EgressDenied("not recorded"), price)
            raise
        result = await self._send(errand, permit, gone)
        await spending.settle(taken, result, price)
        if isinstance(result, Outcome) and not errand.flows:
            asked = (errand.inspected, errand.masked, errand.scoring)
            result = await made_whole(result, errand.route, *asked)
        record = outcome_record(permit, result, intent.model, price)
        self._metrics.attempted(destination.id, record)
        try:
            answer = result.payload if isinstance(result, Outcome) else _rest_of(errand)
            keep = errand.keeps and not _is_found_fault_with(result)
            await self._ledger.outcome(record, answer, keep=keep)
        except AuditError:
            # The intent stands; recovery closes it as unknown. The answer is the client's all the
            # same.
            log.error("outcome_not_recorded", decision_id=permit.decision_id)
        if not isinstance(result, Outcome):
            raise result
        if result.cut_by is not None:
            raise broken(result.cut_by, result.status)
        if result.scanned is not None and result.scanned.withheld:
            raise AnswerWithheld
        return result

    async def _send(
        self, errand: _Errand, permit: Permit, gone: Departure
    ) -> Outcome | CloudError | EgressDenied:
        if gone.is_set():
            return CloudError("The client is gone.", error_type="client_abort", sent="no")
        if not self._switched_on():
            return CloudError("Egress is switched off.", error_type="switched_off", sent="no")
        where, incoming = (errand.body, errand.destination, permit, errand.call), errand.incoming
        send = asyncio.ensure_future(
            self._backend.complete(*where)
            if incoming is None
            else self._backend.stream(*where, incoming)
        )
        leave = asyncio.ensure_future(gone.wait())
        await asyncio.wait({send, leave}, return_when=asyncio.FIRST_COMPLETED)
        leave.cancel()
        if not send.done():
            send.cancel()
            await asyncio.wait({send})
        fault = None if send.cancelled() else send.exception()
        if fault is None and not send.cancelled():
            return send.result()
        if isinstance(fault, CloudError | EgressDenied):
            return fault
        if fault is not None:
            # Our own bug, but the intent is on the record and must be closed.
            log.error("attempt_failed", decision_id=permit.decision_id, error=fault)
        error_type = "internal" if fault is not None else gone.error_type
        if incoming is not None and errand.flows:
            return incoming.outcome(len(errand.body), error_type)
        said = "could not be used" if fault is not None else "was not waited for"
        return CloudError(f"The cloud model {said}.", error_type=error_type)

    def _finished(self, task: asyncio.Task[Outcome]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # taken, so that a client that left leaves no warning behind


def _is_found_fault_with(result: Outcome | CloudError | EgressDenied) -> bool:
    """Whether the answer was inspected, and is not known to be clean: such a one is not kept."""
    scanned = result.scanned if isinstance(result, Outcome) else None
    return scanned is not None and scanned.verdict is not Verdict.CLEAN


def _check(
    decision: Decision, destination: Destination, masked: Masked | None, look: Look | None
) -> None:
    """Raise EgressDenied where ``decision`` does not let this leave, or not in this way."""
    if not decision.may_leave or destination not in decision.destinations:
        raise EgressDenied("the decision does not let this request leave")
    if decision.only_masked and (masked is None or masked.inspection is None):
        raise EgressDenied("the decision lets this request leave only masked")
    if decision.scan is not None and look is None:
        raise EgressDenied("the decision wants the answer inspected")


def _flows(request: Request, decision: Decision) -> bool:
    """Whether the answer may be told while it comes: nobody needs it whole."""
    call = ROUTES[request.route].abroad
    can = call is not None and call.is_chunk is not None
    return request.live and can and decision.scan is None and not decision.keep_answer


def _call_of(request: Request, destination: Destination) -> Abroad | None:
    """What ``destination`` is asked for ``request``; None: it never leaves."""
    call = ROUTES[request.route].abroad
    if call is None or call.is_chunk is None or not request.live:
        return call
    return replace(call, forced={**call.forced, **live_fields(request.body, destination)})


def _scoring_of(request: Request, call: Abroad, aim: Aim) -> Scoring | None:
    """How the answer is scored; None: it is not, or it could not be."""
    if aim.score is None or call.scores is None:
        return None
    return Scoring(aim.score, call.scores, request.body)


def _rest_of(errand: _Errand) -> bytes | None:
    """What came of an answer before it proved to be none; None: nothing."""
    return (errand.incoming.payload or None) if errand.incoming is not None else None


def _fault_of(task: asyncio.Task[Outcome]) -> BaseException | None:
    """What a task that is done ended in."""
    gone = CloudError("The cloud model was not waited for.", error_type="client_abort")
    return gone if task.cancelled() else task.exception()
