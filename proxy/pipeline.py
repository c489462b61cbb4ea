"""The life of a request, in one function that reads like the picture in `docs/architecture.md`.

It must never let a request past the ceiling of its decision, and never let anything leave without
a permit from the ledger.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import structlog

from audit.errors import AuditError
from audit.ledger import Ledger
from proxy.egress.attempt import CloudTier
from proxy.errors import CloudError, LocalBackendError, ProxyError, RequestError, error_body
from proxy.ids import new_id
from proxy.inspection.detector import Inspector
from proxy.local.backend import LocalBackend
from proxy.pins import PinStore, PinStoreError, carried_texts, pinnable_texts
from proxy.policy.decide import Context, decide
from proxy.policy.model import Policy
from proxy.records import Laps, decision_record
from proxy.routing.estimator import ConfidenceEstimator
from proxy.routing.route import Situation, choose_route
from proxy.types import (
    Action,
    Confidence,
    Decision,
    Draft,
    Inspection,
    JSONObject,
    Request,
    Response,
    Route,
    RouteReason,
    Target,
)

log = structlog.get_logger()

#: The model name that leaves the choice to the proxy.
AUTO_MODEL = "ringfence"

#: The origin of a request for which it could not be looked up: treated as derived.
UNKNOWN_ORIGIN = "unknown"


@dataclass(frozen=True, slots=True)
class Parts:
    """What the pipeline is made of; `proxy.assembly` picks the implementations."""

    inspector: Inspector
    policy: Callable[[], Policy]  # the one in force now
    models: Callable[[], Sequence[str]]  # the names a client may ask for
    local: LocalBackend
    local_model: str
    estimator: ConfidenceEstimator
    ledger: Ledger
    pins: PinStore
    cloud: CloudTier | None


@dataclass(frozen=True, slots=True)
class Flow:
    """What is known of a request so far; each step makes a new one."""

    request: Request
    inspection: Inspection
    decision: Decision
    draft: Draft | None = None
    confidence: Confidence | None = None
    local_fault: LocalBackendError | None = None
    laps: Laps = ()
    started: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str, started: float) -> Flow:
        """This flow with the time of a stage noted, in ms."""
        return replace(self, laps=(*self.laps, (stage, (time.perf_counter() - started) * 1000)))


class Pipeline:
    """Answers requests; the only caller of every stage."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def answer(self, request: Request) -> Response:
        """Take ``request`` through the stages.

        1. Inspect every string of it, and decide what may happen to it. Blocked: recorded, done.
        2. Draft the answer on-premises and score the draft.
        3. Choose the route, under the ceiling of the decision.
        4. Record the decision, with what was looked at.
        5. Escalate, if that is the route: permit, send, outcome.
        6. Pin what a pinned exchange said.

        Raises:
            RequestError: nobody here knows the model asked for.
            InspectionError: the inspection could not run at all.
            AuditError: the decision could not be recorded, and policy wants it recorded.
            PinStoreError: a pinned answer could not be pinned, so it is not given out.
            CloudError: the cloud failed and there is no draft to fall back on.
        """
        self._check_model(request)
        flow = await self._inspect_and_decide(request)  # 1
        if flow.decision.action is Action.BLOCK:
            return await self._blocked(flow)
        try:
            flow = await self._draft(flow)  # 2
        except asyncio.CancelledError:
            await self._record_departure(flow)
            raise
        route = self._route(flow)  # 3
        route = await self._record(flow, route)  # 4
        response = await self._respond(flow, route)  # 5
        if not flow.decision.may_leave:
            await self._pin(flow, response)  # 6
        _log_answer(flow, response)
        return response

    def _check_model(self, request: Request) -> None:
        if request.model not in self._parts.models():
            raise RequestError(
                "This model does not exist here; GET /v1/models lists those that do.",
                code="model_not_found",
                http_status=404,
                param="model",
            )

    async def _inspect_and_decide(self, request: Request) -> Flow:
        started = time.perf_counter()
        inspection = await self._parts.inspector.inspect(request.body)
        derived_from = await self._origin(inspection)
        context = Context(
            caller=request.caller,
            route=request.route,
            model=request.model,
            now=datetime.now(UTC),
        )
        decision = decide(
            self._parts.policy(),
            context,
            inspection,
            decision_id=new_id("dec"),
            derived_from=derived_from,
        )
        return Flow(request, inspection, decision).lap("inspection", started)

    async def _origin(self, inspection: Inspection) -> str | None:
        """The pinned exchange this request stems from; a store that fails counts as one."""
        try:
            return await self._parts.pins.find(carried_texts(inspection))
        except PinStoreError:
            log.error("pins_unavailable")
            return UNKNOWN_ORIGIN

    async def _blocked(self, flow: Flow) -> Response:
        route = await self._record(flow, Route(Target.REFUSE, RouteReason.BLOCKED))
        message = flow.decision.message or "This request is blocked by your organization's policy."
        body = error_body(message, error_type="invalid_request_error", code="blocked_by_policy")
        response = Response(flow.decision.decision_id, 400, body, route)
        _log_answer(flow, response)
        return response

    async def _draft(self, flow: Flow) -> Flow:
        started = time.perf_counter()
        try:
            draft = await self._parts.local.generate(flow.request)
        except LocalBackendError as error:
            return replace(flow, local_fault=error).lap("draft", started)
        confidence = self._parts.estimator.estimate(draft)
        return replace(flow, draft=draft, confidence=confidence).lap("draft", started)

    def _route(self, flow: Flow) -> Route:
        cloud = self._parts.cloud
        situation = Situation(
            confidence=flow.confidence,
            local_unable=flow.local_fault is not None and flow.local_fault.unable,
            cloud_ready=cloud is not None and cloud.is_ready,
            model=flow.request.model,
            local_model=self._parts.local_model,
        )
        return choose_route(flow.decision, situation)

    async def _record(self, flow: Flow, route: Route) -> Route:
        """Record the decision; where that fails, the route becomes what may go unrecorded."""
        outcome = (route, flow.confidence)
        try:
            await self._parts.ledger.decision(
                decision_record(flow.request, flow.inspection, flow.decision, outcome, flow.laps)
            )
        except AuditError:
            log.error("decision_not_recorded", decision_id=flow.decision.decision_id)
            if route.target is Target.REFUSE:
                return route
            if flow.draft is None or not (
                flow.decision.may_leave or flow.decision.allow_unrecorded_local
            ):
                raise
            return Route(Target.LOCAL, RouteReason.LEDGER_UNWRITABLE, degraded=True)
        return route

    async def _record_departure(self, flow: Flow) -> None:
        """The client left while the draft was being made: its decision is recorded all the same."""
        route = Route(Target.REFUSE, RouteReason.CLIENT_GONE)
        await asyncio.shield(asyncio.ensure_future(self._record(flow, route)))

    async def _respond(self, flow: Flow, route: Route) -> Response:
        if route.target is Target.CLOUD:
            return await self._escalate(flow, route)
        return self._at_home(flow, route)

    def _at_home(self, flow: Flow, route: Route) -> Response:
        decision_id = flow.decision.decision_id
        if route.target is Target.LOCAL and flow.draft is not None:
            return Response(decision_id, 200, flow.draft.body, route, flow.confidence)
        fault = flow.local_fault or LocalBackendError("The on-premises model did not answer.")
        return Response(decision_id, fault.http_status, fault.body, route)

    async def _escalate(self, flow: Flow, route: Route) -> Response:
        """The cloud's answer; on any fault there, the draft, marked degraded."""
        cloud = self._parts.cloud
        if cloud is None or route.destination is None:
            raise ProxyError("The route names a cloud that is not there.")
        decision = flow.decision
        reason = RouteReason.CLOUD_FAILED
        try:
            outcome = await cloud.escalate(
                flow.request, flow.inspection, decision, route.destination
            )
            return Response(decision.decision_id, 200, outcome.body, route, flow.confidence)
        except CloudError as error:
            log.warning(
                "cloud_failed", decision_id=decision.decision_id, error_type=error.upstream_error
            )
            fault: CloudError | AuditError = error
        except AuditError as error:
            log.error("intent_not_recorded", decision_id=decision.decision_id)
            reason, fault = RouteReason.LEDGER_UNWRITABLE, error
        if flow.draft is None:
            raise fault
        return self._at_home(flow, Route(Target.LOCAL, reason, degraded=True))

    async def _pin(self, flow: Flow, response: Response) -> None:
        texts = pinnable_texts(flow.inspection) + answer_texts(response.body)
        await self._parts.pins.remember(texts, flow.decision.decision_id)


def answer_texts(body: JSONObject) -> tuple[str, ...]:
    """The message texts of a chat completion."""
    choices = body.get("choices")
    found: list[str] = []
    for choice in choices if isinstance(choices, list) else ():
        message = choice.get("message") if isinstance(choice, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str):
            found.append(content)
    return tuple(found)


def _log_answer(flow: Flow, response: Response) -> None:
    log.info(
        "answered",
        decision_id=response.decision_id,
        app=flow.request.caller.app,
        action=flow.decision.action.value,
        route=response.route.target.value,
        reason=response.route.reason.value,
        degraded=response.route.degraded,
        findings=len(flow.inspection.findings),
        unscannable=len(flow.inspection.unscannable),
        confidence=response.confidence.score if response.confidence else None,
        http_status=response.http_status,
        elapsed_ms=round((time.perf_counter() - flow.started) * 1000, 1),
    )
