"""Each rule says why it does or does not hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from proxy.policy.explain import explain
from proxy.types import Inspection, Unscannable, UnscannableReason
from tests.factories import a_finding, an_inspection
from tests.proxy.policy.policies import a_context, load

RULE = "default: allow\nrules:\n  - {{id: r, why: GDPR, when: {when}{scope}, action: block}}\n"
NAME = an_inspection(a_finding(score=0.5))
IMAGE = replace(an_inspection(), unscannable=(Unscannable(0, UnscannableReason.IMAGE),))


@pytest.mark.parametrize(
    ("when", "scope", "inspection", "why"),
    [
        ("{entities: [PERSON]}", ", scope: {apps: [hr]}", NAME, "not for this caller"),
        ("{languages: [de]}", "", NAME, "none of its languages"),
        ("{unscannable: [audio]}", "", IMAGE, "nothing of its kind went uninspected"),
        ("{entities: [VIN]}", "", NAME, "nothing of its kind found"),
        (
            "{entities: [PERSON], min_score: 0.6, roles: [tool]}",
            "",
            NAME,
            "1 x PERSON up to 0.50; asks 1 from 0.60 in tool",
        ),
    ],
)
def test_says_why_a_rule_does_not_hold(
    tmp_path: Path, when: str, scope: str, inspection: Inspection, why: str
) -> None:
    policy = load(tmp_path, RULE.format(when=when, scope=scope))
    said = {entry.rule.id: entry for entry in explain(policy, a_context(), inspection).said}
    assert (said["r"].matched, said["r"].why) == (False, why)


@pytest.mark.parametrize(
    ("when", "why"),
    [("{always: true}", "holds"), ("{languages: [en]}", "holds")],
)
def test_says_that_a_rule_holds(tmp_path: Path, when: str, why: str) -> None:
    policy = load(tmp_path, RULE.format(when=when, scope=""))
    said = {entry.rule.id: entry for entry in explain(policy, a_context(), NAME).said}
    assert said["r"].matched
    assert why in said["r"].why
