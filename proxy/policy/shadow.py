"""What a candidate says beside the policy in force: compared and counted, never obeyed."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.policy.decide import Context, decide
from proxy.policy.diff import is_looser
from proxy.policy.model import Policy
from proxy.types import Action, Decision, Inspection


@dataclass(frozen=True, slots=True)
class Shadow:
    """What the candidate would have said; ``verdict``: same, stricter, looser."""

    digest: str
    action: Action
    verdict: str

    @property
    def differs(self) -> bool:
        """Whether it is anything else than what was decided."""
        return self.verdict != "same"


def shadow_of(
    candidate: Policy, context: Context, inspection: Inspection, decision: Decision
) -> Shadow:
    """What ``candidate`` says to the request of ``decision``.

    Args:
        candidate: the candidate policy.
        context: who asked for what.
        inspection: what was found, by the detectors and by the candidate's own recognizers.
        decision: what was decided.
    """
    said = decide(
        candidate,
        context,
        inspection,
        decision_id=decision.decision_id,
        derived_from=decision.derived_from,
    )
    if is_looser(decision, said):
        verdict = "looser"
    elif said.action is not decision.action or is_looser(said, decision):
        verdict = "stricter"
    else:
        verdict = "same"
    return Shadow(candidate.digest, said.action, verdict)
