"""What changes while the proxy runs goes into the log and on the record: policies, the switch,
what the local server turned out to give.

It never decides anything: a policy is in force, and a switch is off, whether or not it could be
written down.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import structlog

from audit.errors import AuditError
from audit.ledger import Ledger
from proxy.local.tier import LocalTier
from proxy.policy.approval import Approved
from proxy.policy.language import RecordPolicy
from proxy.policy.refusal import Rejection
from proxy.policy.reload import Reload, Verdict
from proxy.policy.staging import Stage, StageChange
from proxy.policy.switch import EgressSwitch, SwitchState
from proxy.routing.calibration import Calibration, is_old

log = structlog.get_logger()


Detail = dict[str, str | int | float | bool]


def approved_detail(digest: str, approved: Approved) -> Detail:
    """The detail of ``policy.approved``: who signed a version, and whether it loosens."""
    persons = " ".join(approved.signed_by[:2])
    looser = {} if approved.looser is None else {"looser": approved.looser}
    return {"digest": digest, "signed_by": persons, "num_signed": len(approved.signed_by), **looser}


def record_detail(record: RecordPolicy) -> Detail:
    """How the policy has the record kept: for how long, for `ringfence audit prune` to read, and
    whether with the answers of clouds.
    """
    days, keeps = record.retention_days, record.train_on_answers
    kept: Detail = {} if days is None else {"retention_days": days}
    return kept | ({"train_on_answers": True} if keeps else {})


class Notices:
    """Tells log and ledger of one server process; made on its event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._loop = asyncio.get_running_loop()

    def reloaded(self, reload: Reload) -> None:
        """Tell of a new version of the policy, taken or not; safe to call from any thread."""
        detail: Detail = {
            "digest": reload.digest,
            "revision": reload.revision,
        }
        if reload.verdict is Verdict.LOADED:
            detail |= record_detail(reload.record)
            log.info("policy.loaded", policy_digest=reload.digest[:19], revision=reload.revision)
        else:
            reason = reload.reason.value if reload.reason else "unknown"
            detail["reason"] = reason
            log.error(
                "policy.rejected",
                reason=reason,
                problem=reload.problem,
                policy_digest=reload.digest[:19],
                revision=reload.revision,
            )
        self._soon(reload.verdict.value, detail)
        if reload.approved is not None:
            self._soon("policy.approved", approved_detail(reload.digest, reload.approved))

    def staged(self, change: StageChange) -> None:
        """Tell what became of a candidate policy; loudly, when it ends or is refused."""
        say = log.error if change.stage in (Stage.EXPIRED, Stage.REFUSED) else log.info
        say(
            "policy.staged",
            action=change.stage.value,
            policy_digest=change.digest[:19],
            reason=change.reason or None,
            problem=change.problem or None,
        )
        detail: Detail = {"stage": change.stage.value}
        if change.digest:
            detail |= {"digest": change.digest, "share": change.share, "until": change.until}
        if change.reason:
            detail["reason"] = change.reason
        if change.stage is Stage.SHARE and change.record.train_on_answers:
            detail["train_on_answers"] = True
        self._soon("policy.staged", detail)

    def _soon(self, kind: str, detail: Detail) -> None:
        asyncio.run_coroutine_threadsafe(self._record(kind, detail), self._loop)

    async def watch(self, switch: EgressSwitch, interval_s: float = 0.5) -> None:
        """Tell of each change of ``switch``, and of one that is off from the start."""
        known = SwitchState(is_on=True)
        while True:
            state = switch.state()
            if state != known:
                known = state
                log.warning("egress.switch", action="on" if state.is_on else "off")
                said = {} if state.is_on else {"by": state.by, "why": state.why}
                await self._record("egress.switch", {"on": state.is_on, **said})
            await asyncio.sleep(interval_s)

    async def learn(self, local: LocalTier, model: str, interval_s: float = 2.0) -> None:
        """Find out what the local server gives of log-probabilities, once it answers, and tell."""
        while (found := await local.learn()) is None:
            await asyncio.sleep(interval_s)
        told = {
            "logprobs": found.plain.value,
            "with_tools": found.with_tools.value,
            "with_stream": found.with_stream.value,
            "alternatives": found.gives_top,
        }
        say = log.warning if found.problem else log.info
        say("local.probed", local=model, problem=found.problem, **told)
        await self._record("local.probed", {"model": model, **told})

    async def _record(self, kind: str, detail: Detail) -> None:
        try:
            await self._ledger.event(kind, detail)
        except AuditError:
            log.error("event_not_recorded", code=kind)


async def tell_age(calibration: Calibration, interval_s: float = 86_400.0) -> None:
    """Warn of a calibration that is old, or grows old while the proxy runs, once a day."""
    while True:
        if is_old(calibration):
            log.warning("calibration_is_old", code=calibration.id)
        await asyncio.sleep(interval_s)


def record_refusal(open_ledger: Callable[[], Ledger], reason: Rejection) -> None:
    """Put on the record that nothing starts on a policy; for when there is no ledger open yet."""

    async def record() -> None:
        ledger = open_ledger()
        try:
            await ledger.event(Verdict.REJECTED.value, {"reason": reason.value, "at": "start"})
        finally:
            await ledger.close()

    def run() -> None:
        try:
            asyncio.run(record())
        except AuditError:
            log.error("event_not_recorded", code=Verdict.REJECTED.value)

    # A thread, since the loop of a server process may be running already.
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
