"""The life of a request, in one function that reads like the picture in `docs/architecture.md`.

It must never let a request past the ceiling of its decision, and never let anything leave without
a permit from the ledger.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import structlog

from audit.errors import AuditError
from proxy.egress.answers import Look
from proxy.egress.body import model_for, outgoing
from proxy.egress.climb import Climber, Load, reason_of, rungs_of
from proxy.egress.mask import Masked, mask
from proxy.errors import (
    BLOCKED,
    CloudError,
    InspectionError,
    LocalBackendError,
    ProxyError,
    RequestError,
    error_body,
)
from proxy.flow import Flow, Parts
from proxy.home_stream import HomeStream
from proxy.ids import new_id
from proxy.local.live import LocalStream
from proxy.pins.growing import Pinning, pin_told, pinning_of
from proxy.pins.store import PinStoreError, carried_traces
from proxy.policy.decide import Context, Ruling
from proxy.policy.model import Policy
from proxy.policy.shadow import Shadow, shadow_of
from proxy.records import decision_record
from proxy.routes.chat import CHAT
from proxy.routes.embeddings import EMBEDDINGS
from proxy.routes.registry import ROUTES
from proxy.routes.route import Escalation
from proxy.routing.catalog import range_of
from proxy.routing.chain import Rung
from proxy.routing.features import held_of
from proxy.routing.route import Situation, choose_route
from proxy.routing.thrift import AMPLE, thrifty
from proxy.telling import tell
from proxy.types import (
    Action,
    Destination,
    Draft,
    Inspection,
    Request,
    Response,
    Route,
    RouteReason,
    Target,
)

log = structlog.get_logger()

#: The origin of a request for which it could not be looked up: treated as derived.
UNKNOWN_ORIGIN = "unknown"


class Pipeline:
    """Answers requests; the only caller of every stage."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def answer(self, request: Request) -> Response:
        """Take ``request`` through the stages.

        1. Inspect every string of it, and decide what may happen to it. Blocked: recorded, done.
        2. Draft the answer on-premises and score the draft; an app may go to the cloud first.
        3. Choose the route, under the ceiling of the decision; mask what may leave only masked.
        4. Record the decision, with what was looked at.
        5. Escalate, if that is the route: permit, send, outcome.
        6. Pin what a pinned exchange said, or a local answer made from what was to be masked.

        Raises:
            RequestError: nobody here knows the model asked for.
            InspectionError: the inspection could not run at all.
            AuditError: the decision could not be recorded, and policy wants it recorded.
            PinStoreError: a pinned answer could not be pinned, so it is not given out.
            CloudError: the cloud failed and there is no draft to fall back on.
        """
        self._check_model(request)
        flow = await self._inspect_and_decide(request)  # 1
        await pin_told(self._parts.pins, request, flow.inspection, flow.decision)
        if flow.decision.action is Action.BLOCK:
            return await self._blocked(flow)
        try:
            flow, route = await self._choose(flow)  # 2, 3
        except asyncio.CancelledError:
            await self._record_departure(flow)
            raise
        if flow.begun is not None:
            return await self._flow_home(flow, route, flow.begun)  # 4, 6
        route = await self._record(flow, route)  # 4
        response = await self._respond(flow, route)  # 5
        if await self._pin(flow, response):  # 6
            response = replace(response, pinned=True)
        if flow.is_held:
            response = replace(response, held=held_of(flow.request, flow.decision, flow.draft))
        tell(self._parts.metrics, flow, response)
        return response

    async def _flow_home(self, flow: Flow, route: Route, begun: LocalStream) -> Response:
        """A local answer that its client gets while it is made, each piece once it is pinned."""
        try:
            route = await self._record(flow, route)
            pinning = self._pinning(flow, route)
            if pinning is not None:  # its reader may leave before the end, when all else is pinned
                await pinning.remember_request()
        except BaseException:
            begun.close()
            raise
        response = Response(flow.decision.decision_id, 200, {}, route, flow.confidence)
        response = replace(response, pinned=pinning is not None)
        live = HomeStream(begun, pinning, partial(tell, self._parts.metrics, flow, response))
        return replace(response, live=live)

    def _check_model(self, request: Request) -> None:
        if ROUTES[request.route].any_model:
            return
        if request.model == self._parts.encoder and request.route != EMBEDDINGS.name:
            raise RequestError(
                "This model makes vectors, and no words: it is for /v1/embeddings.",
                code="model_not_found",
                http_status=404,
                param="model",
            )
        if request.model not in self._parts.models():
            raise RequestError(
                "This model does not exist here; GET /v1/models lists those that do.",
                code="model_not_found",
                http_status=404,
                param="model",
            )

    async def _inspect_and_decide(self, request: Request) -> Flow:
        started = time.perf_counter()
        # The policy and the candidate this request keeps, whatever is loaded meanwhile.
        policy, staged = self._parts.policy(), self._parts.staged()
        takes = staged is not None and staged.takes(request)
        if staged is not None and takes:
            policy, staged = staged.policy, None
        inspection = await self._look(request, policy)(request.body)
        derived_from = request.derived_from or await self._origin(inspection)
        context = Context(request.caller, request.route, request.model, datetime.now(UTC))
        ruling = Ruling(policy, context)
        decision = ruling.decide(inspection, new_id("dec"), derived_from)
        flow = Flow(request, inspection, decision, ruling).lap("inspection", started)
        self._parts.metrics.sided("candidate" if takes else "in_force")
        if staged is None:
            return flow
        return replace(flow, shadow=await self._shadow(staged.policy, flow))

    def _look(self, request: Request, policy: Policy) -> Look:
        """How texts of ``request`` are inspected: as ``policy`` says, in its caller's turn."""
        inspect, caller = self._parts.inspector.inspect, request.caller.key_id
        return partial(inspect, recognizers=policy.recognizers, caller=caller)

    async def _shadow(self, candidate: Policy, flow: Flow) -> Shadow | None:
        """What ``candidate`` would have said; nothing that goes wrong here is the request's."""
        inspection, shadow = flow.inspection, None
        try:
            if candidate.recognizers != flow.ruling.policy.recognizers:
                inspection = await self._look(flow.request, candidate)(flow.request.body)
            shadow = shadow_of(candidate, flow.ruling.context, inspection, flow.decision)
        except Exception as error:  # noqa: BLE001 - the boundary: a shadow never touches a request
            log.warning("shadow_failed", error=error)
        self._parts.metrics.shadowed(shadow.verdict if shadow else "failed")
        return shadow

    async def _origin(self, inspection: Inspection) -> str | None:
        """The pinned exchange this request stems from; a store that fails counts as one."""
        try:
            return await self._parts.pins.find(lambda: carried_traces(inspection))
        except PinStoreError:
            log.error("pins_unavailable")
            return UNKNOWN_ORIGIN

    async def _blocked(self, flow: Flow) -> Response:
        route = await self._record(flow, Route(Target.REFUSE, RouteReason.BLOCKED))
        message = flow.decision.message or "This request is blocked by your organization's policy."
        body = error_body(message, error_type="invalid_request_error", code=BLOCKED)
        response = Response(flow.decision.decision_id, 400, body, route)
        tell(self._parts.metrics, flow, response)
        return response

    async def _choose(self, flow: Flow) -> tuple[Flow, Route]:
        """The draft and the route; no draft where the cloud goes first, and can."""
        flow = await self._look_ahead(self._on_rungs(flow))
        if flow.ahead is not None:
            flow, route = await self._ready(flow)
            if route.target is Target.CLOUD:
                return flow, route
        return await self._ready(await self._draft(flow))

    def _on_rungs(self, flow: Flow) -> Flow:
        """``flow`` at the foot of the chain, where there is one and its client chose no model."""
        rungs = rungs_of(self._parts.chain, flow.request, flow.decision)
        if not rungs:
            return flow
        return replace(flow, rungs=rungs, request=replace(flow.request, model=rungs[0].model))

    async def _look_ahead(self, flow: Flow) -> Flow:
        """``flow`` with the reason to go to the cloud before a draft, if there is one."""
        if flow.rungs and flow.request.plan is not None and self._cloud_ready(flow):
            return replace(flow, ahead=RouteReason.PLANNED)
        skips = self._parts.modes.skips_draft(flow.request.caller.app)
        prerouter = None if self._parts.modes.shadow else self._parts.prerouter
        if not self._may_escalate(flow) or not (skips or prerouter):
            return flow
        if await self._left(flow) < AMPLE:
            return flow
        if skips or prerouter is None:
            return replace(flow, ahead=RouteReason.CLOUD_FIRST)
        started = time.perf_counter()
        foreseen = await prerouter.foresee(flow.request)
        ahead = RouteReason.PREROUTED if foreseen is not None and foreseen.is_low else None
        return replace(flow, foreseen=foreseen, ahead=ahead).lap("prerouter", started)

    async def _ready(self, flow: Flow) -> tuple[Flow, Route]:
        """The route of ``flow``; what it goes with to a cloud is masked, and within the budgets."""
        flow, route = await self._mask(flow, self._route(flow))
        cloud = self._parts.cloud
        if route.destination is None or cloud is None:
            return flow, route
        why = await cloud.why_not(flow.request, route.destination, flow.masked)
        flow = replace(flow, barred=why)
        return flow, self._route(flow)

    async def _left(self, flow: Flow) -> float:
        """The share of its tightest cloud budget that the caller has left, in [0, 1]."""
        cloud = self._parts.cloud
        return 1.0 if cloud is None else await cloud.left_share(flow.request.caller.team)

    async def _draft(self, flow: Flow, *, whole: bool = False) -> Flow:
        """The draft and its confidence; ``whole``: whatever its confidence comes to."""
        started = time.perf_counter()
        left = await self._left(flow) if self._may_escalate(flow) else None
        try:
            if whole:
                made: Draft | LocalStream = await self._parts.local.generate(flow.request)
            else:
                made = await self._generate(flow, left)
        except LocalBackendError as error:
            return replace(flow, draft=None, local_fault=error).lap("draft", started)
        if isinstance(made, LocalStream):
            flow, seen = replace(flow, begun=made), made.beginning
        else:
            flow, seen = replace(flow, draft=made), made
            self._parts.metrics.drafted(made)
        if seen is None:
            return flow.lap("draft", started)
        may_ask = flow.request.route == CHAT.name and self._may_escalate(flow) and seen is made
        try:
            confidence = await self._parts.estimator.estimate(flow.request, seen, may_ask=may_ask)
        except BaseException:
            if flow.begun is not None:  # nobody is left who would read it
                flow.begun.close()
            raise
        # where the estimator could not ask, or nothing is scored at all, unknown is no drift
        scored = may_ask or (left is not None and seen is made and confidence.score is not None)
        if self._parts.drift is not None and scored and not whole:
            self._parts.drift.saw(confidence)
        if left is not None:
            confidence = thrifty(confidence, range_of(confidence.estimator), left)
        confidence = replace(confidence, is_cut=seen.is_cut)
        return replace(flow, confidence=confidence).lap("draft", started)

    async def _generate(self, flow: Flow, left: float | None) -> Draft | LocalStream:
        """A draft, given up early where ``left`` of a budget lets it escalate; or one to flow."""
        parts, request = self._parts, flow.request
        if parts.flowing is not None and self._flows_home(flow):
            return await parts.flowing.begin(request)
        early, committing = parts.early, parts.committing
        if not left or parts.modes.shadow:
            return await parts.local.generate(request)
        doomed = early.doom(request.body, left) if early is not None else None
        if committing is not None and request.live:
            return await committing.local.begin(request, committing.watch(doomed))
        if early is not None and doomed is not None:
            return await early.local.generate_until(request, doomed)
        return await parts.local.generate(request)

    def _may_escalate(self, flow: Flow) -> bool:
        """Whether the route depends on the confidence at all."""
        wants_local = flow.request.model == self._parts.local_model
        may_leave = flow.decision.may_leave and not flow.is_held
        return may_leave and self._cloud_ready(flow) and not wants_local

    def _flows_home(self, flow: Flow) -> bool:
        """Whether its client may have the local answer while it is made, whatever it comes to."""
        return flow.request.live and not self._may_escalate(flow)

    def _cloud_ready(self, flow: Flow) -> bool:
        cloud = self._parts.cloud
        leaves = ROUTES[flow.request.route].abroad is not None
        if self._parts.modes.shadow:
            return leaves  # what would have been, had there been a cloud
        if not leaves or cloud is None or not cloud.is_ready:
            return False
        return cloud.reaches(flow.decision.destinations)

    def _route(self, flow: Flow) -> Route:
        situation = Situation(
            confidence=flow.confidence,
            flows=flow.begun is not None,
            local_unable=flow.local_fault is not None and flow.local_fault.unable,
            cloud_ready=self._cloud_ready(flow),
            model=flow.request.model,
            local_model=self._parts.local_model,
            by_model=ROUTES[flow.request.route].escalation is Escalation.BY_MODEL,
            unmaskable=flow.unmaskable,
            barred=flow.barred,
            ahead=None if flow.is_drafted else flow.ahead,
            shadow=self._parts.modes.shadow,
            held=flow.is_held,
        )
        return choose_route(flow.decision, situation)

    async def _mask(self, flow: Flow, route: Route) -> tuple[Flow, Route]:
        """Mask what goes to a cloud only masked; what cannot be masked gets another route."""
        if route.destination is None or not flow.decision.only_masked:
            return flow, route
        started = time.perf_counter()
        masked = await self._masked(flow, flow.request, route.destination)
        flow = replace(flow, masked=masked, unmaskable=masked is None).lap("mask", started)
        return flow, self._route(flow)

    async def _masked(
        self, flow: Flow, request: Request, destination: Destination
    ) -> Masked | None:
        """The masked body, inspected again, if policy lets what is left of it go as it is."""
        decision = flow.decision
        body = outgoing(request.body, model_for(request.model, destination))
        masked = await asyncio.to_thread(mask, body, flow.inspection, decision.masks, request.route)
        if masked is None:
            return None
        try:
            again = await self._look(request, flow.ruling.policy)(masked.body)
        except InspectionError:
            return None
        rest = masked.without_placeholders(again)
        second = flow.ruling.decide(rest, decision.decision_id, await self._origin(again))
        clean = second.may_leave and not second.masks and destination in second.destinations
        return replace(masked, inspection=again) if clean else None

    async def _record(self, flow: Flow, route: Route) -> Route:
        """Record the decision; where that fails, the route becomes what may go unrecorded."""
        outcome = (route, flow.confidence or flow.foreseen)
        record = decision_record(
            flow.request, flow.inspection, flow.decision, outcome, flow.laps, flow.shadow
        )
        self._parts.metrics.decided(record)
        try:
            await self._parts.ledger.decision(record)
        except AuditError:
            log.error("decision_not_recorded", decision_id=flow.decision.decision_id)
            if route.target is Target.REFUSE:
                return route
            harmless = flow.decision.may_leave and not flow.decision.only_masked
            answers = flow.is_answered or not flow.is_drafted
            if not answers or not (harmless or flow.decision.allow_unrecorded_local):
                raise
            return Route(Target.LOCAL, RouteReason.LEDGER_UNWRITABLE, degraded=True)
        return route

    async def _record_departure(self, flow: Flow) -> None:
        """The client left while the draft was being made: its decision is recorded all the same."""
        route = Route(Target.REFUSE, RouteReason.CLIENT_GONE)
        await asyncio.shield(asyncio.ensure_future(self._left_behind(flow, route)))

    async def _left_behind(self, flow: Flow, route: Route) -> None:
        pinning = self._pinning(flow, route)
        try:
            if pinning is not None:
                await pinning.remember_request()
        except PinStoreError:
            log.error("pins_unavailable")
        await self._record(flow, route)

    async def _respond(self, flow: Flow, route: Route) -> Response:
        if route.target is Target.CLOUD:
            return await self._escalate(flow, route)
        return self._at_home(await self._drafted(flow), route)

    async def _drafted(self, flow: Flow) -> Flow:
        """``flow`` with a whole draft, where the cloud was to answer without one; see `_draft`."""
        is_cut = flow.draft is not None and flow.draft.is_cut
        return await self._draft(flow, whole=True) if is_cut or not flow.is_drafted else flow

    def _at_home(self, flow: Flow, route: Route) -> Response:
        decision_id = flow.decision.decision_id
        if route.target is Target.LOCAL and flow.draft is not None and not flow.draft.is_cut:
            return Response(decision_id, 200, flow.draft.body, route, flow.confidence)
        fault = flow.local_fault or LocalBackendError("The on-premises model did not answer.")
        return Response(decision_id, fault.http_status, fault.body, route)

    async def _escalate(self, flow: Flow, route: Route) -> Response:
        """The cloud's answer; on any fault there, the draft, marked degraded."""
        cloud = self._parts.cloud
        if cloud is None or route.destination is None:
            raise ProxyError("The route names a cloud that is not there.")
        load = Load(
            request=flow.request,
            inspection=flow.inspection,
            decision=flow.decision,
            rungs=flow.rungs or (Rung(1, flow.request.model, route.destination),),
            masked=flow.masked,
            mask=partial(self._masked, flow),
            look=self._look(flow.request, flow.ruling.policy),
        )
        decision_id = flow.decision.decision_id
        parts = self._parts
        chain = parts.chain if flow.rungs else None
        climber = Climber(cloud, chain, parts.metrics, parts.climb_s)
        try:
            return (await climber.climb(load)).response(decision_id, route, flow.confidence)
        except CloudError as error:
            log.warning("cloud_failed", decision_id=decision_id, error_type=error.upstream_error)
            fault: CloudError | AuditError = error
        except AuditError as error:
            log.error("intent_not_recorded", decision_id=decision_id)
            fault = error
        flow = await self._drafted(flow)
        if flow.draft is None:
            raise fault
        return self._at_home(flow, Route(Target.LOCAL, reason_of(fault), degraded=True))

    def _pinning(self, flow: Flow, route: Route) -> Pinning | None:
        about = (flow.inspection, flow.decision, route.target, flow.request.kept_s)
        return pinning_of(self._parts.pins, *about)

    async def _pin(self, flow: Flow, response: Response) -> bool:
        """Pin what may tell in other words what must not leave; whether there is any."""
        pinning = self._pinning(flow, response.route)
        if pinning is None:
            return False
        await pinning.remember(ROUTES[flow.request.route].texts(response.body))
        return True
