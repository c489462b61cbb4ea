"""What changes while the proxy runs goes into the log and on the record: policies, the switch.

It never decides anything: a policy is in force, and a switch is off, whether or not it could be
written down.
"""

from __future__ import annotations

import asyncio

import structlog

from audit.errors import AuditError
from audit.ledger import Ledger
from proxy.policy.reload import Reload, Verdict
from proxy.policy.switch import EgressSwitch, SwitchState

log = structlog.get_logger()


class Notices:
    """Tells log and ledger of one server process; made on its event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._loop = asyncio.get_running_loop()

    def reloaded(self, reload: Reload) -> None:
        """Tell of a new version of the policy, taken or not; safe to call from any thread."""
        detail: dict[str, str | int | float | bool] = {
            "digest": reload.digest,
            "revision": reload.revision,
        }
        if reload.verdict is Verdict.LOADED:
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
        asyncio.run_coroutine_threadsafe(self._record(reload.verdict.value, detail), self._loop)

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

    async def _record(self, kind: str, detail: dict[str, str | int | float | bool]) -> None:
        try:
            await self._ledger.event(kind, detail)
        except AuditError:
            log.error("event_not_recorded", code=kind)
