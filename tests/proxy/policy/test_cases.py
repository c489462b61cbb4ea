"""Tests beside the rules fail for the right reason, and say which."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from proxy.errors import PolicyError
from proxy.inspection.inline import Inspect
from proxy.inspection.recognizers import NO_RECOGNIZERS, Recognizers
from proxy.policy.cases import (
    context_of,
    coverage_of,
    failing_cases,
    inspection_of,
    run_cases,
)
from proxy.policy.disguises import PLACES
from proxy.policy.language import CallerCase, Case, Expectation, FindingCase
from proxy.types import Action, Inspection, JSONObject, UnscannableReason
from tests.factories import a_finding, an_inspection
from tests.proxy.policy.policies import OPEN, load

PEOPLE = "rules: [{id: r, why: GDPR, when: {entities: [PERSON]}, action: local_only}]\n"
NAME = "findings: [{entity: PERSON, score: 1.0}]"


def a_person(body: JSONObject, recognizers: Recognizers = NO_RECOGNIZERS) -> Inspection:
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


def test_says_which_rules_no_test_shows(tmp_path: Path) -> None:
    rules = "".join(
        f"  - {{id: {name}, why: GDPR, when: {when}, action: local_only}}\n"
        for name, when in (
            ("people", "{entities: [PERSON]}"),
            ("cards", "{entities: [CREDIT_CARD]}"),
            ("english", "{languages: [en]}"),
            ("all", "{always: true}"),
        )
    )
    tests = (
        "tests:\n"
        f"  - {{name: one, {NAME}, languages: [en], expect: {{action: local_only}}}}\n"
        "  - {name: two, findings: [], languages: [en], expect: {action: local_only}}\n"
    )
    policy = load(tmp_path, f"default: allow\nrules:\n{rules}{tests}")
    shown = coverage_of(policy, run_cases(policy, a_person))
    assert shown.rules == ("people", "cards", "english", "all")
    assert shown.never_fires == ("cards",)
    assert shown.never_silent == ("english",)
    assert dict(shown.actions)[Action.LOCAL_ONLY] == 2


def reads(*places: str) -> Inspect:
    """Finds a person in bodies that hold all of these words, as JSON."""

    def inspect(body: JSONObject, recognizers: Recognizers = NO_RECOGNIZERS) -> Inspection:
        found = all(place in json.dumps(body) for place in places)
        return an_inspection(a_finding()) if found else an_inspection()

    return inspect


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (
            "messages: [{system: be kind}, {user: Jane}]",
            ('"system", "content": "be kind"', '"user", "content": "Jane"'),
        ),
        (
            "request: {messages: [], x: {y: [Jane, 3]}}",
            ('{"messages": [], "x": {"y": ["Jane", 3]}}',),
        ),
    ],
)
def test_a_case_may_be_a_conversation_or_a_request(
    tmp_path: Path, case: str, words: tuple[str, ...]
) -> None:
    tests = f"tests: [{{name: it, {case}, expect: {{action: local_only, rule: r}}}}]\n"
    policy = load(tmp_path, "default: allow\n" + PEOPLE + tests)
    assert [result.problem for result in run_cases(policy, reads(*words))] == [""]


def test_a_form_or_place_that_is_decided_looser_fails(tmp_path: Path) -> None:
    tests = (
        "tests: [{name: it, user: Jane, forms: [hex, percent], places: all,"
        " expect: {action: local_only}}]\n"
    )
    policy = load(tmp_path, "default: allow\n" + PEOPLE + tests)
    [result] = run_cases(policy, reads("Jane"))
    assert result.num_variants == 2 * len(PLACES)
    assert result.problem == (
        "expected local_only in every form and place, got hex in user: allow,"
        " percent in user: allow, hex in system: allow and 31 more, of 34"
    )


@pytest.mark.parametrize(
    "case",
    [
        "user: a, findings: []",
        "findings: [], forms: all",
        "user: a, forms: [rot13]",
        "user: a, places: user",
        "messages: [{user: a, tool: b}]",
        "messages: []",
        "messages: [{user: a}], languages: [en]",
        "request: [1]",
    ],
)
def test_refuses_a_case_that_does_not_hold_together(tmp_path: Path, case: str) -> None:
    with pytest.raises(PolicyError):
        problem(tmp_path, f"{case}, expect: {{action: allow}}")
