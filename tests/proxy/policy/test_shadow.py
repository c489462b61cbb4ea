"""A candidate in the shadow: what it would have said, and how that differs."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.policy.decide import decide
from proxy.policy.shadow import shadow_of
from proxy.types import Action
from tests.factories import a_finding, an_inspection
from tests.proxy.policy.policies import OPEN, a_context, load

IN_FORCE = "default: allow\n" + OPEN
RULE = "rules: [{id: r, why: GDPR, when: {entities: [PERSON]}, action: %s}]\n"
ELSEWHERE = "default: allow\n" + OPEN.replace("eu.example", "us.example")


@pytest.mark.parametrize(
    ("old", "new", "action", "verdict"),
    [
        (IN_FORCE, IN_FORCE + "owner_note: x\n", None, "same"),
        (IN_FORCE, IN_FORCE + RULE % "local_only", Action.LOCAL_ONLY, "stricter"),
        (IN_FORCE + RULE % "block", IN_FORCE + RULE % "local_only", Action.LOCAL_ONLY, "looser"),
        (IN_FORCE, ELSEWHERE, Action.ALLOW, "looser"),
        (IN_FORCE, "default: allow\n", Action.ALLOW, "stricter"),
    ],
    ids=["same", "stricter", "looser", "elsewhere", "nowhere"],
)
def test_tells_how_it_differs(
    tmp_path: Path, old: str, new: str, action: Action | None, verdict: str
) -> None:
    force, candidate = load(tmp_path, old), load(tmp_path, new.replace("owner_note: x\n", "# x\n"))
    inspection = an_inspection(a_finding())
    decision = decide(force, a_context(), inspection, decision_id="d")
    shadow = shadow_of(candidate, a_context(), inspection, decision)
    assert (shadow.verdict, shadow.digest) == (verdict, candidate.digest)
    assert shadow.action is (action or decision.action)
    assert shadow.differs == (verdict != "same")


def test_what_stems_from_a_pinned_exchange_is_pinned_in_the_shadow_too(tmp_path: Path) -> None:
    policy = load(tmp_path, IN_FORCE)
    decision = decide(policy, a_context(), an_inspection(), decision_id="d", derived_from="dec")
    shadow = shadow_of(policy, a_context(), an_inspection(), decision)
    assert (shadow.action, shadow.differs) == (Action.LOCAL_ONLY, False)
