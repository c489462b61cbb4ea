"""One escalation: body, permit, send, outcome, in this order and on the record.

Whatever happens once the intent is durable (an answer, a fault, a client that hangs up), exactly
one outcome follows it: the attempt runs in a task of its own, which a client's hang-up cannot cut
short.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from audit.errors import AuditError
from audit.ledger import Ledger
from audit.permit import Permit
from audit.record import IntentRecord
from proxy.egress.body import build_body, num_cleared
from proxy.egress.cloud import CloudBackend
from proxy.egress.limit import AttemptLimit
from proxy.egress.transport import origin_of
from proxy.errors import CloudError, EgressDenied
from proxy.records import intent_record, outcome_record
from proxy.types import Decision, Destination, Inspection, Outcome, Request

log = structlog.get_logger()


class CloudTier:
    """The cloud as the pipeline sees it."""

    def __init__(
        self,
        backend: CloudBackend,
        ledger: Ledger,
        limit: AttemptLimit,
        switched_on: Callable[[], bool],
    ) -> None:
        """Join the parts; ``switched_on`` is the incident switch, asked before every egress."""
        self._backend = backend
        self._ledger = ledger
        self._limit = limit
        self._switched_on = switched_on
        self._running: set[asyncio.Task[Outcome]] = set()

    @property
    def is_ready(self) -> bool:
        """Whether an escalation may leave, could be recorded and is within the cap, right now."""
        return self._switched_on() and self._ledger.writable and self._limit.has_room

    async def escalate(
        self,
        request: Request,
        inspection: Inspection,
        decision: Decision,
        destination: Destination,
    ) -> Outcome:
        """Send ``request`` to ``destination``, once.

        Raises:
            EgressDenied: the decision does not let it leave there, or the body is not cleared.
            AuditError: the intent could not be made durable; nothing left.
            CloudError: no usable answer, or the cap was reached.
        """
        if not decision.may_leave or destination not in decision.destinations:
            raise EgressDenied("the decision does not let this request leave")
        model = request.model if request.model in destination.models else destination.models[0]
        body = build_body(request.body, model, inspection)
        intent = intent_record(decision, destination, model, num_cleared(body))
        if not self._limit.take():
            raise CloudError("The cloud attempts are used up.", error_type="capped", sent="no")
        gone = asyncio.Event()
        task = asyncio.create_task(self._attempt(body, destination, intent, gone))
        self._running.add(task)
        task.add_done_callback(self._finished)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            gone.set()
            raise

    async def aclose(self) -> None:
        """Wait for the attempts under way to come to their outcome."""
        if self._running:
            await asyncio.wait(self._running)

    async def _attempt(
        self, body: bytes, destination: Destination, intent: IntentRecord, gone: asyncio.Event
    ) -> Outcome:
        permit = await self._ledger.intent(intent, body, origin_of(destination.base_url))
        result = await self._send(body, destination, permit, gone)
        try:
            await self._ledger.outcome(outcome_record(permit, result))
        except AuditError:
            # The intent stands; recovery closes it as unknown. The answer is the client's all the
            # same.
            log.error("outcome_not_recorded", decision_id=permit.decision_id)
        if isinstance(result, Outcome):
            return result
        raise result

    async def _send(
        self, body: bytes, destination: Destination, permit: Permit, gone: asyncio.Event
    ) -> Outcome | CloudError | EgressDenied:
        if gone.is_set():
            return CloudError("The client is gone.", error_type="client_abort", sent="no")
        if not self._switched_on():
            return CloudError("Egress is switched off.", error_type="switched_off", sent="no")
        send = asyncio.ensure_future(self._backend.complete(body, destination, permit))
        leave = asyncio.ensure_future(gone.wait())
        await asyncio.wait({send, leave}, return_when=asyncio.FIRST_COMPLETED)
        leave.cancel()
        if not send.done():
            send.cancel()
            await asyncio.wait({send})
        if send.cancelled():
            return CloudError("The client is gone.", error_type="client_abort")
        fault = send.exception()
        if fault is None:
            return send.result()
        if isinstance(fault, CloudError | EgressDenied):
            return fault
        # Our own bug, but the intent is on the record and must be closed.
        log.error("attempt_failed", decision_id=permit.decision_id, error=fault)
        return CloudError("The cloud model could not be used.", error_type="internal")

    def _finished(self, task: asyncio.Task[Outcome]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # taken, so that a client that left leaves no warning behind
