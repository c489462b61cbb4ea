"""Tests beside the rules fail for the right reason, and say which."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from proxy.policy.cases import (
    context_of,
    failing_cases,
    inspection_of,
    run_cases,
)
from proxy.policy.language import CallerCase, Case, Expectation, FindingCase
from proxy.types import Action, Inspection, JSONObject, UnscannableReason
from tests.factories import a_finding, an_inspection
from tests.proxy.policy.policies import OPEN, load

PEOPLE = "rules: [{id: r, why: GDPR, when: {entities: [PERSON]}, action: local_only}]\n"
NAME = "findings: [{entity: PERSON, score: 1.0}]"


def a_person(_: JSONObject) -> Inspection:
    return an_inspection(a_finding())


def problem(folder: Path, case: str) -> str:
    tests = f"tests:\n  - {{name: it, {case}}}\n"
    policy = load(folder, "default: allow\n" + OPEN + PEOPLE + tests)
    [result] = run_cases(policy, a_person)
    assert result.name == "it"
    return result.problem


@pytest.mark.parametrize(
    ("case", "says"),
    [
        (f"{NAME}, expect: {{action: local_only, rule: r}}", ""),
        ("user: Jane, expect: {action: local_only, rule: r}", ""),
        ("findings: [], expect: {action: allow, rule: default, destination: eu}", ""),
        (f"{NAME}, expect: {{action: block}}", "expected block, got local_only by r"),
        ("findings: [], expect: {action: block}", "expected block, got allow by the default"),
        (
            f"{NAME}, expect: {{action: local_only, rule: default}}",
            "expected the default to decide, not r",
        ),
        (f"{NAME}, expect: {{action: local_only, rule: derived}}", "rule derived did not decide"),
        (
            "findings: [], expect: {action: allow, destination: us}",
            "destination us is not open to it",
        ),
    ],
)
def test_says_what_is_wrong_with_a_decision(tmp_path: Path, case: str, says: str) -> None:
    assert problem(tmp_path, case) == says


def test_names_the_failing_tests_without_a_detector(tmp_path: Path) -> None:
    tests = (
        f"tests:\n  - {{name: fails, {NAME}, expect: {{action: block}}}}\n"
        f"  - {{name: passes, {NAME}, expect: {{action: local_only}}}}\n"
        "  - {name: needs a detector, user: Jane, expect: {action: block}}\n"
    )
    assert failing_cases(load(tmp_path, "default: allow\n" + PEOPLE + tests)) == ("fails",)


def test_a_finding_is_counted_as_often_as_it_says() -> None:
    case = Case(
        name="two",
        findings=(FindingCase(entity="PERSON", score=0.5, count=2),),
        unscannable=(UnscannableReason.IMAGE, UnscannableReason.AUDIO),
        expect=Expectation(action=Action.ALLOW),
    )
    inspection = inspection_of(case)
    assert [finding.segment for finding in inspection.findings] == [0, 1]
    assert [entry.segment for entry in inspection.unscannable] == [2, 3]
    assert [segment.index for segment in inspection.segments] == [0, 1, 2, 3]
    assert inspection.coverage.num_inspected + inspection.coverage.num_unscannable == 4


def test_a_test_plays_on_its_day() -> None:
    context = context_of(CallerCase(app="hr"), date(2030, 2, 3))
    assert context.now.date() == date(2030, 2, 3)
    assert context.now.tzinfo is not None
    assert context.who[0] == "hr"
