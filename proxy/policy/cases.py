"""Runs the tests that stand beside the rules."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

from proxy.inspection.entities import category_of
from proxy.policy.decide import Context, decide
from proxy.policy.language import CallerCase, Case, Expectation
from proxy.policy.model import DEFAULT, Policy
from proxy.types import (
    Action,
    Caller,
    Coverage,
    Finding,
    Inspection,
    JSONObject,
    Origin,
    Role,
    Segment,
    Unscannable,
)

#: Inspects a body the way the proxy does; given by the command.
Inspect = Callable[[JSONObject], Inspection]


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What came of a test: empty ``problem`` means it passed."""

    name: str
    problem: str


def run_cases(policy: Policy, inspect: Inspect) -> tuple[CaseResult, ...]:
    """Run every test of the file in force; an include's tests are run with the include."""
    return tuple(
        CaseResult(case.name, run_case(policy, case, inspect))
        for case in policy.files[0].content.tests
    )


def failing_cases(policy: Policy) -> tuple[str, ...]:
    """Names of the tests that fail, among those with findings as data: no detector runs."""
    return tuple(
        case.name
        for case in policy.files[0].content.tests
        if case.findings is not None and run_case(policy, case, _no_detector)
    )


def _no_detector(_: JSONObject) -> Inspection:
    return inspection_of(Case(name="none", findings=(), expect=Expectation(action=Action.ALLOW)))


def run_case(policy: Policy, case: Case, inspect: Inspect) -> str:
    """What is wrong with the decision for ``case``; empty where nothing is."""
    if case.findings is None:
        inspection = inspect({"messages": [{"role": "user", "content": case.user or ""}]})
    else:
        inspection = inspection_of(case)
    context = context_of(case.caller, case.today)
    decision = decide(policy, context, inspection, decision_id="test")
    expect = case.expect
    decided = {rule.id for rule in decision.rules}
    if decision.action is not expect.action:
        rules = ", ".join(sorted(decided)) or "the default"
        return f"expected {expect.action.value}, got {decision.action.value} by {rules}"
    if expect.rule == DEFAULT and decided:
        return f"expected the default to decide, not {', '.join(sorted(decided))}"
    if expect.rule and expect.rule != DEFAULT and expect.rule not in decided:
        return f"rule {expect.rule} did not decide"
    if expect.destination and expect.destination not in {d.id for d in decision.destinations}:
        return f"destination {expect.destination} is not open to it"
    return ""


def context_of(caller: CallerCase, today: dt.date | None) -> Context:
    """Who asks, and when, in a test."""
    now = dt.datetime.now(dt.UTC)
    if today is not None:
        now = dt.datetime.combine(today, dt.time(12), dt.UTC)
    who = Caller(caller.app, caller.team, caller.environment, caller.key)
    return Context(who, caller.route, caller.model, now)


def inspection_of(case: Case) -> Inspection:
    """The inspection a test with findings as data stands for."""
    given = [finding for finding in case.findings or () for _ in range(finding.count)]
    segments = [
        Segment(index, finding.path, finding.role, Origin.VALUE, text="")
        for index, finding in enumerate(given)
    ]
    findings = tuple(
        Finding(finding.entity, category_of(finding.entity), index, 0, 0, finding.score, "given")
        for index, finding in enumerate(given)
    )
    blobs = [
        Segment(len(given) + index, "messages[0].content", Role.USER, Origin.BLOB, blob=b"")
        for index, _ in enumerate(case.unscannable)
    ]
    unscannable = tuple(
        Unscannable(segment.index, reason)
        for segment, reason in zip(blobs, case.unscannable, strict=True)
    )
    total = len(given) + len(blobs)
    coverage = Coverage(total, len(given), 0, len(blobs))
    languages = tuple(case.languages)
    return Inspection((*segments, *blobs), findings, unscannable, coverage, languages, (), 0.0)
